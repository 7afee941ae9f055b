"""Every request, however malformed, gets an answer of the API, and other tasks are still dispatched.

``FUZZ=full`` sends 10,000 malformed requests instead of 300.
"""

from __future__ import annotations

import functools
import os

import grpc
import pytest
from google.cloud.tasks_v2 import types
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from gaetk_longtask.dev.tasks_emulator import serve
from tests.dev.tasks_support import DEFAULT, PARENT, App, app_engine, connected

FULL = os.environ.get("FUZZ") == "full"
SERVICE = "/google.cloud.tasks.v2.CloudTasks/"
#: A separate location, which the generated requests do not use.
OWN = "projects/own/locations/l"
ANSWERS = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
}

REQUESTS = {
    name: getattr(types, f"{name}Request").pb()
    for name in (
        "ListQueues",
        "GetQueue",
        "CreateQueue",
        "UpdateQueue",
        "DeleteQueue",
        "PurgeQueue",
        "PauseQueue",
        "ResumeQueue",
        "ListTasks",
        "GetTask",
        "CreateTask",
        "DeleteTask",
        "RunTask",
        "BatchCreateTasks",
        "BatchDeleteTasks",
    )
}

QUEUES = (DEFAULT, f"{PARENT}/queues/q", f"{PARENT}/queues/r")
TASKS = tuple(f"{queue}/tasks/{task}" for queue in QUEUES for task in ("t", "u"))
# Almost valid strings reach more code than arbitrary ones. URLs lead only to this machine.
PLAUSIBLE = {
    "parent": (PARENT, *QUEUES),
    "name": (*QUEUES, *TASKS),
    "names": TASKS,
    "url": ("http://127.0.0.1:1/x", "http://[", "http://127.0.0.1:99999/", "https://127.0.0.1:1/%zz", "ftp://h/"),
    "relative_uri": ("", "/", "/work?a=b#c", "no-slash", "//127.0.0.1:1/", "/a b"),
    "paths": ("rate_limits", "retry_config.max_attempts", "http_target.uri_override.host", "*", "state", "a.b"),
    "filter": ("state: PAUSED", "state != RUNNING", "state"),
    "page_token": ("", "cHJvamVjdHM=", "="),
    "key": ("Content-Length", "X-Mine", "x\r\ny: z", "Host", ""),
}
texts = st.one_of(st.sampled_from(["worker", "v1", "/", "x" * 600]), st.text(max_size=30))
small = st.integers(0, 60)
wild = st.one_of(st.sampled_from([-1, 2**31 - 1, -(2**31)]), st.integers(-(2**31), 2**31 - 1))
integers = st.one_of(small, small, small, small, wild)
longs = st.one_of(integers, integers, st.sampled_from([2**63 - 1, -(2**63), 253402300800, 4102444800]))
TOP = 5
REQUIRED = {"name", "parent", "queue", "task"}
SCALARS = {
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=100),
    FieldDescriptor.TYPE_INT32: integers,
    FieldDescriptor.TYPE_ENUM: st.one_of(st.integers(0, 3), st.integers(0, 8), wild),
    FieldDescriptor.TYPE_INT64: longs,
    FieldDescriptor.TYPE_DOUBLE: st.one_of(st.floats(0, 500), st.floats()),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
}


def values(field: FieldDescriptor, depth: int) -> st.SearchStrategy:
    if field.type == FieldDescriptor.TYPE_STRING:
        likely = st.sampled_from(PLAUSIBLE.get(field.name, ("",)))
        value = st.one_of(likely, likely, likely, texts)
    elif field.message_type is None:
        value = SCALARS[field.type]
    elif field.message_type.GetOptions().map_entry:
        key, item = field.message_type.fields
        return st.dictionaries(values(key, depth), values(item, depth), max_size=3)
    else:
        value = contents(field.message_type, depth - 1)
    return st.lists(value, max_size=3) if field.is_repeated else value


@functools.cache
def contents(descriptor: Descriptor, depth: int = TOP) -> st.SearchStrategy[dict]:
    """Generate the fields of a message: a few random ones and all required ones."""
    fields = {field.name: field for field in descriptor.fields if depth > 0 or field.message_type is None}
    if not fields:
        return st.just({})
    required = REQUIRED & fields.keys() if depth == TOP else set()

    def made_up(chosen: set[str]) -> st.SearchStrategy[dict]:
        return st.fixed_dictionaries({name: values(fields[name], depth) for name in sorted(chosen | required)})

    return st.sets(st.sampled_from(sorted(fields)), max_size=3).flatmap(made_up)


def serialized(name: str) -> st.SearchStrategy[bytes]:
    request = REQUESTS[name]
    good = contents(request.DESCRIPTOR).map(lambda fields: request(**fields).SerializeToString())
    torn = st.tuples(good, st.integers(0, 200), st.binary(max_size=5)).map(
        lambda parts: parts[0][: parts[1]] + parts[2]
    )
    return st.one_of(good, good, good, torn, st.binary(max_size=50))


calls = st.sampled_from(sorted(REQUESTS)).flatmap(lambda name: st.tuples(st.just(name), serialized(name)))


@pytest.mark.timeout(900 if FULL else 120)
def test_every_request_gets_an_answer_and_the_next_task_is_dispatched():
    app = App()
    try:
        with (
            serve(app_url=app.url, routes={"own": app.url}) as emulator,
            connected(emulator.host) as client,
            grpc.insecure_channel(emulator.host) as channel,
        ):
            own = client.create_queue(parent=OWN, queue={"name": f"{OWN}/queues/own"}).name
            seen = set()

            @seed(1)
            @settings(
                max_examples=10_000 if FULL else 300,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(call=calls)
            def answered(call: tuple[str, bytes]) -> None:
                name, request = call
                answer = channel.unary_unary(SERVICE + name).future(request, timeout=10)
                code = answer.code()
                assert code in ANSWERS, f"{name} was answered {code}: {answer.details()}"
                seen.add((name, code))
                client.create_task(parent=own, task=app_engine("/own"))
                while app.next().headers["X-AppEngine-QueueName"] != "own":
                    pass

            answered()
            # Otherwise all requests would have been refused because of their format.
            assert len({name for name, code in seen if code is grpc.StatusCode.OK}) >= len(REQUESTS) // 2
    finally:
        app.stop()
