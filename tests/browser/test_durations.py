"""Durations have the same words on the server and in the script."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page

import gaetk_longtask
from gaetk_longtask.web.language import Language

SCRIPT = (Path(gaetk_longtask.__file__).parent / "static" / "longtask.js").read_text(encoding="utf-8")
#: The functions of the script that make words.
FUNCTIONS = SCRIPT[SCRIPT.index("  const round =") : SCRIPT.index("  function watch")]
#: The words for all whole seconds below a limit, one line each. The cache of formats only saves time.
SAID = f"""([lang, limit]) => {{
  const formats = new Map();
  const Intl = {{ NumberFormat: function (lang, options) {{
    if (!formats.has(options.unit)) formats.set(options.unit, new window.Intl.NumberFormat(lang, options));
    return formats.get(options.unit);
  }} }};
  {FUNCTIONS}
  const lines = [];
  for (let seconds = 0; seconds < limit; seconds += 1) {{
    lines.push(`${{duration(seconds, lang)}}, ${{estimate(seconds, lang)}}`);
  }}
  return lines.join("\\n");
}}"""


@pytest.mark.parametrize("lang", ["en", "de"])
def test_server_and_script_say_every_duration_in_the_same_words(page: Page, lang: str) -> None:
    language = Language.best_of([lang])
    said = page.evaluate(SAID, [lang, 200_001]).split("\n")
    assert said == [f"{language.duration(seconds)}, {language.estimate(seconds)}" for seconds in range(200_001)]


def test_server_and_script_round_fractions_alike(page: Page) -> None:
    tenths = [tenth / 10 for tenth in (*range(1_300), *range(35_600, 35_800), *range(44_900, 45_100))]
    program = f"tenths => {{ {FUNCTIONS} return tenths.map(each => duration(each, 'en') + estimate(each, 'en')); }}"
    language = Language()
    assert page.evaluate(program, tenths) == [language.duration(each) + language.estimate(each) for each in tenths]
