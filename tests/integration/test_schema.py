"""The JSON Schema of the status document. `tests/conftest.py` checks every document of all tests against it."""

from __future__ import annotations

import copy
import json
import types
from collections.abc import Callable
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

import pytest
from flask import Flask
from jsonschema import Draft202012Validator

from gaetk_longtask import LongRunningTaskHandler
from gaetk_longtask.client import StatusDocument
from tests.status_documents import SCHEMA, trouble_with
from tests.support import JSON, Work, polled, started


@pytest.fixture
def document(app: Flask) -> dict[str, Any]:
    client = app.test_client()
    found: dict[str, Any] = polled(client, started(client))
    return found


def test_the_schema_is_valid_and_served(app: Flask) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    with app.test_client().get("/_longtask/status.schema.json") as answer:
        assert (answer.status_code, answer.mimetype) == (200, "application/schema+json")
        assert answer.get_json(force=True) == SCHEMA


def objects(schema: Any) -> list[dict[str, Any]]:
    """Return every object that a schema describes with all its properties."""
    found = [schema] if "required" in schema else []
    for each in schema.get("properties", {}).values():
        found += objects(each)
    return found


def test_no_object_may_have_other_properties(document: dict[str, Any]) -> None:
    assert len(objects(SCHEMA)) == 5
    assert all(each["additionalProperties"] is False for each in objects(SCHEMA))
    assert trouble_with(document) is None
    for changed in (document | {"new": 1}, document | {"links": document["links"] | {"new": "/"}}):
        assert "new" in str(trouble_with(changed))


@pytest.mark.parametrize("name", SCHEMA["required"])
def test_every_property_is_needed_and_has_a_type(document: dict[str, Any], name: str) -> None:
    wrong = copy.deepcopy(document)
    wrong[name] = [document.pop(name)]
    assert trouble_with(document)
    assert trouble_with(wrong)


@pytest.mark.parametrize(
    "change",
    [{"done": True}, {"poll_after_seconds": None}, {"poll_after_seconds": 0}, {"status": "failed"}, {"id": "x"}],
)
def test_a_document_that_contradicts_itself_is_found(document: dict[str, Any], change: dict[str, Any]) -> None:
    assert trouble_with(document | change)


def test_a_wrong_document_of_any_application_is_noticed(
    make_app: Callable[..., Flask], wrong_documents: list[str]
) -> None:
    app = make_app(Work)

    @app.after_request
    def spoil(response: Any) -> Any:
        response.set_data(json.dumps(response.json | {"id": None}))
        return response

    app.test_client().get("/work", headers=JSON)
    assert len(wrong_documents) == 1
    wrong_documents.clear()


def test_the_result_of_a_task_is_no_status_document(
    make_app: Callable[..., Flask], queue: Any, work: type[LongRunningTaskHandler]
) -> None:
    client = make_app(work).test_client()
    work.do = lambda handler: {"any": "thing"}  # type: ignore[attr-defined]  # as `Work` has it
    url = started(client)
    queue.deliver_all(client)
    assert client.get(url, headers={"Accept": "text/html"}, follow_redirects=True).json == {"any": "thing"}


# The types of the client.

_TYPES = {"string": str, "number": float, "integer": int, "boolean": bool, "null": type(None)}


def agrees(schema: dict[str, Any], hint: Any) -> bool:
    """Return whether a type of the client says the same as the schema."""
    options = set(get_args(hint)) if get_origin(hint) in (Union, types.UnionType) else {hint}
    if "enum" in schema:
        return get_origin(hint) is Literal and list(get_args(hint)) == schema["enum"]
    named = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if "object" not in named:
        return options == {_TYPES[each] for each in named}
    [nested] = options - {type(None)}
    if ("null" in named) != (type(None) in options):
        return False
    if not is_typeddict(nested):
        value = schema["additionalProperties"]
        return get_args(nested)[0] is str and agrees(value, get_args(nested)[1])
    return same(schema, nested)


def same(schema: dict[str, Any], document: Any) -> bool:
    hints = get_type_hints(document, include_extras=True)
    required = [name for name, hint in hints.items() if get_origin(hint) is not NotRequired]
    bare = {name: hint if name in required else get_args(hint)[0] for name, hint in hints.items()}
    return (
        list(hints) == list(schema["properties"])
        and required == schema["required"]
        and all(agrees(schema["properties"][name], hint) for name, hint in bare.items())
    )


def test_the_types_of_the_client_are_those_of_the_schema() -> None:
    assert same(SCHEMA, StatusDocument)
