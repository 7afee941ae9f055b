"""Reads cron.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from gaetk_longtask.dev.cron.schedules import NotUnderstoodError, Schedule, parse


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A job of the file."""

    path: str
    text: str  #: its schedule, as it is written
    schedule: Schedule


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """The jobs of a file that can run, and a sentence about each of the others."""

    jobs: tuple[Job, ...] = ()
    problems: tuple[str, ...] = ()


def read(path: Path, service: str) -> Table:
    """Return the jobs for a service."""
    try:
        document = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError, ValueError) as exc:
        return Table(problems=(f"{path} can't be read: {' '.join(str(exc).split())[:200]}",))
    entries = document.get("cron") if isinstance(document, dict) else document
    if not isinstance(entries, list | None):
        return Table(problems=(f"{path} has no list of jobs below the name cron",))
    jobs, problems = [], []
    for entry in entries or ():
        found = _job(entry, service)
        if isinstance(found, Job):
            jobs.append(found)
        else:
            problems.append(f"left out of {path}: {found}")
    return Table(jobs=tuple(jobs), problems=tuple(problems))


def _job(entry: object, service: str) -> Job | str:
    """Return the job of an entry, or why it is left out."""
    if not isinstance(entry, dict):
        return f"{entry!r:.100} is no job"
    path, text = entry.get("url"), entry.get("schedule")
    if not isinstance(path, str) or not path.startswith("/") or any(char <= " " or char > "~" for char in path):
        return f"{path!r:.100} is not the path of a URL"
    target = entry.get("target")
    if target not in (None, service):
        return f"{path}, which is for the service {target!s:.100}; here is {service}"
    try:
        zone: tzinfo = ZoneInfo(str(entry["timezone"])) if entry.get("timezone") else UTC
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return f"{path}: there is no time zone {entry['timezone']!r:.100}"
    try:
        return Job(path=path, text=str(text), schedule=parse(str(text), zone))
    except NotUnderstoodError:
        return (
            f"{path}: the schedule {text!r:.100} is not understood here; 'every 5 minutes', 'every 2 hours from 10:00"
            " to 14:00', 'every day 03:00' and 'every monday,friday 09:00' are"
        )
