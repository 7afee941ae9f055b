"""What the current application has of ours is found; what it lacks, it is told."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from flask import Flask
from flask.views import View

from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.web.current import handler_class, services_of_current_app
from tests.unit.web.conftest import make


def test_an_application_without_a_manager_is_told_to_get_one() -> None:
    with Flask("tests").app_context(), pytest.raises(ConfigurationError, match=r"LongTaskManager\(app\)"):
        services_of_current_app()


def test_a_view_function_tells_its_handler() -> None:
    cls = make()
    assert handler_class(cls.as_view("report")) is cls


def test_a_view_function_that_is_wrapped_still_does() -> None:
    cls = make()
    view = cls.as_view("report")
    assert handler_class(functools.wraps(view)(lambda: "wrapped")) is cls


def test_a_view_of_another_class_has_no_handler() -> None:
    assert handler_class(View.as_view("other")) is None


@pytest.mark.parametrize("view", [None, len, Flask("tests")])
def test_anything_else_has_no_handler(view: Any) -> None:
    assert handler_class(view) is None
