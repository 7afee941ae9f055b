"""Updates and compiles the message catalogues: ``python -m tools.translations [CODE ...]``.

For each language CODE without a catalogue (``fr``, ``pt_BR``), it creates one. Translate it, then run this again. It
also writes the template for catalogues of applications, and the formats of numbers and dates, from Babel's CLDR data.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from babel import Locale
from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from jinja2 import Environment, nodes

import gaetk_longtask
from gaetk_longtask import LongRunningTaskHandler
from gaetk_longtask.web.languages.catalogues import DOMAIN
from gaetk_longtask.web.languages.formats import DIRECTORY

PACKAGE = Path(gaetk_longtask.__file__).parent
#: The functions that mark messages for translation, and the positions of the messages in their arguments.
KEYWORDS = {"gettext": None, "ngettext": (1, 2), "_plural": (1, 2), "ProblemError": (2,)}

#: The languages whose formats the library knows: its own, and others that an application may add.
# fmt: off
LANGUAGES = [
    "ar", "bg", "ca", "cs", "da", "de", "el", "en", "es", "et", "fi", "fr", "ga", "he", "hr", "hu", "id", "is",
    "it", "ja", "ko", "lt", "lv", "mt", "nb", "nl", "nn", "pl", "pt", "pt_PT", "ro", "ru", "sk", "sl", "sr", "sv",
    "tr", "uk", "vi", "zh",
]
# fmt: on
#: Our English writes dates as in "24 December 2026".
LOCALES = {"en": "en_GB"}
#: Languages that do not group four digits. CLDR says so, but Babel does not have it.
GROUPED_FROM_FIVE = frozenset({"bg", "es", "et", "hu", "it", "lv", "pl", "pt_PT", "sl"})

#: The header fields that gettext needs. Other fields would change with every run.
HEADER = """\
msgid ""
msgstr ""
"Language: {language}\\n"
"Plural-Forms: {plurals}\\n"
"Content-Type: text/plain; charset=utf-8\\n"

"""


def template() -> Catalog:
    """Return a catalogue of all messages in Python and in templates."""
    catalogue = Catalog(domain=DOMAIN, project="gaetk_longtask", charset="utf-8")
    for message in (LongRunningTaskHandler.title, *_in_python(), *_in_templates()):
        catalogue.add(message, flags=["python-format"] if "%(" in str(message) else [])
    return catalogue


def _in_python() -> Iterator[str | tuple[str, ...]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        with path.open("rb") as file:
            for _, message, _, _ in extract("python", file, keywords=KEYWORDS):
                yield message


def _in_templates() -> Iterator[str | tuple[str, ...]]:
    # Babel's own extraction overlooks method calls such as page.gettext("…").
    for path in sorted(PACKAGE.glob("templates/**/*.html")):
        for call in Environment().parse(path.read_text()).find_all(nodes.Call):
            match call.node:
                case nodes.Getattr(attr="gettext"):
                    yield call.args[0].as_const()
                case nodes.Getattr(attr="ngettext"):
                    yield tuple(argument.as_const() for argument in call.args[:2])


def formats() -> str:
    """Return the formats of all languages, as JSON with a line for each."""
    lines = [f"{json.dumps(code.lower())}: {json.dumps(_formats(code), ensure_ascii=False)}" for code in LANGUAGES]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _formats(code: str) -> dict[str, Any]:
    locale = Locale.parse(LOCALES.get(code, code))
    symbols = locale.number_symbols["latn"]  # the script writes these digits, too
    date = locale.date_formats["long"].pattern
    numbered = "MMMM" not in date  # 2026年12月24日
    values = {"d": "{day}", "dd": "{day}", "M": "{month}", "MMMM": "{month}", "y": "{year}"}
    return {
        "percent": re.sub(r"[#,0]+", "{}", locale.percent_formats[None].pattern).replace("%", symbols["percentSign"]),
        "decimal": symbols["decimal"],
        "group": symbols["group"],
        "grouped_from": 5 if code in GROUPED_FROM_FIVE else 4,
        "date": re.sub(r"'([^']*)'|([a-zA-Z]+)", lambda part: part[1] or values[part[2]], date),
        "months": [str(number) if numbered else name for number, name in locale.months["format"]["wide"].items()],
    }


def read(path: Path) -> Catalog:
    """Return the catalogue in a file."""
    with path.open("rb") as file:
        return read_po(file, domain=DOMAIN, locale=path.parts[-3])


def compiled(catalogue: Catalog) -> bytes:
    """Return the compiled catalogue. The same catalogue always leads to the same bytes."""
    catalogue.creation_date = catalogue.revision_date = datetime(2026, 1, 1, tzinfo=UTC)
    file = io.BytesIO()
    write_mo(file, catalogue)
    return file.getvalue()


def pot(catalogue: Catalog) -> bytes:
    """Return the file from which an application begins a catalogue. It has only the header fields that are needed."""
    file = io.BytesIO()
    file.write(b'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=utf-8\\n"\n\n')
    write_po(file, catalogue, no_location=True, omit_header=True, width=120)
    return file.getvalue()


def catalogues() -> list[Path]:
    """Return the paths of the existing catalogues."""
    return sorted(DIRECTORY.glob(f"*/LC_MESSAGES/{DOMAIN}.po"))


def main(codes: list[str]) -> None:
    """Create the requested catalogues, then update and compile all of them; write the template and the formats."""
    said = template()
    (DIRECTORY / "formats.json").write_text(formats(), encoding="utf-8")
    (DIRECTORY / f"{DOMAIN}.pot").write_bytes(pot(said))
    new = [DIRECTORY / code / "LC_MESSAGES" / f"{DOMAIN}.po" for code in codes]
    for path in {*catalogues(), *new}:
        catalogue = read(path) if path.exists() else Catalog(domain=DOMAIN, locale=path.parts[-3], fuzzy=False)
        catalogue.update(said, no_fuzzy_matching=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(HEADER.format(language=path.parts[-3], plurals=catalogue.plural_forms).encode())
            write_po(file, catalogue, ignore_obsolete=True, no_location=True, omit_header=True, width=120)
        path.with_suffix(".mo").write_bytes(compiled(read(path)))
        missing = sum(not message.string or not any(message.string) for message in catalogue if message.id)
        print(f"{path.parts[-3]}: {len(catalogue)} messages, {missing} without a translation")


if __name__ == "__main__":
    main(sys.argv[1:])
