"""Measures how many status polls a worker process answers per second: ours, bare views, RQ's and Celery's."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime

from benchmarks.figures import Row, Table, side_by_side
from benchmarks.peers import celery_app, rq_queue
from benchmarks.progress_calls import update_state
from benchmarks.stack import Visitor, application
from gaetk_longtask.info import Progress, TaskInfo
from gaetk_longtask.progress.memcache import MemcacheProgressStore
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.progress.stores import memcache_key
from gaetk_longtask.status import Status
from gaetk_longtask.store import new_token

_JSON, _HTML = "application/json", "text/html"
_THREADS = 4
#: What no poll can do without: Flask, one memcache get, and a response.
_FLOOR = "a view with one memcache get, the same JSON"


def measure(*, quick: bool) -> list[Table]:
    """Return the table."""
    seconds, repetitions = (1, 1) if quick else (2, 4)
    task_id = running_task()
    job = rq_queue().enqueue("benchmarks.empty.empty", meta={"progress": {"step": 25, "total_steps": 100}})
    update_state(celery_app(), "polled", 25, 100)
    with application(threads=_THREADS) as (port, _, _):
        visitor = Visitor(port)
        poll = f"/empty?_longtaskjob=query&_longtaskid={task_id}"
        for name, accept in (("json", _JSON), ("html", _HTML)):
            status, headers, body = visitor.ask(poll, accept=accept)
            assert status == 200
            visitor.ask(f"/bare/{name}", body=body, kind=headers["Content-Type"])

        def rate(path: str, accept: str = _JSON) -> Callable[[], float]:
            return lambda: _requests_per_second(f"http://127.0.0.1:{port}{path}", accept, seconds)

        found = side_by_side(
            repetitions,
            {
                "a bare view, the same JSON": rate("/bare/json"),
                _FLOOR: rate(f"/floor/{memcache_key(task_id)}"),
                "ours, JSON": rate(poll),
                "a bare view, the same HTML": rate("/bare/html"),
                "ours, HTML": rate(poll, _HTML),
                "RQ's status": rate(f"/rq/status/{job.id}"),
                "Celery's status": rate("/celery/status/polled"),
            },
        )
    bare = {kind: f"a bare view, the same {kind}" for kind in ("JSON", "HTML")}
    beside: dict[str, tuple[str, ...]] = dict.fromkeys(found, (bare["JSON"],))
    beside |= {bare["JSON"]: (), bare["HTML"]: (), "ours, JSON": (_FLOOR,), "ours, HTML": (bare["HTML"],)}
    targets = {"ours, JSON": "≥ 0.9", "ours, HTML": "≥ 0.55"}
    rows = [
        Row(name=name, values=values, beside=beside[name], target=targets.get(name, ""))
        for name, values in found.items()
    ]
    return [Table(name="polls", unit="requests a second", digits=0, rows=rows)]


def running_task() -> str:
    """Store a running task's progress in memcache, and return its id. Its heartbeat does not expire."""
    now, task_id = datetime.now(UTC), new_token()
    snapshot = Snapshot(
        info=TaskInfo(
            id=task_id,
            endpoint="empty",
            path="/empty",
            base_url="http://127.0.0.1",
            status=Status.STARTED,
            attempt=1,
            progress=Progress(message="Reading invoices", step=25, total_steps=100, eta_seconds=75),
            created_at=now,
            requested_at=now,
        ),
        fence=1,
        beat_at=now,
        beat_seconds=1e6,
    )
    MemcacheProgressStore(os.environ["MEMCACHED_HOSTS"].split()).write(snapshot)
    return task_id


def _requests_per_second(url: str, accept: str, seconds: float) -> float:
    options = ["-t1", f"-c{_THREADS}", f"-d{seconds}s", "-H", f"Accept: {accept}"]
    found = subprocess.run(["wrk", *options, url], check=True, capture_output=True, text=True)
    assert "Non-2xx" not in found.stdout, found.stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", found.stdout)
    assert rate, found.stdout
    return float(rate[1])
