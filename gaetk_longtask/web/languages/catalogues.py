"""The gettext catalogues of the library and of an application, which adds languages or replaces texts.

A catalogue is one file, ``CODE/LC_MESSAGES/gaetk_longtask.po``, and its compiled form.
"""

from __future__ import annotations

import gettext
import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.web.languages.formats import DIRECTORY, prefixes

log = logging.getLogger(__name__)

DOMAIN = "gaetk_longtask"
SOURCE = "en"  #: the language that the templates are written in


@dataclass(frozen=True, slots=True)
class Catalogues:
    """Compiled catalogues; of one language, an application's goes before the library's."""

    paths: tuple[Path, ...]

    @classmethod
    def of(cls, folder: Path) -> Catalogues:
        """Return the library's catalogues and those in a folder of the application, which are read at once.

        Raise `ConfigurationError` if one can't be read; log a warning about each that is not compiled.
        """
        for path in sorted(folder.glob(f"*/LC_MESSAGES/{DOMAIN}.po")):
            if not path.with_suffix(".mo").exists():
                message = "%s has no effect, because it is not compiled. Run: pybabel compile -D %s -d %s"
                log.warning(message, path, DOMAIN, folder)
        compiled = _compiled(folder)
        for path in compiled:
            _read(path)
        return cls(compiled + library().paths)

    def names(self) -> dict[str, str]:
        """Return the names of the available languages by their codes, which are in lower case with underscores."""
        return {SOURCE: SOURCE, **{_code(path): path.parts[-3] for path in self.paths}}

    def find(self, name: str) -> gettext.NullTranslations:
        """Return the texts of an available language; the next catalogue has what is missing in one."""
        return _chain(self, name)


@cache
def library() -> Catalogues:
    """Return the library's own catalogues."""
    return Catalogues(_compiled(DIRECTORY))


@cache
def _chain(catalogues: Catalogues, name: str) -> gettext.NullTranslations:
    found = [_read(path) for code in prefixes(name) for path in catalogues.paths if _code(path) == code]
    if not found:
        return gettext.NullTranslations()
    first, *others = found
    for other in others:
        first.add_fallback(other)
    return first


def _compiled(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(folder.glob(f"*/LC_MESSAGES/{DOMAIN}.mo")))


def _code(path: Path) -> str:
    return path.parts[-3].lower().replace("-", "_")


def _read(path: Path) -> gettext.GNUTranslations:
    try:
        with path.open("rb") as file:
            return gettext.GNUTranslations(file)
    except Exception as exc:  # a damaged file makes gettext raise almost anything
        message = f"{path} is not a compiled catalogue ({exc}). Compile its .po file again, or delete it."
        raise ConfigurationError(message) from exc
