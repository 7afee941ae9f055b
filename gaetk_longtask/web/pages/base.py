"""The contexts of simple pages, and what every page has."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime

from gaetk_longtask.web.languages.language import Language

DEFAULT_TITLE = "Please wait"  #: the title of a handler that sets none; not shown where there is nothing to wait for
LONGEST_TITLE = 120  #: characters of a title
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """The context of every page; `base.html` needs no more."""

    title: str  #: what the page is about
    subject: str = ""  #: the title of the task, else of its handler; empty if neither has one
    language: Language = field(default_factory=Language)  #: the visitor's, with `code` and `direction`

    def gettext(self, message: str, **values: object) -> str:
        """Translate into the visitor's language; the values replace ``%(name)s``."""
        return self.language.gettext(message, **values)


@dataclass(frozen=True, kw_only=True, slots=True)
class ListPage(Page):
    """What pages with several tasks have: words for durations and for how long ago something was."""

    now: datetime

    def span(self, seconds: float) -> str:
        """Return a duration in words."""
        return self.gettext("under a second") if 0 < seconds < 1 else self.language.span(seconds)

    def distance(self, moment: datetime) -> str:
        """Return in words how long ago a moment was, or how far ahead it is."""
        seconds = (self.now - moment).total_seconds()
        if seconds < 0:
            return self.gettext("in %(duration)s", duration=self.span(-seconds))
        return self.gettext("%(duration)s ago", duration=self.span(seconds))


def subject_of(title: object, language: Language, task_title: str | None = None) -> str:
    """Return the title of a task, else its handler's in a language.

    It is empty if the handler has the default, which says what to do, not what the task is.
    """
    text = "" if title is None else str(title)  # Flask-Babel's lazy texts are no `str`
    return task_title or ("" if text == DEFAULT_TITLE else as_title(language.gettext(text)))


def as_title(text: str) -> str:
    """Return a text as one line of at most `LONGEST_TITLE` characters, without control characters."""
    line = _BLANKS.sub(" ", text).strip().encode(errors="replace").decode()
    return line if len(line) <= LONGEST_TITLE else f"{line[: LONGEST_TITLE - 1].rstrip()}…"


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPage(Page):
    """The context of `text.html`: a result that is plain text."""

    text: str
    until: str  #: a sentence that says how long it is kept; may be empty
    download: str  #: the same text as a file
    start: str | None  #: starts an equal task, by GET; None also if the page's URL lacks some of its parameters
    form: str | None  #: where the visitor begins again


@dataclass(frozen=True, kw_only=True, slots=True)
class StartPage(Page):
    """The context of `start.html`: what the button sends, and where to."""

    method: str
    action: str
    fields: list[tuple[str, str]]
    shown: list[tuple[str, str]]  #: those of the fields that may be shown
    hidden: int  #: how many fields are not shown
