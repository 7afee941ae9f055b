"""Pages use the visitor's language if there is a catalogue. The catalogues are complete and compiled."""

from __future__ import annotations

import gettext
import re
import sys
from types import SimpleNamespace

import pytest
from flask import Flask, request
from flask_babel import Babel

from gaetk_longtask.web.language import Language, available
from gaetk_longtask.web.requests import asked_language
from tools import translations

ENGLISH, GERMAN = Language(), Language.best_of(["de"])
CATALOGUES = [pytest.param(path, id=path.parts[-3]) for path in translations.catalogues()]


def messages(catalogue):
    return {message.id: message.string for message in catalogue if message.id}


# Catalogues.


def test_there_are_english_and_german():
    assert set(available()) == {"en", "de"}


@pytest.mark.parametrize("path", CATALOGUES)
def test_a_catalogue_has_exactly_the_messages_of_the_pages(path):
    assert messages(translations.read(path)).keys() == messages(translations.template()).keys(), "nox -s translations"


@pytest.mark.parametrize("path", CATALOGUES)
def test_a_catalogue_translates_everything(path):
    catalogue = translations.read(path)
    forms = catalogue.num_plurals
    for message, translated in messages(catalogue).items():
        strings = translated if isinstance(message, tuple) else (translated,)
        assert len(strings) == (forms if isinstance(message, tuple) else 1)
        assert all(strings), message
    assert not any(message.fuzzy for message in catalogue if message.id)


@pytest.mark.parametrize("path", CATALOGUES)
def test_a_translation_has_the_same_placeholders(path):
    def values(text):
        return sorted(re.findall(r"%\(\w+\)s|%%", text))

    for message, translated in messages(translations.read(path)).items():
        if isinstance(message, tuple):
            assert {*map(tuple, map(values, translated))} == {tuple(values(message[1]))}
        else:
            assert values(translated) == values(message)


@pytest.mark.parametrize("path", CATALOGUES)
def test_the_compiled_catalogue_is_current(path):
    with path.with_suffix(".mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    for message, translated in messages(translations.read(path)).items():
        if isinstance(message, tuple):
            assert [compiled.ngettext(*message, number) for number in (1, 2)] == list(translated), "nox -s translations"
        else:
            assert compiled.gettext(message) == translated, "nox -s translations"


# Choosing a language.


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ([], "en"),
        (["de"], "de"),
        (["de-AT"], "de"),
        (["de_AT"], "de"),
        (["DE-at-1996"], "de"),
        (["fr", "de"], "de"),
        (["fr", "*"], "en"),
        (["fr", "en-GB", "de"], "en"),
        (["", "..", "de/../de"], "en"),
    ],
)
def test_the_first_available_language_wins(wanted, code):
    assert Language.best_of(wanted).code == code


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("de-DE,de;q=0.9,en;q=0.8", "de"),
        ("en,de;q=0.9", "en"),
        ("fr;q=0.9,de;q=0.3", "de"),
        ("de;q=0", "en"),
        ("", "en"),
    ],
)
def test_the_browser_names_the_visitors_languages(header, code):
    app = Flask("tests")
    with app.test_request_context(headers={"Accept-Language": header}):
        assert asked_language(request).code == code


@pytest.mark.parametrize(("locale", "code"), [("de_AT", "de"), ("fr", "en"), (None, "en")])
def test_flask_babel_decides_if_the_application_has_it(locale, code):
    app = Flask("tests")
    Babel(app, locale_selector=lambda: locale)
    with app.test_request_context(headers={"Accept-Language": "de" if code == "en" else "en"}):
        assert asked_language(request).code == code


def test_an_application_without_flask_babel_does_not_need_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "flask_babel", None)
    app = Flask("tests")
    app.extensions["babel"] = SimpleNamespace()  # another extension with the same name
    with app.test_request_context(headers={"Accept-Language": "de"}):
        assert asked_language(request).code == "de"


@pytest.mark.parametrize(("code", "direction"), [("en", "ltr"), ("de", "ltr"), ("he", "rtl"), ("ar-EG", "rtl")])
def test_a_language_has_a_direction(code, direction):
    assert Language(code=code).direction == direction


# Texts.


@pytest.mark.parametrize(
    ("seconds", "english", "german"),
    [
        (0, "0 seconds", "0 Sekunden"),
        (0.6, "1 second", "1 Sekunde"),
        (59.4, "59 seconds", "59 Sekunden"),
        (59.5, "1 minute", "1 Minute"),
        (89, "1 minute", "1 Minute"),
        (90, "2 minutes", "2 Minuten"),
        (5400, "90 minutes", "90 Minuten"),
        (7169, "119 minutes", "119 Minuten"),
        (7170, "2 hours", "2 Stunden"),
        (86_400, "24 hours", "24 Stunden"),
    ],
)
def test_durations_have_their_plurals(seconds, english, german):
    assert ENGLISH.duration(seconds) == english
    assert GERMAN.duration(seconds) == german


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "5 seconds"),
        (7.4, "5 seconds"),
        (7.5, "10 seconds"),
        (42, "40 seconds"),
        (58, "1 minute"),
        (130, "2 minutes"),
        (3569, "59 minutes"),
        (3570, "1 hour"),
        (3660, "1 hour"),
        (4499, "1 hour"),
        (4500, "90 minutes"),
        (6299, "90 minutes"),
        (6300, "2 hours"),
        (7140, "2 hours"),
        (9000, "3 hours"),
    ],
)
def test_an_estimate_does_not_look_exact(seconds, words):
    assert ENGLISH.estimate(seconds) == words


def test_an_untranslated_text_is_shown_unchanged_even_with_a_percent_sign():
    assert GERMAN.gettext("100 % of the report") == "100 % of the report"
