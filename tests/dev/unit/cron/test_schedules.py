"""When the schedules of a cron.yaml are due."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from gaetk_longtask.dev.cron.schedules import NotUnderstoodError, parse

BERLIN = ZoneInfo("Europe/Berlin")


def due(text: str, after: str, *, zone=UTC, count: int = 1) -> list[str]:
    """Return the next times, as `2026-01-01 10:00`; 2026-01-01 is a Thursday."""
    moment, found = datetime.fromisoformat(after).replace(tzinfo=UTC), []
    for _ in range(count):
        moment = parse(text, zone).next(moment)
        found.append(moment.strftime("%Y-%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("every 1 minutes", ["2026-01-01 10:08", "2026-01-01 10:09"]),
        ("every 5 mins", ["2026-01-01 10:12", "2026-01-01 10:17"]),
        ("every 24 hours", ["2026-01-02 10:07", "2026-01-03 10:07"]),
        ("Every  2 Hours  SYNCHRONIZED", ["2026-01-01 12:00", "2026-01-01 14:00"]),
        ("every 7 hours synchronized", ["2026-01-01 14:00", "2026-01-01 21:00"]),
        ("every 5 minutes from 10:00 to 10:12", ["2026-01-01 10:10", "2026-01-02 10:00"]),
        ("every 2 hours from 22:00 to 03:00", ["2026-01-01 22:00", "2026-01-02 00:00"]),
        ("every day 03:00", ["2026-01-02 03:00", "2026-01-03 03:00"]),
        ("every day 10:07", ["2026-01-02 10:07", "2026-01-03 10:07"]),
        ("every monday 9:00", ["2026-01-05 09:00", "2026-01-12 09:00"]),
        ("every mon, fri 23:30", ["2026-01-02 23:30", "2026-01-05 23:30"]),
    ],
)
def test_a_schedule_is_due(text, expected):
    assert due(text, "2026-01-01 10:07", count=2) == expected


def test_over_midnight_it_is_due_after_midnight_too():
    assert due("every 2 hours from 22:00 to 03:00", "2026-01-01 00:30") == ["2026-01-01 02:00"]


def test_times_are_those_of_the_time_zone():
    assert due("every day 03:00", "2026-01-01 10:00", zone=BERLIN) == ["2026-01-02 02:00"]
    assert due("every day 12:00", "2026-03-28 10:30", zone=BERLIN, count=2) == ["2026-03-28 11:00", "2026-03-29 10:00"]
    assert due("every 6 hours synchronized", "2026-01-01 22:00", zone=BERLIN) == ["2026-01-01 23:00"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "None",
        "every blue moon",
        "every 0 minutes",
        "every 5 seconds",
        "every day 24:00",
        "every day",
        "every someday 10:00",
        "1st,third monday of month 09:00",
        "every 5 minutes from 10:00",
    ],
)
def test_any_other_text_is_not_understood(text):
    with pytest.raises(NotUnderstoodError):
        parse(text, UTC)
