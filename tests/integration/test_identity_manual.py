"""The examples of docs/identity.md identify visitors as the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.exceptions import Forbidden, HTTPException

from gaetk_longtask import LongTaskManager

MANUAL = (Path(__file__).parents[2] / "docs" / "identity.md").read_text(encoding="utf-8")
SESSION, PROXY, ADMIN, DEVELOPER = re.findall(r"^```python\n(.*?)^```$", MANUAL, re.DOTALL | re.MULTILINE)


def example(*blocks: str) -> tuple[Flask, dict[str, Any]]:
    app = Flask("tests")
    app.secret_key = "for tests alone"
    LongTaskManager(app)
    namespace: dict[str, Any] = {"__name__": "example", "app": app}
    exec(compile("\n".join(blocks), "identity.md", "exec"), namespace)
    return app, namespace


def test_a_session_without_a_user_is_refused() -> None:
    from flask import session

    app, names = example(SESSION)
    with app.test_request_context():
        with pytest.raises(Forbidden):
            names["Report"]().get_user_id()
        session["user"] = "anna"
        assert names["Report"]().get_user_id() == "anna"


def test_a_request_without_the_proxys_statement_is_refused() -> None:
    app, names = example(PROXY, ADMIN)
    with app.test_request_context():
        for ask in (names["Report"]().get_user_id, app.config["LONGTASK_ADMIN"]):
            with pytest.raises(HTTPException) as caught:
                ask()
            assert caught.value.get_response().status_code == 403


def test_the_developers_identity_works_only_on_their_own_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    app, names = example(PROXY, DEVELOPER)
    with app.test_request_context():
        assert names["Report"]().get_user_id() == "developer"
        monkeypatch.setenv("GAE_ENV", "standard")
        with pytest.raises(HTTPException):
            names["Report"]().get_user_id()
