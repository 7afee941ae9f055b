"""The output of ``flask longtask``: JSON documents, texts and tables."""

from __future__ import annotations

import io
import json
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import click

from gaetk_longtask.failures import failures_of, tracebacks
from gaetk_longtask.info import Progress
from gaetk_longtask.models import LongTask
from gaetk_longtask.operators import overview
from gaetk_longtask.operators.open_parts import OpenPart
from gaetk_longtask.operators.overview import Row
from gaetk_longtask.progress.snapshot import Snapshot

_COLOURS = {"ok": "green", "problem": "red", "not checked": "yellow"}
_INDENT = 12 * " "
# Commands stay in one piece, so that they can be copied.
_wrapper = textwrap.TextWrapper(
    100, initial_indent=_INDENT, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False
)
_UNITS = ((86_400, "d"), (3600, "h"), (60, "m"))


def document(row: Row) -> dict[str, Any]:
    """Return the JSON document of a task in a list."""
    progress = row.live.info.progress if row.live else Progress()
    parts = progress.parts.document() if progress.parts else None
    optional = {"facts": dict(progress.facts), "parts": parts, "untold": row.untold}
    return {
        "id": row.id,
        "status": row.status.value,
        "endpoint": row.endpoint,
        "title": row.title,
        "created_at": _iso(row.created_at),
        "created_by": row.created_by,
        "attempts": row.attempts,
        "reason": row.reason,
        "progress": row.live.info.progress.document() if row.live else None,
    } | {name: value for name, value in optional.items() if value}


def details(task: LongTask) -> dict[str, Any]:
    """Return the additional fields of the JSON document of a single task."""
    texts = ("error", "error_reference", "namespace", "queue", "service", "version", "trace")
    moments = ("starts_at", "requested_at", "started_at", "ended_at", "due_at", "expires_at")
    return {
        "url": task.url,
        **{name: getattr(task, name) or None for name in texts},
        **{name: _iso(getattr(task, name)) for name in moments},
        "deliveries": task.deliveries,
        "run_seconds": task.run_seconds,
        "parameters_bytes": overview.size(task, "parameters"),
        "result_bytes": overview.size(task, "result"),
    }


def failures(task: LongTask) -> list[dict[str, Any]]:
    """Return the JSON documents of the attempts that ended badly, the latest first; reads their tracebacks."""
    texts = tracebacks(task)
    documents = []
    for failure in reversed(failures_of(task)):
        facts = asdict(failure) | {"at": _iso(failure.at), "traceback": texts.get(failure.reference)}
        del facts["has_traceback"]
        documents.append(facts)
    return documents


def parts(found: list[OpenPart]) -> list[dict[str, Any]]:
    """Return the JSON documents of the parts that come next in their lanes."""
    return [asdict(part) | {"status": part.status.value, "started_at": _iso(part.started_at)} for part in found]


def print_parts(found: list[OpenPart]) -> None:
    """Print the parts that come next in their lanes."""
    if found:
        click.echo("\nopen parts:")
        print_table(
            ["PART", "LANE", "STATUS", "ATTEMPTS", "REASON"],
            [[part.number, part.lane, part.status, part.attempts, _short(part.reason)] for part in found],
        )


def parts_done(news: Snapshot | None) -> str:
    """Return the number of parts that are done, such as "3 of 8"; empty without parts, or before the split."""
    parts = news.info.progress.parts if news else None
    return f"{parts.done} of {parts.total}" if parts else ""


def _short(reason: str | None) -> str:
    return textwrap.shorten(reason or "", 100, placeholder="…")


def print_failures(documents: list[dict[str, Any]]) -> None:
    """Print the attempts that ended badly. A traceback is printed once if the next ones are the same."""
    before = None
    for document in documents:
        facts = {name: value for name, value in document.items() if value is not None}
        text = facts.pop("traceback", None)
        click.echo(f"\nfailed attempt {facts.pop('number')}:")
        for name, value in facts.items():
            click.echo(f"  {name}: {printable(value)}")
        if text == before and text is not None:
            click.echo("  traceback: as above")
        elif text is not None:
            click.echo(textwrap.indent("\n".join(map(printable, text.splitlines())), "  "))
        before = text


def said(news: Snapshot | None) -> str:
    """Return a task's progress as text."""
    if news is None:
        return ""
    progress = news.info.progress
    return progress.message if progress.percent is None else f"{progress.percent} % {progress.message}"


def particulars(news: Snapshot | None) -> dict[str, str | None]:
    """Return a task's progress, phase and facts as texts by name."""
    progress = news.info.progress if news else Progress()
    phase, facts = progress.phase, progress.facts
    return {
        "progress": said(news),
        "parts": f"{parts_done(news)} done" if progress.parts else None,
        "phase": f"{phase.name} ({phase.number} of {phase.count})" if phase else None,
        "facts": ", ".join(f"{name} {value}" for name, value in facts.items()) or None,
    }


def span(duration: timedelta) -> str:
    """Return a duration in the form that `overview.parse_age` reads."""
    seconds = duration.total_seconds()
    length, unit = next(((length, unit) for length, unit in _UNITS if seconds >= 2 * length), (1, "s"))
    return f"{int(seconds / length)}{unit}"


def printable(value: object) -> str:
    """Return a value as one line without control characters, safe for the terminal."""
    return "".join(character if character.isprintable() else " " for character in str(value))


def print_table(head: list[str], rows: Iterable[list[object]]) -> None:
    """Print rows below a header."""
    table = [head, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


#: The columns that a list only has if a row has a value.
_OPTIONAL = ("PARTS", "TITLE", "USER", "REASON", "NOTE")


def print_rows(rows: list[Row], now: datetime) -> None:
    """Print a list of tasks. Titles, users and reasons are columns if there are any."""
    columns: dict[str, list[object]] = {
        "ID": [row.id for row in rows],
        "STATUS": [row.status for row in rows],
        "ENDPOINT": [row.endpoint for row in rows],
        "AGE": [span(now - row.created_at) for row in rows],
        "ATTEMPTS": [row.attempts for row in rows],
        "PROGRESS": [said(row.live) for row in rows],
        "PARTS": [parts_done(row.live) for row in rows],
        "TITLE": [row.title or "" for row in rows],
        "USER": [row.created_by or "" for row in rows],
        "REASON": [_short(row.reason) for row in rows],
        "NOTE": ["task_ended has not returned yet" if row.untold else "" for row in rows],
    }
    shown = {name: cells for name, cells in columns.items() if name not in _OPTIONAL or any(cells)}
    print_table(list(shown), map(list, zip(*shown.values(), strict=True)))


def print_finding(outcome: str, check: str, *texts: str) -> None:
    """Print the outcome of one of the doctor's checks, then its texts: the finding and the remedy."""
    click.echo(f"{click.style(f'{outcome:<12}', fg=_COLOURS[outcome])}{check}")
    arrow = "→ " if is_shown("→") else "-> "
    for prefix, text in zip(("", arrow), texts, strict=True):
        if text:
            click.echo(_wrapper.fill(prefix + text))


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    click.echo(text if is_shown(text) else json.dumps(value, indent=2))


def accept_any_text() -> None:
    """Let standard output and error replace characters that their encoding lacks by their code, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_shown(text: str) -> bool:
    """Return whether the encoding of standard output has all these characters."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None
