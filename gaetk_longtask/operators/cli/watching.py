"""Follows a task to its end on standard error: with a live bar in a terminal, else with a line for each change."""

from __future__ import annotations

import importlib
import sys
from time import sleep
from typing import Any, Protocol, TextIO

import click

from gaetk_longtask import listing
from gaetk_longtask.healing import heal
from gaetk_longtask.models import LongTask
from gaetk_longtask.operators import cli_output as output
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.runtime import Runtime

#: How long to wait between two checks.
POLL_SECONDS = 1.0


class _View(Protocol):
    """What shows the progress of a task."""

    def show(self, news: Snapshot) -> None:
        """Show the latest news."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class Lines:
    """A line for each change of the message, the percentage or the number of parts that are done."""

    _last = ""

    def show(self, news: Snapshot) -> None:
        """Print a line if anything has changed."""
        done = output.parts_done(news)
        now = output.said(news) + (f" ({done} parts done)" if done else "")
        if now != self._last:
            click.echo(output.printable(now), err=True)
            self._last = now

    def close(self) -> None:
        """Do nothing."""


class Bar:
    """A live bar, drawn by tqdm."""

    def __init__(self, tqdm: Any, file: TextIO) -> None:
        shape = "{desc}: {percentage:3.0f} % |{bar}| {elapsed}{postfix}"
        self._bar = tqdm(total=100, file=file, bar_format=shape, dynamic_ncols=True, leave=True, miniters=0)

    def show(self, news: Snapshot) -> None:
        """Redraw the bar."""
        progress = news.info.progress
        phase = f"{progress.phase.name} – " if progress.phase else ""
        self._bar.set_description_str(output.printable(phase + progress.message), refresh=False)
        facts = [f"{name} {value}" for name, value in progress.facts.items()]
        left = [] if progress.eta_seconds is None else [f"{progress.eta_seconds:.0f} s left"]
        parts = [f"{done} parts done"] if (done := output.parts_done(news)) else []
        self._bar.set_postfix_str(output.printable(", ".join(left + parts + facts)), refresh=False)
        self._bar.n = progress.percent or 0
        self._bar.refresh()

    def close(self) -> None:
        """End the line."""
        self._bar.close()


def follow(runtime: Runtime, task: LongTask) -> LongTask:
    """Show a task's progress until it ends; enqueue it again when it is due, as its page does."""
    view = _view(sys.stderr)
    try:
        while not task.status.ended:
            view.show(listing.latest(runtime, task))
            sleep(POLL_SECONDS)
            task = heal(runtime, runtime.store.get(task.id) or task)
        if isinstance(view, Bar):
            view.show(listing.latest(runtime, task))
    finally:
        view.close()
    return task


def _view(file: TextIO) -> _View:
    if not file.isatty():
        return Lines()
    try:
        tqdm = importlib.import_module("tqdm").tqdm  # of an extra that may be missing
    except ImportError:
        return Lines()
    return Bar(tqdm, file)
