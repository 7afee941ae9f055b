"""The sample application's settings."""

from __future__ import annotations

import pytest

from sample_app.main import secret_key


def test_the_secret_key_comes_from_the_environment() -> None:
    assert secret_key({"SECRET_KEY": "drawn by lot", "GAE_ENV": "standard"}) == "drawn by lot"


@pytest.mark.parametrize("environ", [{}, {"GAE_ENV": "localdev"}])
def test_a_development_machine_may_do_without_a_secret_key(environ: dict[str, str]) -> None:
    assert secret_key(environ)


@pytest.mark.parametrize("environ", [{"GAE_ENV": "standard"}, {"GAE_ENV": "standard", "SECRET_KEY": ""}])
def test_app_engine_may_not(environ: dict[str, str]) -> None:
    with pytest.raises(RuntimeError, match="SECRET_KEY is not set"):
        secret_key(environ)
