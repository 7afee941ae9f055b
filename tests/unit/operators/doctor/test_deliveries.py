"""Deliveries in this process: the doctor makes up a URL for every rule of a handler."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.routing import BaseConverter

from gaetk_longtask import LongTaskManager
from gaetk_longtask.operators.doctor import AdminApi, Outcome
from gaetk_longtask.operators.doctor.deliveries import check_deliveries
from gaetk_longtask.operators.doctor.subject import Subject
from tests.support import Work, services_of


class Own(BaseConverter):
    """A converter of the application, which may accept anything."""


@pytest.mark.parametrize(
    ("rule", "reached"),
    [
        ("/r/<name>", True),
        ("/r/<path:name>", True),
        ("/r/<string(length=3):name>", True),
        ("/r/<int(min=7):name>", True),
        ("/r/<float:name>", True),
        ("/r/<uuid:name>", True),
        ("/r/<any(a, b):name>", True),
        ("/ä b/<name>", True),
        ("/r/<own:name>", False),
    ],
)
def test_urls_with_arguments_are_checked_with_sample_values(rule: str, reached: bool) -> None:
    app = Flask("tests")
    LongTaskManager(app)
    app.url_map.converters["own"] = Own
    app.add_url_rule(rule, view_func=Work.as_view("work"))
    subject = Subject(app, services_of(app), directory=Path(), admin=AdminApi(), patience=timedelta(0))
    [found] = check_deliveries(subject)
    assert found.outcome is (Outcome.OK if reached else Outcome.NOT_CHECKED)
