"""The commands of ``flask longtask``."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import grpc
import pytest
from flask import Flask
from google.cloud import ndb

from gaetk_longtask import LongRunningTaskHandler, LongTask, PermanentTaskFailure, Status
from gaetk_longtask.dev.pieces import Piece
from gaetk_longtask.exceptions import EnqueueRefusedError, EnqueueUncertainError
from gaetk_longtask.info import Progress
from gaetk_longtask.limits import READY_PATIENCE
from gaetk_longtask.operators import cli
from gaetk_longtask.operators.cli import watching
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.testing import InMemoryProgressStore, InMemoryQueue, ManualClock, put_between
from tests.integration.conftest import Invoke, Stock
from tests.support import Work, load, start


class Report(LongRunningTaskHandler):
    seen: Any = None

    def execute_task(self, parameters: Any) -> str:
        type(self).seen = parameters
        if parameters == {"fails": True}:
            message = "there is no such month"
            raise PermanentTaskFailure(message)
        return "result"


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    app = make_app(Report)
    app.add_url_rule("/item/<int:number>/<name>", view_func=Report.as_view("item"))
    return app


@pytest.fixture
def ask(invoke: Invoke) -> Callable[..., Any]:
    """Call a command that succeeds, and return its JSON."""

    def ask(*arguments: str, **more: Any) -> Any:
        result = invoke(*arguments, "--json", **more)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return ask


def started(app: Flask, parameters: Any = None) -> LongTask:
    return start(app, "report", parameters or {})


# list


def test_list_is_a_table(invoke: Invoke, stock: Stock) -> None:
    stock(id="a" * 22, status=Status.FAILED, failures=5, age=timedelta(hours=30))
    stock(id="b" * 22, endpoint="quarterly.report", age=timedelta(minutes=3))
    assert invoke("list").stdout == (
        "ID                      STATUS  ENDPOINT          AGE  ATTEMPTS  PROGRESS\n"
        "bbbbbbbbbbbbbbbbbbbbbb  ready   quarterly.report  3m   1\n"
        "aaaaaaaaaaaaaaaaaaaaaa  failed  report            30h  5\n"
    )


def test_list_shows_progress_in_one_line_without_control_characters(
    app: Flask, invoke: Invoke, ask: Callable[..., Any], progress: InMemoryProgressStore, clock: ManualClock
) -> None:
    task = started(app)
    said = Progress(message="Read\ning \x1b[31m\x9b", step=1, total_steps=4)
    progress.write(Snapshot.of(task, now=clock(), beat_seconds=1).beating(said, clock()))
    assert invoke("list").stdout.splitlines()[1].endswith("1         25 % Read ing  [31m")
    [row] = ask("list")["tasks"]
    assert row == {
        "id": task.id,
        "status": "ready",
        "endpoint": "report",
        "title": None,
        "created_at": "2026-01-01T00:00:00+00:00",
        "created_by": None,
        "attempts": 1,
        "reason": None,
        "progress": {
            "message": said.message,
            "step": 1,
            "total_steps": 4,
            "percent": 25,
            "eta_seconds": None,
        },
    }


def test_list_filters(ask: Callable[..., Any], stock: Stock) -> None:
    stock(id="a", status=Status.FAILED, age=timedelta(hours=2))
    stock(id="b", status=Status.FAILED, age=timedelta(minutes=5), created_by="anna")
    stock(id="c", endpoint="other", status=Status.FAILED)
    stock(id="d")
    stock(id="e", status=Status.FAILED, age=timedelta(minutes=5), created_by="otto")
    filters = [
        "--created-by",
        "anna",
        "--status",
        "failed",
        "--endpoint",
        "report",
        "--older-than",
        "90s",
        "--younger-than",
        "1h",
    ]
    assert [row["id"] for row in ask("list", *filters)["tasks"]] == ["b"]


def test_list_continues_from_its_cursor(invoke: Invoke, ask: Callable[..., Any], stock: Stock) -> None:
    stock.many(5)
    first = ask("list", "--limit", "3")
    second = ask("list", "--limit", "3", "--cursor", first["cursor"])
    assert (len(first["tasks"]), len(second["tasks"]), second["cursor"]) == (3, 2, None)
    assert "To continue, add --cursor " in invoke("list", "--limit", "3").stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--cursor", "x"], "The cursor is invalid."),
        (["--cursor", ""], "The cursor is invalid."),
        (["--older-than", "soon"], "like 10m"),
        (["--status", "broken"], "'broken' is not one of"),
        (["--limit", "0"], "not in the range"),
        (["--endpoint", "x" * 1501], "1500 bytes"),
    ],
)
def test_list_refuses_what_it_does_not_understand(invoke: Invoke, arguments: list[str], why: str) -> None:
    result = invoke("list", *arguments)
    assert result.exit_code == 2
    assert why in result.stderr


def test_an_unknown_endpoint_is_pointed_out(invoke: Invoke) -> None:
    for arguments in (["list", "--endpoint", "reprot"], ["stats", "reprot"]):
        result = invoke(*arguments)
        assert result.exit_code == 0  # it may belong to another service
        assert "Did you mean 'report'?" in result.stderr


def test_list_has_a_column_for_users_and_one_for_reasons(app: Flask, invoke: Invoke, queue: InMemoryQueue) -> None:
    start(app, "report", {"fails": True}, created_by="anna")
    queue.deliver_all(app.test_client())
    head, row = invoke("list").stdout.splitlines()
    assert head.split() == ["ID", "STATUS", "ENDPOINT", "AGE", "ATTEMPTS", "PROGRESS", "USER", "REASON"]
    assert row[head.index("USER") :].split(maxsplit=1) == [
        "anna",
        "gaetk_longtask.exceptions.PermanentTaskFailure: there is no such month",
    ]


# show


def test_show_prints_everything_about_a_task(
    app: Flask, invoke: Invoke, ask: Callable[..., Any], queue: InMemoryQueue
) -> None:
    task = started(app, {"fails": True})
    queue.deliver_all(app.test_client())
    found = ask("show", task.id)
    assert (found["id"], found["status"], found["attempts"]) == (task.id, "failed", 1)
    assert found["error"] == "there is no such month"
    assert found["parameters_bytes"] > 0
    assert "parameters" not in found
    [failure] = found["failed_attempts"]
    assert (failure["cause"], failure["message"]) == ("permanent", "there is no such month")
    assert failure["place"].endswith("in execute_task")
    assert failure["traceback"].endswith("PermanentTaskFailure: there is no such month\n")
    assert task.execute_key not in json.dumps(found)
    text = invoke("show", task.id[:8]).stdout
    assert "status: failed\n" in text
    assert f"error reference: {found['error_reference']}\n" in text
    assert "created by" not in text


def test_show_finds_a_task_by_its_reference_and_prints_each_traceback_once(
    app: Flask, invoke: Invoke, work: type[Work], queue: InMemoryQueue
) -> None:
    app.add_url_rule("/work", view_func=work.as_view("work"))
    work.do = lambda handler: 1 / 0
    task = start(app)
    queue.deliver_all(app.test_client())
    text = invoke("show", load(app, task).error_reference).stdout
    assert f"id: {task.id}\n" in text
    assert text.count("message: division by zero\n") == work.max_attempts
    assert text.count("\n  ZeroDivisionError: division by zero\n") == 1
    assert text.count("traceback: as above\n") == work.max_attempts - 1


def test_show_loads_the_parameters_on_demand(app: Flask, invoke: Invoke, ask: Callable[..., Any]) -> None:
    task = started(app, {"month": "March"})
    assert ask("show", task.id, "--parameters")["parameters"] == {"month": "'March'"}
    assert "parameters: {'month': \"'March'\"}\n" in invoke("show", task.id, "--parameters").stdout


def test_an_id_that_begins_with_a_hyphen_is_no_option(ask: Callable[..., Any], stock: Stock) -> None:
    stock(id="-json" + "x" * 17)
    stock(id="--xx" + "x" * 18)
    assert ask("show", "-json")["id"] == "-json" + "x" * 17
    assert ask("cancel", "--xx" + "x" * 18)["status"] == "cancelled"


@pytest.mark.parametrize("name", ["show", "cancel", "retry"])
def test_an_unknown_task_is_an_error(invoke: Invoke, stock: Stock, name: str) -> None:
    stock(id="abc1")
    stock(id="abc2")
    assert invoke(name, "abd").stderr == "Error: There is no task whose id begins with abd.\n"
    result = invoke(name, "abc")
    assert result.stderr == "Error: There is more than one task whose id begins with abc.\n"
    assert result.exit_code == 1


# start


def test_start_starts_a_task(app: Flask, ask: Callable[..., Any], queue: InMemoryQueue) -> None:
    found = ask("start", "report", "--parameters", '{"month": 3}', "--created-by", "anna")
    task = load(app, found["id"])
    assert found == {"id": task.id, "status": "ready", "url": task.url}
    assert task.created_by == "anna"
    queue.deliver_all(app.test_client())
    assert Report.seen == {"month": 3}


def test_start_reads_parameters_from_a_file_or_from_standard_input(
    app: Flask, ask: Callable[..., Any], queue: InMemoryQueue, tmp_path: Path
) -> None:
    path = tmp_path / "parameters.json"
    path.write_text('["from a file"]')
    marked = tmp_path / "marked.json"
    marked.write_text('["with a byte order mark"]', encoding="utf-8-sig")  # as Windows' editors and shells write it
    for argument, more, wanted in [
        (f"@{path}", {}, ["from a file"]),
        (f"@{marked}", {}, ["with a byte order mark"]),
        ("@-", {"input": '["from standard input"]'}, ["from standard input"]),
        ("@-", {"input": '\ufeff["marked"]'}, ["marked"]),
    ]:
        ask("start", "report", "--parameters", argument, **more)
        queue.deliver_all(app.test_client())
        assert Report.seen == wanted


def test_start_converts_url_values_like_a_request(app: Flask, ask: Callable[..., Any], queue: InMemoryQueue) -> None:
    found = ask("start", "item", "--url-value", "number=7", "--url-value", "name=a=b c")
    assert found["url"].startswith("/item/7/a=b%20c?")
    queue.deliver_all(app.test_client())
    assert Report.seen == {"number": 7, "name": "a=b c"}


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["reprot"], 1, "There is no long-running task at the endpoint 'reprot'. Did you mean 'report'?"),
        (["static"], 1, "There is no long-running task at the endpoint 'static'"),
        (["item"], 1, "Check that url_values has all its arguments."),
        (["item", "--url-value", "number=x", "--url-value", "name=x"], 1, "can't be built"),
        (["item", "--url-value", "number"], 2, "--url-value must be NAME=VALUE."),
        (["report", "--parameters", "{"], 2, "--parameters must be JSON or @FILE"),
        (["report", "--parameters", "@/nowhere"], 2, "No such file"),
        ([], 2, "Missing argument 'ENDPOINT'"),
    ],
)
def test_start_says_what_is_wrong(
    invoke: Invoke, stored: Callable[[], list[LongTask]], arguments: list[str], code: int, why: str
) -> None:
    result = invoke("start", *arguments)
    assert result.exit_code == code
    assert why in result.stderr
    assert stored() == []


def test_a_start_that_the_queue_refuses_can_be_retried(app: Flask, invoke: Invoke, queue: InMemoryQueue) -> None:
    queue.errors.append(EnqueueRefusedError("no such queue"))
    result = invoke("start", "report")
    assert result.exit_code == 1
    assert "The queue refused the task: no such queue" in result.stderr
    *_, task_id = result.stderr.split()
    assert invoke("retry", task_id).exit_code == 0
    assert load(app, task_id).status is Status.READY


@pytest.mark.parametrize(
    ("parameters", "code", "status"), [("{}", 0, "done"), ('{"fails": true}', 1, "failed")], ids=["good", "bad"]
)
def test_start_can_wait_for_the_end(
    app: Flask,
    invoke: Invoke,
    queue: InMemoryQueue,
    monkeypatch: pytest.MonkeyPatch,
    parameters: str,
    code: int,
    status: str,
) -> None:
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.01)

    def work() -> None:
        while not queue.tasks:
            time.sleep(0.01)
        queue.deliver_all(app.test_client())

    with ThreadPoolExecutor(1) as worker:
        worked = worker.submit(work)
        result = invoke("start", "report", "--parameters", parameters, "--wait", "--json")
        worked.result()
    found = json.loads(result.stdout)
    assert (result.exit_code, found["status"]) == (code, status)
    assert bool(found.get("error_reference")) is (status == "failed")
    assert result.stderr == "Starting\n"


def test_a_task_that_has_failed_says_why(app: Flask, invoke: Invoke, queue: InMemoryQueue) -> None:
    def work(seconds: float) -> None:
        queue.deliver_all(app.test_client())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watching, "sleep", work)
        result = invoke("start", "report", "--parameters", '{"fails": true}', "--wait")
    assert result.exit_code == 1
    assert re.search(r"^there is no such month \(reference [0-9a-f]{8}\)$", result.stderr, re.MULTILINE)


def test_waiting_heals_what_the_queue_has_lost(
    app: Flask, invoke: Invoke, queue: InMemoryQueue, clock: ManualClock
) -> None:
    queue.errors.append(EnqueueUncertainError("no answer"))

    def pass_a_minute(seconds: float) -> None:
        clock.advance(timedelta(minutes=1))
        queue.deliver_all(app.test_client())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watching, "sleep", pass_a_minute)
        assert invoke("start", "report", "--wait").exit_code == 0


# cancel, retry


def test_cancel_ends_a_task_and_retry_starts_it_again(app: Flask, invoke: Invoke, ask: Callable[..., Any]) -> None:
    task = started(app)
    assert invoke("cancel", task.id[:8]).stdout == f"{task.id} cancelled {task.url}\n"
    assert load(app, task.id).status is Status.CANCELLED
    assert ask("retry", task.id) == {"id": task.id, "status": "ready", "url": task.url}
    assert load(app, task.id).status is Status.READY


def test_an_ended_task_can_not_be_cancelled(app: Flask, invoke: Invoke, stock: Stock) -> None:
    result = invoke("cancel", stock(status=Status.FINISHED))
    assert result.exit_code == 1
    assert "it is finished" in result.stderr


@pytest.mark.parametrize("status", [Status.READY, Status.DONE])
def test_a_task_that_has_not_failed_can_not_be_retried(invoke: Invoke, stock: Stock, status: Status) -> None:
    result = invoke("retry", stock(status=status))
    assert result.exit_code == 1
    assert f"it is {status.value}" in result.stderr


def test_an_expired_task_can_not_be_retried(invoke: Invoke, stock: Stock) -> None:
    result = invoke("retry", stock(status=Status.FAILED, age=timedelta(days=2)))
    assert result.exit_code == 1
    assert "can't be retried" in result.stderr


# sweep, purge


def test_sweep_enqueues_again_what_is_due(
    app: Flask, ask: Callable[..., Any], invoke: Invoke, queue: InMemoryQueue, clock: ManualClock
) -> None:
    started(app)
    started(app)
    queue.tasks.clear()
    clock.advance(READY_PATIENCE)
    assert ask("sweep", "--limit", "1") == {"done": 1, "left": True}
    assert invoke("sweep").stdout == "1 enqueued again\n"
    assert len(queue.tasks) == 2


def test_purge_deletes_what_has_expired(
    ask: Callable[..., Any], invoke: Invoke, stock: Stock, stored: Callable[[], list[LongTask]]
) -> None:
    stock.many(2, status=Status.FAILED, age=timedelta(days=2))
    kept = stock(status=Status.FAILED)
    assert invoke("purge", "--limit", "1").stdout == "1 deleted; there may be more\n"
    assert ask("purge") == {"done": 1, "left": False}
    assert [task.id for task in stored()] == [kept]


# stats


def test_stats_sum_up_every_endpoint(invoke: Invoke, ask: Callable[..., Any], stock: Stock) -> None:
    stock.many(3, status=Status.FINISHED, run_seconds=1.25)
    stock(status=Status.FAILED)
    assert invoke("stats").stdout == (
        "ENDPOINT  ENDED  SUCCESSFUL  FAILED  CANCELLED  MEDIAN  95 % WITHIN\n"
        "item      0                  0       0\n"
        "report    4      75 %        1       0          1.2 s   1.2 s\n"
    )
    assert ask("stats", "report") == [
        {
            "endpoint": "report",
            "runs": 4,
            "succeeded": 3,
            "failed": 1,
            "cancelled": 0,
            "success_rate": 0.75,
            "median_seconds": 1.25,
            "p95_seconds": 1.25,
        }
    ]


# Problems.


def test_a_missing_index_is_named(invoke: Invoke, ndb_client: ndb.Client) -> None:
    put_between(ndb_client).lose_request("RunQuery", grpc.StatusCode.FAILED_PRECONDITION)
    result = invoke("list")
    assert result.exit_code == 1
    assert "gcloud app deploy index.yaml" in result.stderr


@pytest.mark.parametrize("arguments", [["list"], ["start", "report"], ["sweep"]], ids=" ".join)
def test_a_missing_datastore_is_reported_in_one_line(
    invoke: Invoke, ndb_client: ndb.Client, datastore_piece: Piece, arguments: list[str]
) -> None:
    faults = put_between(ndb_client)
    for method in ("RunQuery", "Commit", "Lookup"):
        faults.lose_request(method, grpc.StatusCode.PERMISSION_DENIED, times=10)
    result = invoke(*arguments)
    assert result.exit_code == 1
    where = f"the Datastore emulator at {datastore_piece.host}"
    assert result.stderr == f"Error: The request to {where} failed: a fault of the test's\n"


def test_the_library_adds_the_commands_to_the_flask_command(datastore_piece: Piece, tmp_path: Path) -> None:
    """The command runs as a separate program, without a terminal and without the context of a test."""
    path = tmp_path / "wsgi.py"
    path.write_text("import flask, gaetk_longtask\napp = flask.Flask(__name__)\ngaetk_longtask.LongTaskManager(app)")
    project = f"test-{secrets.token_hex(6)}"
    run = subprocess.run(
        [sys.executable, "-m", "flask", "--app", path, "longtask", "list", "--json"],
        env=os.environ | {"DATASTORE_EMULATOR_HOST": datastore_piece.host, "GOOGLE_CLOUD_PROJECT": project},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {"tasks": [], "cursor": None}


def test_every_command_has_help(invoke: Invoke) -> None:
    commands = cli.longtask.list_commands(click.Context(cli.longtask))
    assert {"list", "show", "start", "cancel", "retry", "sweep", "purge", "stats"} <= set(commands)
    for name in commands:
        result = invoke(name, "--help")
        assert result.exit_code == 0
        assert result.stdout.count("\n") > 5
