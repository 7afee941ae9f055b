"""What passes the boundary to code that is not ours."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from gaetk_longtask import PermanentTaskFailure, TaskCancelled
from gaetk_longtask.exceptions import Crash, HandedOver
from gaetk_longtask.foreign import logging_failures, must_pass, says_yes, stands_for


class Panic(BaseException):
    pass


def group(*exceptions):
    return BaseExceptionGroup("group", exceptions)


@pytest.mark.parametrize(
    "exc",
    [Panic(), SystemExit(1), GeneratorExit(), asyncio.CancelledError(), ValueError(), StopIteration(), TaskCancelled()],
)
def test_nothing_that_code_raises_ends_the_process(exc):
    assert not must_pass(exc)
    assert not must_pass(group(exc))


@pytest.mark.parametrize("exc", [KeyboardInterrupt(), Crash(), group(ValueError(), Crash()), group(group(Crash()))])
def test_ctrl_c_and_a_simulated_crash_pass(exc):
    assert must_pass(exc)


def test_on_another_thread_ctrl_c_is_an_exception_like_any_other():
    found = []
    thread = threading.Thread(target=lambda: found.append(must_pass(KeyboardInterrupt())))
    thread.start()
    thread.join()
    assert found == [False]


@pytest.mark.parametrize("control", [TaskCancelled("over"), HandedOver()])
@pytest.mark.parametrize(
    "wrap", [lambda c: c, group, lambda c: group(ValueError(), c), lambda c: group(group(Panic(), c))]
)
def test_a_group_with_one_of_our_control_exceptions_counts_as_that_one(control, wrap):
    assert stands_for(wrap(control)) is control


def test_a_group_of_nothing_but_permanent_failures_counts_as_the_first_one():
    first = PermanentTaskFailure("first")
    assert stands_for(group(first, group(PermanentTaskFailure("second")))) is first


@pytest.mark.parametrize("other", [ValueError(), Panic()])
def test_a_group_with_another_exception_counts_as_itself(other):
    mixed = group(PermanentTaskFailure("first"), other)
    assert stands_for(mixed) is mixed


@pytest.mark.parametrize("exc", [ValueError("x"), Panic("x"), SystemExit("x")])
def test_a_failure_is_logged_and_the_block_left(exc, caplog):
    with logging_failures("the receiver %s failed", "mail"):
        raise exc
    assert "the receiver mail failed" in caplog.text


def test_a_simulated_crash_is_not_logged_away():
    with pytest.raises(Crash), logging_failures("failed"):
        raise Crash


class Truthy:
    def __bool__(self) -> bool:
        raise AssertionError("nobody asks for its truth")


async def coroutine() -> bool:
    return True


@pytest.mark.parametrize("answer", [1, 0, "yes", "", [], [1], 1.0, object(), Truthy(), NotImplemented])
def test_anything_else_than_true_means_no_and_is_an_error(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert says_yes(answer, hook="Report.may_access") is False
    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert "Report.may_access must return True or False, not " in record.message
    assert type(answer).__qualname__ in record.message


def test_a_coroutine_means_no(caplog: pytest.LogCaptureFixture) -> None:
    assert says_yes(coroutine(), hook="Report.may_access") is False
    assert "not coroutine" in caplog.text


@pytest.mark.parametrize("answer", [True, False, None])
def test_true_false_and_none_are_answers(answer: bool | None, caplog: pytest.LogCaptureFixture) -> None:
    assert says_yes(answer, hook="Report.may_access") is (answer is True)
    assert not caplog.records
