"""All errors share one base class, and have attributes with their data."""

from __future__ import annotations

import inspect
from decimal import Decimal
from typing import Any

import pytest

from gaetk_longtask import LongTaskError, PermanentTaskFailure, TaskCancelled, exceptions


def test_every_error_is_a_long_task_error() -> None:
    classes = [
        cls for _, cls in inspect.getmembers(exceptions, inspect.isclass) if cls.__module__ == exceptions.__name__
    ]
    assert [cls for cls in classes if not issubclass(cls, LongTaskError)] == [exceptions.HandedOver, TaskCancelled]


def test_an_error_that_a_retry_does_not_fix_is_a_permanent_failure() -> None:
    assert issubclass(exceptions.SerializationError, PermanentTaskFailure)
    assert issubclass(exceptions.TooLargeError, PermanentTaskFailure)


@pytest.mark.parametrize(
    ("error", "data"),
    [
        (exceptions.ConfigurationError("Set it.", key="LONGTASK_QUEUE"), {"key": "LONGTASK_QUEUE"}),
        (exceptions.ConfigurationError("Set it."), {"key": None}),
        (
            exceptions.SerializationError("No.", path="result['a']", type_name="uuid.UUID"),
            {"path": "result['a']", "type_name": "uuid.UUID"},
        ),
        (exceptions.TooLargeError("No.", limit=5), {"limit": 5}),
        (exceptions.EnqueueRefusedError("No."), {"task_id": None, "reference": None}),
        (TaskCancelled("The task was cancelled."), {"superseded": False}),
        (TaskCancelled(superseded=True), {"superseded": True}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_has_attributes_with_its_data(error: BaseException, data: dict[str, Any]) -> None:
    assert {name: getattr(error, name) for name in data} == data


def test_the_message_is_the_text() -> None:
    assert str(exceptions.TooLargeError("Too large.", limit=5)) == "Too large."


def test_an_except_exception_around_a_step_does_not_swallow_a_cancellation() -> None:
    assert not issubclass(TaskCancelled, Exception)


@pytest.mark.parametrize(("value", "name"), [({}, "dict"), (None, "NoneType"), (Decimal(1), "decimal.Decimal")])
def test_a_class_is_named_with_its_module(value: object, name: str) -> None:
    assert exceptions.describe_type(value) == name
