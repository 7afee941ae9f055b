"""Measures how many empty tasks a worker process handles per second, and which code uses the CPU time."""

from __future__ import annotations

import os
import time

import grpc
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

from benchmarks.empty import empty
from benchmarks.figures import Row, Table
from benchmarks.peers import celery_app, rq_queue
from benchmarks.stack import PROJECT, Visitor, application, cpu_seconds


def measure(services: dict[str, str], *, quick: bool) -> list[Table]:
    """Return the tables: tasks per second, and CPU time per task."""
    number, repetitions = (30, 1) if quick else (400, 5)
    fewer = number // 4  # for RQ and Celery
    rates: dict[str, list[float]] = {"ours": [], "RQ": [], "Celery": []}
    shares: list[dict[str, float]] = []
    spent: dict[str, list[float]] = {}
    with application(threads=1, with_peers=True) as (port, worker, emulator):
        _start(port, 10)
        _drain(10)
        groups = {"the worker": worker, "Cloud Tasks": emulator, "Datastore": int(services["datastore_pid"])}
        for _ in range(repetitions):
            rates["RQ"].append(_rq(fewer))
            rates["Celery"].append(_celery(fewer))
            _start(port, number)
            _ask(port, "/samples/start")
            before = {name: cpu_seconds(group) for name, group in groups.items()}
            rates["ours"].append(_drain(number))
            for name, group in groups.items():
                spent.setdefault(name, []).append((cpu_seconds(group) - before[name]) / number * 1000)
            samples = Visitor(port).json("/samples/stop")["samples"]
            shares.append({name: 100 * count / sum(samples.values()) for name, count in samples.items()})
    rows = [
        Row(
            name=name,
            values=values,
            beside=("RQ", "Celery") if name == "ours" else (),
            target="≥ 1.2 × RQ" if name == "ours" else "",
        )
        for name, values in rates.items()
    ]
    owners = sorted(shares[0], key=lambda name: -shares[0][name])
    percents = [
        Row(
            name=name,
            values=[share.get(name, 0.0) for share in shares],
            target="< 15" if name == "our code" else "",
        )
        for name in owners
    ]
    processes = [Row(name=name, values=values) for name, values in spent.items()]
    return [
        Table(name="throughput", unit="tasks a second", digits=0, rows=rows),
        Table(name="cpu-processes", unit="ms of CPU time per task", digits=1, rows=processes),
        Table(name="cpu-shares", unit="% of the worker's CPU time", digits=1, rows=percents),
    ]


def _start(port: int, number: int) -> None:
    """Pause the queue and fill it with tasks."""
    client = _client()
    client.pause_queue(name=_queue())
    for _ in range(number):
        _ask(port, "/empty")


def _drain(number: int) -> float:
    """Resume the queue, wait until it is empty, and return the number of tasks per second."""
    client = _client()
    began = time.perf_counter()
    client.resume_queue(name=_queue())
    while client.list_tasks({"parent": _queue(), "page_size": 1}, timeout=20).tasks:
        time.sleep(0.05)
    return number / (time.perf_counter() - began)


def _ask(port: int, path: str) -> None:
    status, _, body = Visitor(port).ask(path)
    assert status < 300, body[:300]


def _queue() -> str:
    return f"projects/{PROJECT}/locations/local/queues/default"


def _client() -> tasks_v2.CloudTasksClient:
    channel = grpc.insecure_channel(os.environ["CLOUD_TASKS_EMULATOR_HOST"])
    return tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))


def _rq(number: int) -> float:
    queue = rq_queue()
    began = time.perf_counter()
    jobs = [queue.enqueue(empty) for _ in range(number)]
    while jobs[-1].get_status() != "finished":
        time.sleep(0.01)
    return number / (time.perf_counter() - began)


def _celery(number: int) -> float:
    app = celery_app()
    began = time.perf_counter()
    results = [app.send_task("empty") for _ in range(number)]
    while not results[-1].ready():
        time.sleep(0.01)
    return number / (time.perf_counter() - began)
