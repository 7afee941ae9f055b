"""The languages of the pages: texts, durations in words, numbers and dates."""

from __future__ import annotations

import gettext
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from math import floor
from pathlib import Path
from typing import Literal, Self

from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.web.languages.catalogues import SOURCE, Catalogues, library
from gaetk_longtask.web.languages.formats import Formats, prefixes

log = logging.getLogger(__name__)

_RIGHT_TO_LEFT = frozenset({"ar", "ckb", "dv", "fa", "he", "ps", "sd", "ug", "ur", "yi"})
_UNTRANSLATED = gettext.NullTranslations()

_Plural = tuple[str, str]  #: a text for one and a text for several, in English


def _plural(singular: str, plural: str) -> _Plural:
    """Mark a text for translation: ``tools/translations.py`` finds the calls."""
    return singular, plural


_SECONDS = _plural("%(number)s second", "%(number)s seconds")
_MINUTES = _plural("%(number)s minute", "%(number)s minutes")
_HOURS = _plural("%(number)s hour", "%(number)s hours")
_DAYS = _plural("%(number)s day", "%(number)s days")

_EXAMPLES = range(200)  #: the numbers among which every plural form of these texts occurs


@dataclass(frozen=True, kw_only=True, slots=True)
class Language:
    """One language. A message without a translation stays English."""

    code: str = SOURCE  #: as in HTML's ``lang``, for instance ``pt-BR``
    _catalogue: gettext.NullTranslations = field(default=_UNTRANSLATED, repr=False, compare=False)

    @classmethod
    def best_of(cls, wanted: Iterable[str], catalogues: Catalogues | None = None) -> Self:
        """Return the first of the languages that is available, else English; ``de_AT`` and ``de-AT`` find ``de``."""
        catalogues = catalogues or library()
        names = catalogues.names()
        for code in wanted:
            for part in prefixes(code):
                if name := names.get(part):
                    return cls(code=name.replace("_", "-"), _catalogue=catalogues.find(name))
        return cls(_catalogue=catalogues.find(SOURCE))

    @property
    def direction(self) -> Literal["ltr", "rtl"]:
        """The direction of writing, as in HTML's ``dir``."""
        return "rtl" if self.code.partition("-")[0] in _RIGHT_TO_LEFT else "ltr"

    @property
    def key(self) -> tuple[str, gettext.NullTranslations]:
        """What tells languages apart, also those whose texts an application has replaced."""
        return self.code, self._catalogue

    # Texts.

    def gettext(self, message: str, **values: object) -> str:
        """Translate `message`; the values replace ``%(name)s``."""
        translated = self._catalogue.gettext(message) if message else ""  # gettext("") is the catalogue's header
        return _filled(translated, message, values) if values else translated

    def ngettext(self, singular: str, plural: str, number: int) -> str:
        """Translate with the plural form for the number, which replaces ``%(number)s``."""
        return self._counted((singular, plural), number, self.number(number))

    def _counted(self, texts: _Plural, number: int, shown: object) -> str:
        translated = self._catalogue.ngettext(*texts, number)
        return _filled(translated, texts[number != 1], {"number": shown})

    # Durations.

    def duration(self, seconds: float) -> str:
        """Return a duration in words, to about two digits; `longtask.js` does the same."""
        if (whole := floor(seconds + 0.5)) < 60:
            return self._counted(_SECONDS, whole, whole)
        if (minutes := floor(seconds / 60 + 0.5)) < 120:
            return self._counted(_MINUTES, minutes, minutes)
        return self._hours(seconds)

    def _hours(self, seconds: float) -> str:
        hours = floor(seconds / 3600 + 0.5)
        return self._counted(_HOURS, hours, hours)

    def span(self, seconds: float) -> str:
        """Return a duration in words; from two days, in days."""
        if seconds < 172_800:
            return self.duration(seconds)
        return self.ngettext(*_DAYS, round(seconds / 86_400))

    def estimate(self, seconds: float) -> str:
        """Return an estimated duration in words, rounded so that it does not look exact; `longtask.js` does the same.

        From an hour on, it is 1 hour, 90 minutes, 2 hours, 3 hours and so on.
        """
        if seconds < 60:
            return self.duration(max(5, 5 * floor(seconds / 5 + 0.5)))
        if floor(seconds / 60 + 0.5) < 60:
            return self.duration(seconds)
        return self.duration(5400) if floor(seconds / 1800 + 0.5) == 3 else self._hours(seconds)

    @property
    def units(self) -> Mapping[str, str]:
        """The texts with which `longtask.js` says a duration.

        Each has its plural forms, and before each form a number that has it: ``1:{} hour|0:{} hours``. So the script
        can ask the browser which form another number has.
        """
        named = {"seconds": _SECONDS, "minutes": _MINUTES, "hours": _HOURS}
        return {name: _forms(self._catalogue, texts) for name, texts in named.items()}

    # Numbers and dates.

    @property
    def formats(self) -> Formats:
        """How the language writes numbers and dates."""
        return _formats(self.code)

    def number(self, value: float) -> str:
        """Return a number with the language's separators, for instance ``1.234,5``."""
        return self.formats.number(value)

    def percent(self, number: object) -> str:
        """Return a percentage, for instance ``42 %``; `longtask.js` gets the text with ``{}`` as the number."""
        return self.formats.percent.replace("{}", str(number))

    def date(self, moment: datetime) -> str:
        """Return the date of a moment in words, in UTC."""
        return self.formats.day(moment)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)  # so that a cache need not compare all catalogues
class Languages:
    """The languages of an application."""

    catalogues: Catalogues = field(default_factory=library)
    only: Language | None = None  #: the one that ``LONGTASK_LANGUAGE`` names

    @classmethod
    def of(cls, folder: Path, code: str | None) -> Self:
        """Return the languages of an application with its own catalogues in `folder`.

        Raise `ConfigurationError` if a catalogue is damaged, or if the language `code` is not available.
        """
        catalogues = Catalogues.of(folder)
        if code is None:
            return cls(catalogues=catalogues)
        names = catalogues.names()
        if not any(part in names for part in prefixes(code)):
            message = (
                f"LONGTASK_LANGUAGE is {code!r}, which is not available. "
                f"Choose one of {', '.join(sorted(names.values()))}, "
                f"or add {code} to {folder} as docs/languages.md shows."
            )
            raise ConfigurationError(message, key="LONGTASK_LANGUAGE")
        return cls(catalogues=catalogues, only=Language.best_of([code], catalogues))

    def best_of(self, wanted: Iterable[str]) -> Language:
        """Return the language of ``LONGTASK_LANGUAGE``, else the first wanted one that is available, else English."""
        return self.only or Language.best_of(wanted, self.catalogues)


def _filled(text: str, source: str, values: Mapping[str, object]) -> str:
    """Replace the placeholders of a text; if an application's translation has others, those of the source text."""
    try:
        return text % values
    except (KeyError, TypeError, ValueError):
        log.error("the translation %r has other placeholders than %r, so the text stays English", text, source)
        return source % values


@lru_cache(maxsize=64)
def _formats(code: str) -> Formats:
    return Formats.of(code)


@lru_cache(maxsize=64)
def _forms(catalogue: gettext.NullTranslations, texts: _Plural) -> str:
    rule = getattr(catalogue, "plural", lambda number: int(number != 1))  # gettext reads it from the header
    forms: dict[tuple[int, str], int] = {}
    for number in _EXAMPLES:
        text = _filled(catalogue.ngettext(*texts, number), texts[number != 1], {"number": "{}"})
        forms.setdefault((rule(number), text), number)
    return "|".join(f"{number}:{text}" for (_, text), number in sorted(forms.items()))
