"""The seven states, and what each of them allows."""

from __future__ import annotations

import pytest

from gaetk_longtask import Status


def those_who(attribute: str) -> set[str]:
    return {status.value for status in Status if getattr(status, attribute)}


def test_the_originals_five_states_and_two_more_exist() -> None:
    assert {status.value for status in Status} == {
        "ready", "started", "error", "done", "finished", "failed", "cancelled",
    }  # fmt: skip


def test_nothing_more_happens_to_what_is_done_failed_or_cancelled() -> None:
    assert those_who("ended") == {"done", "finished", "failed", "cancelled"}


def test_there_is_a_result_once_the_work_is_done() -> None:
    assert those_who("has_result") == {"done", "finished"}


def test_a_retry_is_for_what_failed_or_was_cancelled() -> None:
    assert those_who("may_retry") == {"failed", "cancelled"}


@pytest.mark.parametrize(
    "course",
    [
        ["ready", "started", "done", "finished"],
        ["ready", "started", "error"],
        ["ready", "started", "failed"],
        ["ready", "started", "cancelled"],
    ],
)
def test_each_step_of_a_run_outranks_the_one_before(course: list[str]) -> None:
    ranks = [Status(name).rank for name in course]
    assert ranks == sorted(set(ranks))


def test_every_state_has_a_rank() -> None:
    assert all(isinstance(status.rank, int) for status in Status)
