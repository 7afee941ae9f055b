"""Exceptions and attempts that ended badly, as they are kept."""

from __future__ import annotations

import json
import zlib
from datetime import timedelta
from typing import Any, NoReturn

import pytest
from google.cloud import ndb

from gaetk_longtask import LongTask, PermanentTaskFailure
from gaetk_longtask.failures import (
    LONGEST_MESSAGE,
    MOST_KEPT,
    MOST_REFERENCES,
    TRACEBACK_BYTES,
    Cause,
    Raised,
    failures_of,
    last_failure,
    new_reference,
    record,
    worker,
)
from tests.unit.conftest import ID, NOW


def throw(exc: BaseException) -> NoReturn:
    raise exc


def raised(exc: BaseException) -> Raised:
    try:
        throw(exc)
    except BaseException as caught:  # noqa: BLE001  # any
        return Raised.of(caught)


def a_task(**values: Any) -> LongTask:
    key = ndb.Key(LongTask, ID, project="tests", database="tests", namespace="")
    return LongTask(key=key, started_at=NOW, **values)


def text(kept: Raised) -> str:
    return zlib.decompress(kept.traceback).decode()


# Exceptions.


def test_an_exception_is_kept_with_class_message_place_and_traceback() -> None:
    kept = raised(ZeroDivisionError("division by zero"))
    assert (kept.exception, kept.message) == ("ZeroDivisionError", "division by zero")
    assert kept.place.startswith(f"{__file__}:")
    assert kept.place.endswith(" in throw")
    assert text(kept).startswith("Traceback (most recent call last):\n")
    assert text(kept).endswith("    raise exc\nZeroDivisionError: division by zero\n")


def test_a_class_of_a_module_is_named_with_it() -> None:
    assert raised(PermanentTaskFailure("no")).exception == "gaetk_longtask.exceptions.PermanentTaskFailure"


def test_the_end_of_a_long_traceback_is_kept() -> None:
    def fall(depth: int) -> NoReturn:
        if depth:
            (fall if depth % 2 else rise)(depth - 1)
        raise ZeroDivisionError

    def rise(depth: int) -> NoReturn:  # else Python writes the repeated line once
        fall(depth)

    with pytest.raises(ZeroDivisionError) as caught:
        fall(200)
    kept = text(Raised.of(caught.value))
    assert len(kept.encode()) == TRACEBACK_BYTES
    assert kept.endswith("ZeroDivisionError\n")


def test_a_long_message_is_cut_and_does_not_hide_the_place() -> None:
    kept = raised(ValueError("x" * 100_000))
    assert len(kept.message) == LONGEST_MESSAGE
    assert kept.message.endswith("x…")
    assert kept.place.endswith(" in throw")


def test_a_traceback_that_is_cut_within_a_character_can_be_read() -> None:
    kept = raised(ValueError("€" * 5000))
    assert zlib.decompress(kept.traceback).decode(errors="replace").endswith("€\n")


def test_a_message_with_surrogates_can_be_stored() -> None:
    kept = raised(ValueError("\ud800 odd"))
    assert kept.message == "? odd"
    assert json.dumps(kept.message)


class TextlessError(Exception):
    def __str__(self) -> str:
        raise KeyError


class NotelessError(Exception):
    @property
    def __notes__(self) -> Any:
        raise SystemExit

    @property
    def __cause__(self) -> Any:
        raise SystemExit


@pytest.mark.parametrize("cls", [TextlessError, NotelessError])
def test_an_exception_that_raises_itself_is_kept_all_the_same(cls: type[Exception]) -> None:
    kept = raised(cls())
    assert kept.exception == f"{__name__}.{cls.__name__}"
    assert cls.__name__ in text(kept)
    assert "in throw" in text(kept)


def test_an_exception_that_was_never_raised_has_no_place() -> None:
    assert Raised.of(ValueError("x")).place == ""


# Attempts.


def test_a_failure_knows_when_how_long_why_and_where() -> None:
    task = a_task(failures=1, deliveries=17, worker={"instance": "i", "version": "v", "trace": "t"})
    record(task, NOW + timedelta(seconds=3), Cause.EXCEPTION, reference="a3f09c1e", raised=raised(KeyError("x")))
    [kept] = failures_of(task)
    assert (kept.number, kept.at, kept.seconds) == (1, NOW + timedelta(seconds=3), 3)
    assert (kept.attempt, kept.delivery, kept.reference) == (2, 17, "a3f09c1e")
    assert (kept.cause, kept.exception, kept.message, kept.has_traceback) == ("exception", "KeyError", "'x'", True)
    assert (kept.instance, kept.version, kept.trace) == ("i", "v", "t")
    assert kept.reason == "KeyError: 'x'"
    assert kept.brief == "2:KeyError:a3f09c1e"


def test_a_failure_without_an_attempt_has_none_of_its_details() -> None:
    task = a_task(deliveries=1, worker={"instance": "i"})
    record(task, NOW, Cause.REFUSED)
    [kept] = failures_of(task)
    assert (kept.attempt, kept.delivery, kept.seconds, kept.instance) == (None, None, None, None)
    assert kept.reason == "refused"
    assert kept.brief == f"-:refused:{kept.reference}"


def test_the_last_ten_are_kept_and_all_references_lead_to_the_task() -> None:
    task = a_task()
    for number in range(MOST_REFERENCES + 5):
        record(task, NOW, Cause.DIED, reference=f"{number:08x}")
    assert [each.number for each in failures_of(task)] == list(range(96, 106))
    assert len(failures_of(task)) == MOST_KEPT
    assert task.references == [f"{number:08x}" for number in range(5, 105)]
    assert task.error_reference == "00000068"


def test_a_task_without_failures_has_no_last_one() -> None:
    assert last_failure(a_task()) is None


def test_what_a_later_version_keeps_is_read() -> None:
    task = a_task()
    record(task, NOW, Cause.DIED)
    task.failed_attempts = [task.failed_attempts[0] | {"cause": "eclipse", "moon": "full"}]
    [kept] = failures_of(task)
    assert kept.reason == "eclipse"


def test_a_worker_names_instance_version_and_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GAE_INSTANCE", raising=False)
    monkeypatch.delenv("GAE_VERSION", raising=False)
    assert worker(None) == {}
    monkeypatch.setenv("GAE_INSTANCE", "00c61b117c")
    monkeypatch.setenv("GAE_VERSION", "7")
    assert worker("projects/p/traces/t") == {"instance": "00c61b117c", "version": "7", "trace": "projects/p/traces/t"}


def test_references_are_random_and_short() -> None:
    assert len({new_reference() for _ in range(100)}) == 100
    assert len(new_reference()) == 8
