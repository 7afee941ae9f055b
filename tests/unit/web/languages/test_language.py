"""Pages use the visitor's language if there is a catalogue. The catalogues are complete and compiled."""

from __future__ import annotations

import gettext
import logging
import re
import sys
from collections import Counter
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from babel import Locale
from babel.messages.frontend import CommandLineInterface
from flask import Flask, request
from flask_babel import Babel

from gaetk_longtask import ConfigurationError, LongTaskManager
from gaetk_longtask.web.languages.catalogues import library
from gaetk_longtask.web.languages.formats import Formats
from gaetk_longtask.web.languages.language import Language
from gaetk_longtask.web.requests import asked_language
from tools import translations

ENGLISH, GERMAN = Language(), Language.best_of(["de"])
CHRISTMAS_EVE = datetime(2026, 12, 24, 18, tzinfo=UTC)
CATALOGUES = [pytest.param(path, id=path.parts[-3]) for path in translations.catalogues()]


def rule(catalogue):
    """Return the function from a number to its plural form."""
    return gettext.c2py(catalogue.plural_expr)


def messages(catalogue):
    return {message.id: message.string for message in catalogue if message.id}


# library.


def test_there_are_ten_languages():
    assert set(library().names()) == {"en", "de", "fr", "es", "it", "pt", "nl", "pl", "ja", "ar"}


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

    catalogue = translations.read(path)
    uses = Counter(map(rule(catalogue), range(200)))
    for message, translated in messages(catalogue).items():
        if isinstance(message, tuple):
            for index, text in enumerate(translated):
                single = uses[index] == 1  # a form for a single number may say it in words
                assert values(text) == values(message[1]) or (single and values(text) == [])
        elif translated:
            assert values(translated) == values(message)


@pytest.mark.parametrize("path", CATALOGUES)
def test_the_compiled_catalogue_is_current(path):
    with path.with_suffix(".mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    for message, translated in messages(translations.read(path)).items():
        if isinstance(message, tuple):
            for number in range(200):
                said = compiled.ngettext(*message, number)
                assert said == translated[compiled.plural(number)], "nox -s translations"
        else:
            assert compiled.gettext(message) == (translated or message), "nox -s translations"


@pytest.mark.parametrize("path", CATALOGUES)
def test_a_catalogue_has_the_plural_rule_of_its_language(path):
    ours, babels = rule(translations.read(path)), Locale.parse(path.parts[-3]).plural_form
    pairs = {(ours(number), babels(number)) for number in range(1000)}
    assert len(pairs) == len({form for form, _ in pairs}) == len({category for _, category in pairs})


def test_the_template_for_applications_is_current():
    current = (translations.DIRECTORY / "gaetk_longtask.pot").read_bytes()
    assert current == translations.pot(translations.template()), "nox -s translations"


def test_the_formats_are_those_of_babel():
    current = (translations.DIRECTORY / "formats.json").read_text(encoding="utf-8")
    assert current == translations.formats(), "nox -s translations"


# Choosing a language.


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ([], "en"),
        (["de"], "de"),
        (["de-AT"], "de"),
        (["de_AT"], "de"),
        (["DE-at-1996"], "de"),
        (["pt-BR"], "pt"),
        (["sv", "de"], "de"),
        (["sv", "*"], "en"),
        (["sv", "en-GB", "de"], "en"),
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
        ("sv;q=0.9,de;q=0.3", "de"),
        ("de;q=0", "en"),
        ("", "en"),
    ],
)
def test_the_browser_names_the_visitors_languages(header, code):
    app = Flask("tests")
    with app.test_request_context(headers={"Accept-Language": header}):
        assert asked_language(request).code == code


@pytest.mark.parametrize(("locale", "code"), [("de_AT", "de"), ("sv", "en"), (None, "en")])
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


# Numbers and dates.


@pytest.mark.parametrize(
    ("code", "date", "percent", "number", "thousands"),
    [
        ("en", "24 December 2026", "50%", "12,345.67", "1,234"),
        ("de", "24. Dezember 2026", "50\xa0%", "12.345,67", "1.234"),
        ("fr", "24 décembre 2026", "50\xa0%", "12\u202f345,67", "1\u202f234"),
        ("es", "24 de diciembre de 2026", "50\xa0%", "12.345,67", "1234"),
        ("it", "24 dicembre 2026", "50%", "12.345,67", "1234"),
        ("pt", "24 de dezembro de 2026", "50%", "12.345,67", "1.234"),
        ("pt-PT", "24 de dezembro de 2026", "50%", "12\xa0345,67", "1234"),
        ("nl", "24 december 2026", "50%", "12.345,67", "1.234"),
        ("pl", "24 grudnia 2026", "50%", "12\xa0345,67", "1234"),
        ("ja", "2026年12月24日", "50%", "12,345.67", "1,234"),
        ("ar", "24 ديسمبر 2026", "50\u200e%\u200e", "12,345.67", "1,234"),
        ("tr", "24 Aral\u0131k 2026", "%50", "12.345,67", "1.234"),
        ("xx", "2026-12-24", "50%", "12345.67", "1234"),
    ],
)
def test_a_language_has_its_formats(code, date, percent, number, thousands):
    language = Language(code=code)
    assert language.date(CHRISTMAS_EVE) == date
    assert language.percent(50) == percent
    assert (language.number(12345.67), language.number(1234)) == (number, thousands)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (-0.0001, "0"), (-1234.5, "-1,234.5"), (0.12349, "0.123"), (1e6, "1,000,000"), (999.9999, "1,000")],
)
def test_a_number_has_at_most_three_digits_of_its_fraction(value, text):
    assert ENGLISH.number(value) == text


def test_every_date_of_the_year_can_be_said_in_every_language():
    for code in translations.LANGUAGES:
        dates = {Formats.of(code).day(datetime(2026, month, 1, tzinfo=UTC)) for month in range(1, 13)}
        assert len(dates) == 12
        assert all("{" not in date and "2026" in date for date in dates)


# Texts.


@pytest.mark.parametrize(
    ("code", "numbers", "texts"),
    [
        ("pl", (1, 2, 5, 12, 22), ["1 minuta", "2 minuty", "5 minut", "12 minut", "22 minuty"]),
        ("fr", (0, 1, 2), ["0 minute", "1 minute", "2 minutes"]),
        ("ja", (1, 2), ["1 分", "2 分"]),
        ("ar", (1, 2, 3, 11, 100), ["دقيقة واحدة", "دقيقتان", "3 دقائق", "11 دقيقة", "100 دقيقة"]),
    ],
)
def test_a_language_has_its_plural_forms(code, numbers, texts):
    language = Language.best_of([code])
    assert [language.ngettext("%(number)s minute", "%(number)s minutes", number) for number in numbers] == texts


def test_large_numbers_in_texts_are_grouped():
    assert GERMAN.ngettext("%(number)s byte", "%(number)s bytes", 1234567) == "1.234.567 Bytes"


def test_the_script_gets_each_plural_form_with_a_number_that_has_it():
    assert ENGLISH.units["hours"] == "1:{} hour|0:{} hours"
    assert Language.best_of(["pl"]).units["hours"] == "1:{} godzina|2:{} godziny|0:{} godzin"
    assert Language.best_of(["ja"]).units["hours"] == "0:{} 時間"
    numbers = [form.partition(":")[0] for form in Language.best_of(["ar"]).units["hours"].split("|")]
    assert numbers == ["0", "1", "2", "3", "11", "100"]


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


# The catalogues of an application.


@pytest.fixture
def own(tmp_path):
    """Returns a function that writes a catalogue into the folder of an application."""

    def write(code, texts, *, compiled=True, header=""):
        path = tmp_path / "translations" / code / "LC_MESSAGES" / "gaetk_longtask.po"
        path.parent.mkdir(parents=True)
        header = header or "nplurals=2; plural=(n != 1);"
        entries = [
            'msgid ""',
            'msgstr ""',
            f'"Language: {code}\\n"',
            f'"Plural-Forms: {header}\\n"',
            '"Content-Type: text/plain; charset=utf-8\\n"',
            "",
        ]
        for message, text in texts.items():
            if isinstance(message, tuple):
                entries += [f'msgid "{message[0]}"', f'msgid_plural "{message[1]}"']
                entries += [f'msgstr[{index}] "{form}"' for index, form in enumerate(text)]
            else:
                entries += [f'msgid "{message}"', f'msgstr "{text}"']
            entries.append("")
        path.write_text("\n".join(entries), encoding="utf-8")
        if compiled:
            path.with_suffix(".mo").write_bytes(translations.compiled(translations.read(path)))
        return path

    return write


def language_of(folder, accept, **settings):
    app = Flask("tests", root_path=str(folder))
    app.config.update(settings)
    LongTaskManager(app)
    with app.test_request_context(headers={"Accept-Language": accept}):
        return asked_language(request)


def test_an_application_replaces_texts_and_keeps_the_others(own, tmp_path):
    own("de", {"Cancel": "Stopp", ("%(number)s hour", "%(number)s hours"): ["%(number)s Std.", "%(number)s Std."]})
    language = language_of(tmp_path, "de-AT")
    assert [language.gettext(text) for text in ("Cancel", "Try again")] == ["Stopp", "Noch einmal versuchen"]
    assert [language.duration(seconds) for seconds in (5, 7200)] == ["5 Sekunden", "2 Std."]
    assert language.units["hours"] == "1:{} Std.|0:{} Std."
    assert GERMAN.gettext("Cancel") == "Abbrechen"


def test_an_application_replaces_english_texts(own, tmp_path):
    own("en", {"Cancel": "Stop"})
    assert language_of(tmp_path, "sv").gettext("Cancel") == "Stop"
    assert Language.best_of(["en"]).gettext("Cancel") == "Cancel"


def test_an_application_adds_a_language(own, tmp_path):
    own("sv", {("%(number)s hour", "%(number)s hours"): ["%(number)s timme", "%(number)s timmar"]})
    language = language_of(tmp_path, "sv-FI")
    assert (language.code, language.duration(7200), language.gettext("Cancel")) == ("sv", "2 timmar", "Cancel")
    assert language.date(CHRISTMAS_EVE) == "24 december 2026"
    assert Language.best_of(["sv"]).code == "en"


def test_an_application_adds_a_region_to_a_language_of_ours(own, tmp_path):
    own("de_CH", {"Size of the result": "Grösse des Ergebnisses"})
    swiss = language_of(tmp_path, "de-CH")
    assert (swiss.code, swiss.gettext("Size of the result"), swiss.gettext("Cancel")) == (
        "de-CH",
        "Grösse des Ergebnisses",
        "Abbrechen",
    )
    assert language_of(tmp_path, "de").gettext("Size of the result") == "Größe des Ergebnisses"


def test_a_catalogue_that_is_not_compiled_is_a_warning_that_says_what_to_run(own, tmp_path, caplog):
    path = own("de", {"Cancel": "Stopp"}, compiled=False)
    with caplog.at_level(logging.WARNING):
        assert language_of(tmp_path, "de").gettext("Cancel") == "Abbrechen"
    assert [str(path) in record.getMessage() for record in caplog.records] == [True]
    run = caplog.records[0].getMessage().partition("Run: pybabel ")[2]
    CommandLineInterface().run(["pybabel", *run.split()])
    assert language_of(tmp_path, "de").gettext("Cancel") == "Stopp"


@pytest.mark.parametrize("data", [b"", b"nonsense", b"\xde\x12\x04\x95\0\0\0\0\1\0\0\0\x1c\0\0\0\x24\0\0\0"])
def test_a_damaged_catalogue_is_refused_at_the_start(own, tmp_path, data):
    path = own("de", {"Cancel": "Stopp"}).with_suffix(".mo")
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match=re.escape(f"{path} is not a compiled catalogue")):
        language_of(tmp_path, "de")


def test_a_translation_with_other_placeholders_is_an_error_in_the_log_and_the_text_stays_english(own, tmp_path, caplog):
    own("de", {"Available until %(date)s.": "Bis %(datum)s.", ("%(number)s day", "%(number)s days"): ["%", "%(x)s"]})
    language = language_of(tmp_path, "de")
    assert language.gettext("Available until %(date)s.", date="1. Mai") == "Available until 1. Mai."
    assert language.span(259_200) == "3 days"
    assert ["Bis %(datum)s." in record.getMessage() for record in caplog.records] == [True, False]
    assert language.units["hours"] == "1:{} Stunde|0:{} Stunden"


# The setting.


def test_the_setting_decides_before_the_browser_and_before_flask_babel(tmp_path):
    assert language_of(tmp_path, "en", LONGTASK_LANGUAGE="de").code == "de"
    assert language_of(tmp_path, "en", LONGTASK_LANGUAGE="pt-BR").code == "pt"
    app = Flask("tests")
    app.config["LONGTASK_LANGUAGE"] = "de"
    Babel(app, locale_selector=lambda: "en")
    LongTaskManager(app)
    with app.test_request_context():
        assert asked_language(request).code == "de"


def test_the_setting_may_name_a_language_of_the_application(own, tmp_path):
    own("sv", {"Cancel": "Avbryt"})
    assert language_of(tmp_path, "en", LONGTASK_LANGUAGE="sv").gettext("Cancel") == "Avbryt"


@pytest.mark.parametrize("code", ["sv", "German", "..", "de/../de"])
def test_an_unknown_language_is_refused_with_the_ones_there_are(tmp_path, code):
    with pytest.raises(
        ConfigurationError, match="Choose one of ar, de, en, es, fr, it, ja, nl, pl, pt, or add"
    ) as info:
        language_of(tmp_path, "en", LONGTASK_LANGUAGE=code)
    assert info.value.key == "LONGTASK_LANGUAGE"
