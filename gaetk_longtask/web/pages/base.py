"""The contexts of simple pages, and what every page has."""

from __future__ import annotations

from dataclasses import dataclass, field

from gaetk_longtask.web.language import Language

DEFAULT_TITLE = "Please wait"  #: the title of a handler that sets none; not shown where there is nothing to wait for


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """The context of every page; `base.html` needs no more."""

    title: str  #: what the page is about
    subject: str = ""  #: the handler's title; empty if it has none of its own
    language: Language = field(default_factory=Language)  #: the visitor's, with `code` and `direction`

    def gettext(self, message: str, **values: object) -> str:
        """Translate into the visitor's language; the values replace ``%(name)s``."""
        return self.language.gettext(message, **values)


def subject_of(title: object, language: Language) -> str:
    """Return a handler's title in a language; an empty text for the default, which says what to do, not what it is."""
    text = str(title)  # Flask-Babel's lazy texts are no `str`
    return "" if text == DEFAULT_TITLE else language.gettext(text)


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
