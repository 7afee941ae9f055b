"""The example of the README."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from gaetk_longtask.testing.runner import TaskRunner
from sample_app import counting


def test_it_counts_one_second_after_the_other(longtask: TaskRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(counting, "time", SimpleNamespace(sleep=slept.append))
    assert "Counted 3 seconds." in longtask.run("/count/3").text
    assert slept == [1, 1, 1]


def test_more_than_600_seconds_are_not_found(longtask: TaskRunner) -> None:
    assert longtask.client.get("/count/601").status_code == 404
