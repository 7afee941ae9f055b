"""Whatever is typed after ``flask longtask``, and whatever the terminal can show: an answer, never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from gaetk_longtask import LongRunningTaskHandler, LongTask, LongTaskManager, Status
from gaetk_longtask.dev.pieces import Piece
from gaetk_longtask.exceptions import LongTaskError
from gaetk_longtask.testing import InMemoryQueue
from tests.integration.conftest import Invoke, Stock

LONG, SURROGATE = "x" * 2000, "caf\udce9"
ENCODINGS = ["cp1252", "ascii", "latin-1", "cp437", "utf-8"]


class Report(LongRunningTaskHandler):
    def execute_task(self, parameters: Any) -> str:
        return "result"


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    app = make_app(Report)
    app.add_url_rule("/item/<int:number>/<name>", view_func=Report.as_view("item"))
    return app


@pytest.mark.parametrize("user", [LONG, "é" * 751, SURROGATE, "", "\ud800"])
def test_a_user_who_can_not_be_stored_is_refused(invoke: Invoke, queue: InMemoryQueue, user: str) -> None:
    result = invoke("start", "report", "--created-by", user)
    assert result.exit_code in (1, 2)
    assert "created" in result.stderr
    assert len(result.stderr) < 400
    assert queue.tasks == []


@pytest.mark.parametrize("user", [LONG, "", "é" * 751, SURROGATE, 7, b"anna", ["anna"]])
def test_code_is_told_the_same(app: Flask, queue: InMemoryQueue, user: Any) -> None:
    with app.app_context(), pytest.raises(LongTaskError, match=r"^created_by must be None or a str of 1 to 1,500"):
        LongTaskManager.start("report", {}, created_by=user)
    assert queue.tasks == []


@pytest.mark.parametrize(
    ("endpoint", "values"), [(None, None), (Report, None), (["report"], None), ("report", "x=1"), ("report", [1])]
)
def test_arguments_of_another_type_are_named(app: Flask, queue: InMemoryQueue, endpoint: Any, values: Any) -> None:
    with app.app_context(), pytest.raises(LongTaskError, match="must be a str and url_values a dict"):
        LongTaskManager.start(endpoint, {}, url_values=values)
    assert queue.tasks == []


def test_the_longest_user_id_is_accepted(invoke: Invoke, stored: Callable[[], list[LongTask]]) -> None:
    assert invoke("start", "report", "--created-by", "é" * 750).exit_code == 0
    assert [task.created_by for task in stored()] == ["é" * 750]


ODD = [
    ("start", ""),
    ("start", LONG),
    ("start", SURROGATE),
    ("start", "report", "--parameters", ""),
    ("start", "report", "--parameters", "[" * 100_000),
    ("start", "report", "--parameters", '{"month": "\\ud800"}'),
    ("start", "report", "--parameters", "@"),
    ("start", "report", "--parameters", "@/"),
    ("start", "report", "--parameters", "@/nowhere"),
    ("start", "report", "--parameters", f"@{sys.executable}"),
    ("start", "report", "--parameters", "@a\0b"),
    ("start", "report", "--parameters", "1e999"),
    ("start", "report", "--parameters", "9" * 5000),
    ("start", "item"),
    ("start", "item", "--url-value", "number"),
    ("start", "item", "--url-value", "=7"),
    ("start", "item", "--url-value", "number=seven", "--url-value", "name=x"),
    ("start", "item", "--url-value", "number=7", "--url-value", "name="),
    ("start", "item", "--url-value", "number=7", "--url-value", "name=a/b"),
    ("start", "item", "--url-value", f"number={'9' * 5000}", "--url-value", "name=x"),
    ("start", "item", "--url-value", "number=7", "--url-value", f"name={SURROGATE}"),
    ("start", "item", "--url-value", "number=7", "--url-value", f"name={LONG}"),
    ("list", "--cursor", ""),
    ("list", "--cursor", "nonsense"),
    ("list", "--cursor", SURROGATE),
    ("list", "--cursor", "é" * 5000),
    ("list", "--endpoint", LONG),
    ("list", "--endpoint", SURROGATE),
    ("list", "--older-than", "9" * 30 + "d"),
    ("list", "--older-than", "9" * 5000 + "d"),
    ("list", "--older-than", "999999999d"),
    ("list", "--younger-than", "999999999d"),
    ("list", "--older-than", "²d"),
    ("list", "--older-than", "-1d"),
    ("list", "--older-than", "soon"),
    ("list", "--limit", "0"),
    ("list", "--limit", "9" * 30),
    ("show", ""),
    ("show", LONG),
    ("show", SURROGATE),
    ("show", "a/b"),
    ("show", "__x__"),
    ("show", "\0"),
    ("cancel", ""),
    ("cancel", LONG),
    ("cancel", SURROGATE),
    ("retry", ""),
    ("retry", LONG),
    ("retry", SURROGATE),
    ("sweep", "--limit", "9" * 30),
    ("sweep", "--limit", "-1"),
    ("purge", "--limit", "9" * 30),
    ("stats", LONG),
    ("stats", SURROGATE),
    ("stats", ""),
]


@pytest.mark.parametrize("arguments", ODD, ids=lambda arguments: " ".join(arguments)[:40].encode(errors="replace"))
def test_odd_arguments_get_an_answer(invoke: Invoke, arguments: tuple[str, ...]) -> None:
    result = invoke(*arguments)
    assert result.exit_code in (0, 1, 2)
    assert "Traceback" not in result.output
    if result.exit_code:
        assert "Error: " in result.stderr
        assert len(result.stderr) < 4000


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_command_works_in_a_terminal_with_another_encoding(invoke: Invoke, stock: Stock, encoding: str) -> None:
    task_id = stock(created_by="Łódź ✓ 😀", error="„Größe“ → ∞", status=Status.FAILED)
    for arguments in (["list"], ["show", task_id], ["stats", "Łódź"], ["show", "Łódź"], ["start", "Łódź →"]):
        result = invoke(*arguments, encoding=encoding)
        assert result.exit_code in (0, 1, 2)
        assert "Traceback" not in result.output


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_stays_whole_in_every_encoding(invoke: Invoke, stock: Stock, encoding: str) -> None:
    task_id = stock(created_by="Łódź ✓ 😀 é")
    result = invoke("show", task_id, "--json", encoding=encoding)
    assert json.loads(result.stdout_bytes.decode(encoding))["created_by"] == "Łódź ✓ 😀 é"


APP = """
from flask import Flask
from gaetk_longtask import LongTaskManager

app = Flask("größe")
app.config["LONGTASK_PROGRESS_URL"] = "redis://127.0.0.1:1"
LongTaskManager(app)
"""


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "ascii:strict"])
@pytest.mark.parametrize("json_option", [[], ["--json"]])
def test_the_doctor_can_be_read_in_a_terminal_with_another_encoding(
    datastore_piece: Piece, tmp_path: Path, encoding: str, json_option: list[str]
) -> None:
    (tmp_path / "main.py").write_text(APP, encoding="utf-8")
    env = {**os.environ, "PYTHONIOENCODING": encoding, "DATASTORE_EMULATOR_HOST": datastore_piece.host}
    env |= {"GOOGLE_CLOUD_PROJECT": "doctor", "PYTHONPATH": str(Path(__file__).parents[2])}
    env |= {"CLOUD_TASKS_EMULATOR_HOST": "127.0.0.1:1"}
    command = [sys.executable, "-m", "flask", "--app", "main", "longtask", "doctor", *json_option]
    run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=False, timeout=150)
    assert run.returncode == 1, run.stderr
    assert b"Traceback" not in run.stderr
    output = run.stdout.decode(encoding.partition(":")[0])
    if json_option:
        assert {finding["check"] for finding in json.loads(output)} >= {"project", "progress"}
    else:
        assert "-> " in output
