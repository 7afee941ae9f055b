"""The names of downloads arrive at browsers as the author has written them."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from werkzeug.datastructures import Headers

from gaetk_longtask.web.file_names import encode_file_name

#: What gunicorn sends. It refuses everything else, and PEP 3333 does too.
SENDABLE = re.compile(r"[ \t\x21-\x7e\x80-\xff]*")

NAMES = [
    "Łódź.csv",
    "März 2026.csv",
    "日本.csv",
    "🎉.csv",
    'Müllers "gute" Liste.csv',
    "Müller/Söhne.csv",
    "Müller\\Söhne.csv",
    "Größe; Farbe.csv",
    "100 % Wolle, größer.csv",
    "naïve 'quoted'.csv",
    "Ł" * 200 + ".csv",
]


def name_of(header: str) -> str:
    """Return the file name in a header as browsers read it (RFC 6266): `filename*` before `filename`."""
    found = re.search(r"filename\*=UTF-8''([^;]*)", header)
    assert found is not None
    return unquote(found[1])


def encoded(header: str) -> str:
    headers = Headers([("Content-Disposition", header)])
    encode_file_name(headers)
    [sent] = headers.getlist("Content-Disposition")
    assert SENDABLE.fullmatch(sent)
    return sent


@pytest.mark.parametrize("name", NAMES)
def test_a_name_may_have_any_characters(name: str) -> None:
    headers = Headers()
    headers.set("Content-Disposition", "attachment", filename=name)
    sent = encoded(headers["Content-Disposition"])
    assert sent.startswith("attachment; filename=")
    assert name_of(sent) == name


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("attachment; filename=Łódź.csv", "Łódź.csv"),
        ("attachment; filename=März 2026.csv", "März 2026.csv"),
        ('attachment; filename="Łódź.csv"', "Łódź.csv"),
        ('inline;filename="Łódź.csv"', "Łódź.csv"),
        ("Attachment; FileName=Łódź.csv", "Łódź.csv"),
        ("attachment; filename=Łódź.csv; filename*=UTF-8''%C5%81.csv", "Łódź.csv"),
    ],
)
def test_a_header_may_be_written_by_hand(header: str, name: str) -> None:
    assert name_of(encoded(header)) == name


@pytest.mark.parametrize("name", ["a\x00ń.csv", "a\x1fń.csv", "a\x7fń.csv", "a\tń.csv"])
def test_a_control_character_becomes_a_space(name: str) -> None:
    headers = Headers()
    headers.set("Content-Disposition", "attachment", filename=name)
    assert name_of(encoded(headers["Content-Disposition"])) == "a ń.csv"


def test_what_is_no_text_is_replaced() -> None:
    assert name_of(encoded("attachment; filename=\udcff.csv")) == "?.csv"


def test_an_old_browser_gets_the_letters_without_accents() -> None:
    assert encoded('attachment; filename="Łódź März.csv"') == (
        "attachment; filename=\"odz Marz.csv\"; filename*=UTF-8''%C5%81%C3%B3d%C5%BA%20M%C3%A4rz.csv"
    )


@pytest.mark.parametrize(
    "header",
    [
        "attachment",
        "attachment; filename=squares.csv",
        'attachment; filename="a \\"b\\".csv"',
        "attachment; filename=odz.csv; filename*=UTF-8''%C5%81%C3%B3d%C5%BA.csv",
        "inline",
    ],
)
def test_other_headers_stay_as_they_are(header: str) -> None:
    assert encoded(header) == header


def test_a_response_without_a_name_gets_none() -> None:
    headers = Headers()
    encode_file_name(headers)
    assert not headers
