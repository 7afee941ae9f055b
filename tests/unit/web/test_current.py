"""Finding the manager and the handlers of the current application, and the messages if they are missing."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from flask import Flask
from flask.views import View

from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.web.current import current_runtime, handler_class
from tests.unit.web.conftest import make


def test_without_a_manager_the_message_says_to_create_one() -> None:
    with Flask("tests").app_context(), pytest.raises(ConfigurationError, match=r"LongTaskManager\(app\)"):
        current_runtime()


def test_the_handler_of_a_view_function_is_found() -> None:
    cls = make()
    assert handler_class(cls.as_view("report")) is cls


def test_the_handler_of_a_wrapped_view_function_is_found() -> None:
    cls = make()
    view = cls.as_view("report")
    assert handler_class(functools.wraps(view)(lambda: "wrapped")) is cls


def test_a_view_of_another_class_has_no_handler() -> None:
    assert handler_class(View.as_view("other")) is None


@pytest.mark.parametrize("view", [None, len, Flask("tests")])
def test_anything_else_has_no_handler(view: Any) -> None:
    assert handler_class(view) is None
