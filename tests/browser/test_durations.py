"""Durations have the same words on the server and in the script."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page

import gaetk_longtask
from gaetk_longtask.web.languages.catalogues import library
from gaetk_longtask.web.languages.language import Language

SCRIPT = (Path(gaetk_longtask.__file__).parent / "static" / "longtask.js").read_text(encoding="utf-8")
#: The functions of the script that make words.
FUNCTIONS = SCRIPT[SCRIPT.index("  const fill =") : SCRIPT.index("  function watch")]
#: The words for all whole seconds below a limit, one line each. The cache of formats only saves time.
SAID = f"""([lang, limit, words]) => {{
  const rules = new Map();
  const Intl = {{ PluralRules: function (lang) {{
    if (!rules.has(lang)) rules.set(lang, new window.Intl.PluralRules(lang));
    return rules.get(lang);
  }} }};
  {FUNCTIONS}
  const lines = [];
  for (let seconds = 0; seconds < limit; seconds += 1) {{
    lines.push(`${{duration(seconds, words, lang)}}, ${{estimate(seconds, words, lang)}}`);
  }}
  return lines.join("\\n");
}}"""


@pytest.mark.parametrize("lang", sorted(library().names().values()))
def test_server_and_script_say_every_duration_in_the_same_words(page: Page, lang: str) -> None:
    language = Language.best_of([lang])
    said = page.evaluate(SAID, [lang, 200_001, dict(language.units)]).split("\n")
    assert said == [f"{language.duration(seconds)}, {language.estimate(seconds)}" for seconds in range(200_001)]


def test_server_and_script_round_fractions_alike(page: Page) -> None:
    tenths = [tenth / 10 for tenth in (*range(1_300), *range(35_600, 35_800), *range(44_900, 45_100))]
    program = f"""([tenths, words]) => {{
      {FUNCTIONS}
      return tenths.map(each => duration(each, words, 'en') + estimate(each, words, 'en'));
    }}"""
    language = Language()
    assert page.evaluate(program, [tenths, dict(language.units)]) == [
        language.duration(each) + language.estimate(each) for each in tenths
    ]


@pytest.mark.parametrize("lang", sorted(library().names().values()))
def test_the_browser_writes_numbers_and_percentages_as_the_server_does(page: Page, lang: str) -> None:
    language = Language.best_of([lang])
    numbers = [0, 7, 999, 1234, 9999, 12345, 1234567, 0.5, 1234.567, -5.25]
    program = """([lang, numbers]) => [
      ...numbers.map((each) => new Intl.NumberFormat(lang, { numberingSystem: "latn" }).format(each)),
      new Intl.NumberFormat(lang, { numberingSystem: "latn", style: "percent" }).format(0.42),
    ]"""
    ours = [*(language.number(number) for number in numbers), language.percent(42)]
    marks = dict.fromkeys(map(ord, "\u200e\u200f\u061c"))
    assert [text.translate(marks) for text in page.evaluate(program, [lang, numbers])] == [
        text.translate(marks) for text in ours
    ]
