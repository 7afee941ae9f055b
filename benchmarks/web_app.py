"""The measured application: our empty tasks, those of RQ and Celery, and views that do only what is necessary."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import grpc
import pymemcache
from celery.result import AsyncResult
from flask import Flask, Response, jsonify, redirect, request
from google.cloud import datastore_v1, ndb, tasks_v2
from google.cloud.datastore_v1.services.datastore.transports import DatastoreGrpcTransport
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport
from rq.job import Job
from werkzeug import Response as WerkzeugResponse

import gaetk_longtask
from benchmarks.empty import empty
from benchmarks.peers import celery_app, rq_queue
from gaetk_longtask import LongRunningTaskHandler, LongTaskManager
from gaetk_longtask.progress.stores import PATIENCE_SECONDS

PROJECT = os.environ["GOOGLE_CLOUD_PROJECT"]

app = Flask("bench")
LongTaskManager(app)


class Empty(LongRunningTaskHandler):
    """An empty task."""

    def execute_task(self, parameters: Any) -> str:
        """Return at once."""
        return "result"


app.add_url_rule("/empty", view_func=Empty.as_view("empty"))


# Views that return the same bytes without any work.

_bodies: dict[str, tuple[bytes, str]] = {}


@app.route("/bare/<name>", methods=["GET", "POST"])
def bare(name: str) -> Response:
    """Store the body of a POST, and return it to each GET."""
    if request.method == "POST":
        _bodies[name] = request.get_data(), request.content_type or ""
    body, kind = _bodies[name]
    return Response(body, content_type=kind)


_memcache = pymemcache.HashClient(
    os.environ["MEMCACHED_HOSTS"].split(),
    connect_timeout=PATIENCE_SECONDS,
    timeout=PATIENCE_SECONDS,
    use_pooling=True,
    max_pool_size=32,
    no_delay=True,
)


@app.get("/floor/<key>")
def floor(key: str) -> Response:
    """Read a snapshot from memcache, and return the stored bytes."""
    assert _memcache.get(key)
    body, kind = _bodies["json"]
    return Response(body, content_type=kind)


# RQ and Celery.

_celery = celery_app()
_queue = rq_queue()


@app.get("/rq/start")
def rq_start() -> Response:
    """Enqueue an empty job."""
    return jsonify(id=_queue.enqueue(empty).id)


@app.get("/rq/status/<job_id>")
def rq_status(job_id: str) -> Response:
    """Return the state and progress of a job."""
    job = Job.fetch(job_id, connection=_queue.connection)
    return jsonify(done=job.is_finished, status=job.get_status(refresh=False), progress=job.meta.get("progress"))


@app.get("/rq/result/<job_id>")
def rq_result(job_id: str) -> str:
    """Return the result of a job."""
    return str(Job.fetch(job_id, connection=_queue.connection).return_value())


@app.get("/celery/start")
def celery_start() -> Response:
    """Enqueue an empty job."""
    return jsonify(id=_celery.send_task("empty").id)


@app.get("/celery/status/<task_id>")
def celery_status(task_id: str) -> Response:
    """Return the state and progress of a job."""
    result = AsyncResult(task_id, app=_celery)
    state = result.state
    return jsonify(done=state == "SUCCESS", status=state, progress=result.info if state == "PROGRESS" else None)


@app.get("/celery/result/<task_id>")
def celery_result(task_id: str) -> str:
    """Return the result of a job."""
    return str(AsyncResult(task_id, app=_celery).get())


# Only the operations that a run can't do without: once as bare RPCs, once with NDB.

_lock = threading.Lock()
_FIELDS = {f"field{number}": "a value as long as most" for number in range(20)}


class Bare:
    """The operations as Datastore RPCs, without NDB."""

    def __init__(self) -> None:
        host = os.environ["DATASTORE_EMULATOR_HOST"]
        self._datastore: Any = DatastoreGrpcTransport(host=host, channel=grpc.insecure_channel(host))

    def put(self, name: str, transaction: bytes = b"") -> None:
        """Write an entity. This is one RPC: Commit."""
        mode = datastore_v1.CommitRequest.Mode
        commit = datastore_v1.CommitRequest(
            project_id=PROJECT,
            mode=mode.TRANSACTIONAL if transaction else mode.NON_TRANSACTIONAL,
            mutations=[datastore_v1.Mutation(upsert=self._entity(name))],
        )
        if transaction:
            commit.transaction = transaction
        self._datastore.commit(commit)

    def change(self, name: str) -> None:
        """Read and write an entity in a transaction: BeginTransaction, Lookup, Commit."""
        begin = datastore_v1.BeginTransactionRequest(project_id=PROJECT)
        transaction = self._datastore.begin_transaction(begin).transaction
        options = datastore_v1.ReadOptions(transaction=transaction)
        keys = [self._entity(name).key]
        self._datastore.lookup(datastore_v1.LookupRequest(project_id=PROJECT, keys=keys, read_options=options))
        self.put(name, transaction)

    def _entity(self, name: str) -> Any:
        entity = datastore_v1.Entity()
        entity.key.partition_id.project_id = PROJECT
        entity.key.path.append(datastore_v1.Key.PathElement(kind="Bare", name=name))
        for field, value in _FIELDS.items():
            entity.properties[field] = datastore_v1.Value(string_value=value)
        return entity


class ByNdb:
    """The same operations with NDB."""

    class Entity(ndb.Expando):
        """An entity of the same size."""

    def __init__(self) -> None:
        self._client = ndb.Client(project=PROJECT)

    def put(self, name: str) -> None:
        """Write an entity."""
        with self._client.context(cache_policy=False):
            self.Entity(id=name, **_FIELDS).put()

    def change(self, name: str) -> None:
        """Read and write an entity in a transaction."""
        with self._client.context(cache_policy=False):
            ndb.transaction(lambda: ndb.Key(self.Entity, name).get().put())


_ways: dict[str, Bare | ByNdb] = {}
_tasks: list[tasks_v2.CloudTasksClient] = []


def _way(name: str) -> Bare | ByNdb:
    with _lock:
        if name not in _ways:
            _ways[name] = Bare() if name == "bare" else ByNdb()
            channel = grpc.insecure_channel(os.environ["CLOUD_TASKS_EMULATOR_HOST"])
            _tasks.append(tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel)))
    return _ways[name]


def _tell(name: str, state: bytes) -> None:
    found, cas = _memcache.gets(name)
    if found is None:
        _memcache.add(name, state, noreply=False)
    else:
        _memcache.cas(name, state, cas, noreply=False)


@app.get("/alone/<way>/start")
def start_alone(way: str) -> WerkzeugResponse:
    """Start: write the entity, and create the Cloud Tasks task."""
    name = os.urandom(16).hex()
    _way(way).put(name)
    _tell(name, b"ready" * 60)
    uri = f"/alone/{way}/execute/{name}"
    target = tasks_v2.AppEngineHttpRequest(http_method=tasks_v2.HttpMethod.GET, relative_uri=uri)
    parent = _tasks[0].queue_path(PROJECT, "local", "default")
    _tasks[0].create_task(parent=parent, task=tasks_v2.Task(app_engine_http_request=target))
    return redirect(f"/alone/{way}/status/{name}", 307)


@app.get("/alone/<way>/execute/<name>")
def execute_alone(way: str, name: str) -> str:
    """Run: claim the task, and finish it."""
    _way(way).change(name)
    _tell(name, b"started" * 40)
    _tell(name, b"started" * 40)
    _way(way).change(name)
    _tell(name, b"done" * 60)
    return "done"


@app.get("/alone/<way>/status/<name>")
def status_alone(way: str, name: str) -> Response:
    """Return the status for a poll."""
    return jsonify(id=name, done=_memcache.get(name)[:4] == b"done")


@app.get("/alone/<way>/result/<name>")
def result_alone(way: str, name: str) -> str:
    """Display the result for the first time."""
    _memcache.get(name)
    _way(way).change(name)
    _tell(name, b"finished" * 40)
    return "result"


# Where the time goes: a timer interrupts every few milliseconds of CPU time, and the stack shows which code is running.

_OWNERS = {
    "google/cloud/ndb/": "NDB",
    "flask/": "Flask and Werkzeug",
    "werkzeug/": "Flask and Werkzeug",
    "jinja2/": "Flask and Werkzeug",
    "blinker/": "Flask and Werkzeug",
    "gunicorn/": "gunicorn",
    "pymemcache/": "pymemcache",
    "grpc/": "gRPC and protobuf",
    "proto/": "gRPC and protobuf",
    "google/": "gRPC and protobuf",
}
_OURS = str(Path(gaetk_longtask.__file__).parent)
_samples: Counter[str] = Counter()


def _owner(frame: FrameType | None) -> str:
    """Return the package of the innermost frame. Frames of the standard library count for their caller.

    While the main thread waits for a response, gRPC's threads are running.
    """
    if frame is not None and frame.f_code.co_name == "wait" and frame.f_code.co_filename == threading.__file__:
        return "gRPC and protobuf"
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(_OURS):
            return "our code"
        _, packaged, inner = path.rpartition("/site-packages/")
        if packaged:
            return next((owner for prefix, owner in _OWNERS.items() if inner.startswith(prefix)), "the rest")
        frame = frame.f_back
    return "the rest"


@app.get("/samples/start")
def start_sampling() -> str:
    """Start sampling the main thread, in which gunicorn's sync worker handles requests."""
    signal.signal(signal.SIGPROF, lambda number, frame: _samples.update([_owner(frame)]))
    _samples.clear()
    signal.setitimer(signal.ITIMER_PROF, 0.002, 0.002)
    return "started"


@app.get("/samples/stop")
def stop_sampling() -> Response:
    """Stop sampling, and return the number of samples for each package."""
    signal.setitimer(signal.ITIMER_PROF, 0)
    return jsonify(pid=os.getpid(), samples=dict(_samples), python=sys.version)
