"""Prints the progress of a task: a bar in a terminal, lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from typing import TextIO

from gaetk_longtask.client.documents import StatusDocument

_BAR_WIDTH = 24


class ProgressBar:
    """Prints the progress of a task: a bar in a terminal, else a line for each change. Pass it to `Task.follow`."""

    def __init__(self, out: TextIO | None = None) -> None:
        """Print to `out`, or else to standard error."""
        self._out = out or sys.stderr
        self._moves = self._out.isatty()
        self._last: object = None

    def __call__(self, document: StatusDocument) -> None:
        """Print the progress in a status document, if it has changed."""
        text = _encodable(progress_text(document, bar_width=_BAR_WIDTH if self._moves else 0), self._out)
        progress = document["progress"]
        # A line of its own for each new estimate would only be noise.
        news = document["status"], progress["percent"], progress["message"], document.get("parts")
        shown = text if self._moves else news
        if shown == self._last:
            return
        self._last = shown
        if self._moves:
            columns = shutil.get_terminal_size().columns - 1
            self._out.write("\r" + _fitted(text, columns) + ("\n" if document["done"] else ""))
        else:
            self._out.write(f"{text}\n")
        self._out.flush()


def progress_text(document: StatusDocument, *, bar_width: int = 0) -> str:
    """Return the progress in a status document as one line. Unknown numbers are left out."""
    progress = document["progress"]
    # A task may succeed without having reported its last step.
    percent = 100 if document["links"]["result"] else progress["percent"]
    parts = []
    if bar_width:
        filled = round(bar_width * (percent or 0) / 100)
        parts.append("#" * filled + "-" * (bar_width - filled))
    parts.append("    -" if percent is None else f"{percent:3.0f} %")
    works = document["status"] == "started"
    phase = progress.get("phase") if works else None
    if phase is not None:
        parts.append(f"{phase['number']}/{phase['count']} {phase['name']}")
    parts.append((works and progress["message"]) or document["error"] or document["status"])
    if works and (counts := document.get("parts")) is not None:
        parts.append(f"({counts['done']} of {counts['total']} parts done)")
    if works and progress["eta_seconds"] is not None:
        parts.append(f"({progress['eta_seconds']:.0f} s left)")
    return "  " + "".join(char if char.isprintable() else " " for char in "  ".join(parts))


def _encodable(text: str, out: TextIO) -> str:
    encoding = getattr(out, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def _fitted(text: str, columns: int) -> str:
    """Return a text that fills so many columns of a terminal. Some letters of East Asian scripts take two."""
    fitted = ""
    for char in text:
        width = 0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        if width > columns:
            break
        fitted, columns = fitted + char, columns - width
    return fitted + " " * columns
