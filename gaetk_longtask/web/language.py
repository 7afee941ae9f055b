"""The languages of the pages: gettext catalogues, and durations and dates in words.

A language is one file, ``translations/CODE/LC_MESSAGES/gaetk_longtask.po``, and its compiled form.
"""

from __future__ import annotations

import gettext
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from math import floor
from pathlib import Path
from typing import Literal, Self

DOMAIN = "gaetk_longtask"
DIRECTORY = Path(__file__).parents[1] / "translations"
SOURCE = "en"  #: the language that the templates are written in

_RIGHT_TO_LEFT = frozenset({"ar", "ckb", "dv", "fa", "he", "ps", "sd", "ug", "ur", "yi"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Language:
    """One language. A message without a translation stays English."""

    code: str = SOURCE  #: as in HTML's ``lang``, for instance ``pt-BR``
    _catalogue: gettext.NullTranslations = field(default_factory=gettext.NullTranslations, repr=False, compare=False)

    @classmethod
    def best_of(cls, wanted: Iterable[str]) -> Self:
        """Return the first of the languages that is available; ``de_AT`` and ``de-AT`` find ``de``."""
        for code in wanted:
            parts = code.lower().replace("-", "_").split("_")[:3]
            for length in range(len(parts), 0, -1):
                if name := available().get("_".join(parts[:length])):
                    return cls(code=name.replace("_", "-"), _catalogue=_catalogue(name))
        return cls()

    @property
    def direction(self) -> Literal["ltr", "rtl"]:
        """The direction of writing, as in HTML's ``dir``."""
        return "rtl" if self.code.partition("-")[0] in _RIGHT_TO_LEFT else "ltr"

    def gettext(self, message: str, **values: object) -> str:
        """Translate `message`; the values replace ``%(name)s``."""
        translated = self._catalogue.gettext(message) if message else ""  # gettext("") is the catalogue's header
        return translated % values if values else translated

    def ngettext(self, singular: str, plural: str, number: int) -> str:
        """Translate with the plural form for the number, which replaces ``%(number)s``."""
        return self._catalogue.ngettext(singular, plural, number) % {"number": number}

    def number(self, value: float) -> str:
        """Return a number with separators, to three decimal places; `longtask.js` does the same."""
        example = self.gettext("1,234.5")  # shows the separators of the language
        text = f"{value:,}" if isinstance(value, int) else f"{value:,.3f}".rstrip("0").rstrip(".")
        return text.translate({ord(","): example[1], ord("."): example[-2]})

    def duration(self, seconds: float) -> str:
        """Return a duration in words, to about two digits; `longtask.js` does the same."""
        if (whole := floor(seconds + 0.5)) < 60:
            return self.ngettext("%(number)s second", "%(number)s seconds", whole)
        if (minutes := floor(seconds / 60 + 0.5)) < 120:
            return self.ngettext("%(number)s minute", "%(number)s minutes", minutes)
        return self._hours(seconds)

    def _hours(self, seconds: float) -> str:
        return self.ngettext("%(number)s hour", "%(number)s hours", floor(seconds / 3600 + 0.5))

    def span(self, seconds: float) -> str:
        """Return a duration in words; from two days, in days."""
        if seconds < 172_800:
            return self.duration(seconds)
        return self.ngettext("%(number)s day", "%(number)s days", round(seconds / 86_400))

    def date(self, moment: datetime) -> str:
        """Return the date of a moment in words, in UTC."""
        months = (
            self.gettext("January"),
            self.gettext("February"),
            self.gettext("March"),
            self.gettext("April"),
            self.gettext("May"),
            self.gettext("June"),
            self.gettext("July"),
            self.gettext("August"),
            self.gettext("September"),
            self.gettext("October"),
            self.gettext("November"),
            self.gettext("December"),
        )
        values = {"day": moment.day, "month": months[moment.month - 1], "year": moment.year}
        return self.gettext("%(day)s %(month)s %(year)s", **values)

    def estimate(self, seconds: float) -> str:
        """Return an estimated duration in words, rounded so that it does not look exact; `longtask.js` does the same.

        From an hour on, it is 1 hour, 90 minutes, 2 hours, 3 hours and so on.
        """
        if seconds < 60:
            return self.duration(max(5, 5 * floor(seconds / 5 + 0.5)))
        if floor(seconds / 60 + 0.5) < 60:
            return self.duration(seconds)
        return self.duration(5400) if floor(seconds / 1800 + 0.5) == 3 else self._hours(seconds)


@cache
def available() -> dict[str, str]:
    """Return the folder names of the available languages, by the same names in lower case."""
    names = [SOURCE, *(path.parent.parent.name for path in DIRECTORY.glob(f"*/LC_MESSAGES/{DOMAIN}.mo"))]
    return {name.lower(): name for name in names}


@cache
def _catalogue(code: str) -> gettext.NullTranslations:
    return gettext.translation(DOMAIN, DIRECTORY, languages=[code], fallback=True)
