"""The schedules of cron.yaml, such as ``every 5 minutes`` and ``every monday 09:00``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Protocol

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_UNITS = {"minutes": timedelta(minutes=1), "mins": timedelta(minutes=1), "hours": timedelta(hours=1)}
_TIME = r"(?:[01]?\d|2[0-3]):[0-5]\d"
_INTERVAL = re.compile(
    rf"every (?P<number>[1-9]\d{{0,4}}) (?P<unit>minutes|mins|hours)"
    rf"(?: (?P<synchronized>synchronized)| from (?P<start>{_TIME}) to (?P<end>{_TIME}))?"
)
_DAILY = re.compile(rf"every (?P<days>[a-z]+(?:,[a-z]+)*) (?P<time>{_TIME})")


class Schedule(Protocol):
    """When a job is due."""

    def next(self, after: datetime) -> datetime:
        """Return when it is due next, after a time in UTC."""


class NotUnderstoodError(ValueError):
    """The text is no schedule that we know."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Every:
    """Every so many minutes or hours, counted from the last time."""

    interval: timedelta

    def next(self, after: datetime) -> datetime:
        """Return when it is due next."""
        return after + self.interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Within:
    """Every so many minutes or hours of the day, from one time of the day to another."""

    interval: timedelta
    start: time
    end: time
    zone: tzinfo

    def next(self, after: datetime) -> datetime:
        """Return when it is due next."""
        local = after.astimezone(self.zone)
        days = (local.date() + timedelta(days=number) for number in (-1, 0, 1, 2))
        return min(moment for day in days for moment in self._moments(day.isoformat()) if moment > after)

    def _moments(self, day: str) -> list[datetime]:
        first = datetime.fromisoformat(day).replace(tzinfo=self.zone)
        begin, last = (first.replace(hour=each.hour, minute=each.minute) for each in (self.start, self.end))
        if last < begin:  # over midnight
            last += timedelta(days=1)
        count = (last - begin) // self.interval
        return [(begin + number * self.interval).astimezone(UTC) for number in range(count + 1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Daily:
    """At a time of the day, on some days of the week."""

    days: frozenset[int]  #: Monday is 0
    at: time
    zone: tzinfo

    def next(self, after: datetime) -> datetime:
        """Return when it is due next."""
        day = after.astimezone(self.zone).replace(hour=self.at.hour, minute=self.at.minute, second=0, microsecond=0)
        while day.weekday() not in self.days or day <= after:
            day += timedelta(days=1)
        return day.astimezone(UTC)


def parse(text: str, zone: tzinfo) -> Schedule:
    """Return the schedule; raise `NotUnderstoodError` if the text is none that we know."""
    words = " ".join(text.lower().replace(", ", ",").split())
    if match := _INTERVAL.fullmatch(words):
        interval = int(match["number"]) * _UNITS[match["unit"]]
        if match["start"]:
            return Within(interval=interval, start=_time(match["start"]), end=_time(match["end"]), zone=zone)
        if match["synchronized"]:
            return Within(interval=interval, start=time(0, 0), end=time(23, 59), zone=zone)
        return Every(interval=interval)
    if match := _DAILY.fullmatch(words):
        days = frozenset().union(*map(_days, match["days"].split(",")))
        return Daily(days=days, at=_time(match["time"]), zone=zone)
    raise NotUnderstoodError(text)


def _time(text: str) -> time:
    hour, _, minute = text.partition(":")
    return time(int(hour), int(minute))


def _days(word: str) -> set[int]:
    if word == "day":
        return set(range(7))
    found = {number for number, day in enumerate(_DAYS) if word in (day, day[:3])}
    if not found:
        raise NotUnderstoodError(word)
    return found
