"""The languages that pages speak: gettext catalogues, and durations in words.

A language is one file, ``translations/CODE/LC_MESSAGES/gaetk_longtask.po``, and what is compiled of it.
"""

from __future__ import annotations

import gettext
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from math import floor
from pathlib import Path
from typing import Literal, Self

DOMAIN = "gaetk_longtask"
DIRECTORY = Path(__file__).parents[1] / "translations"
#: The language that the templates are written in.
SOURCE = "en"

_RIGHT_TO_LEFT = frozenset({"ar", "ckb", "dv", "fa", "he", "ps", "sd", "ug", "ur", "yi"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Language:
    """One language, and all that is said in it. What has no translation is said in English."""

    code: str = SOURCE  #: as in HTML's ``lang``, for instance ``pt-BR``
    _catalogue: gettext.NullTranslations = field(default_factory=gettext.NullTranslations, repr=False, compare=False)

    @classmethod
    def best_of(cls, wanted: Iterable[str]) -> Self:
        """Give the first of the languages that there is; ``de_AT`` and ``de-AT`` find ``de``."""
        for code in wanted:
            parts = code.lower().replace("-", "_").split("_")[:3]
            for length in range(len(parts), 0, -1):
                if name := available().get("_".join(parts[:length])):
                    return cls(code=name.replace("_", "-"), _catalogue=_catalogue(name))
        return cls()

    @property
    def direction(self) -> Literal["ltr", "rtl"]:
        """As in HTML's ``dir``."""
        return "rtl" if self.code.partition("-")[0] in _RIGHT_TO_LEFT else "ltr"

    def gettext(self, message: str, **values: object) -> str:
        """Translate `message`, and put the values in where it says ``%(name)s``."""
        translated = self._catalogue.gettext(message) if message else ""  # "" stands for a catalogue's header
        return translated % values if values else translated

    def ngettext(self, singular: str, plural: str, number: int) -> str:
        """Translate with the plural that belongs to the number, and put it in where the message says ``%(number)s``."""
        return self._catalogue.ngettext(singular, plural, number) % {"number": number}

    def duration(self, seconds: float) -> str:
        """Put a duration into words, to two digits or so; `longtask.js` says the same."""
        if (whole := floor(seconds + 0.5)) < 60:
            return self.ngettext("%(number)s second", "%(number)s seconds", whole)
        if (minutes := floor(seconds / 60 + 0.5)) < 120:
            return self.ngettext("%(number)s minute", "%(number)s minutes", minutes)
        return self.ngettext("%(number)s hour", "%(number)s hours", floor(seconds / 3600 + 0.5))

    def estimate(self, seconds: float) -> str:
        """Put a duration into words that is not known to the second, so that it does not seem to be."""
        return self.duration(max(5, 5 * floor(seconds / 5 + 0.5)) if seconds < 60 else seconds)


@cache
def available() -> dict[str, str]:
    """Give the folders' names of the languages that there are, by the same in lower case."""
    names = [SOURCE, *(path.parent.parent.name for path in DIRECTORY.glob(f"*/LC_MESSAGES/{DOMAIN}.mo"))]
    return {name.lower(): name for name in names}


@cache
def _catalogue(code: str) -> gettext.NullTranslations:
    return gettext.translation(DOMAIN, DIRECTORY, languages=[code], fallback=True)
