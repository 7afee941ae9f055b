"""What the local stack offers beside the application: other terminals, fixed ports, cron, the overview and events."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gaetk_longtask.dev.processes import free_port
from tests.programs import ROOT, Program

SERVICES = ("DATASTORE_EMULATOR_HOST", "MEMCACHED_HOSTS", "CLOUD_TASKS_EMULATOR_HOST")
APP = """
import time
from flask import Flask
from gaetk_longtask import LongRunningTaskHandler, LongTaskManager

app = Flask(__name__)
LongTaskManager(app)


class Count(LongRunningTaskHandler):
    def execute_task(self, parameters):
        for _ in self.track(range(80)):
            time.sleep(0.05)
        return "counted"


app.add_url_rule("/count", view_func=Count.as_view("count"))
"""
PROMPTLY_SECONDS = 30


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text(APP)
    return tmp_path / "app"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine with nothing but Python."""
    (tmp_path / "bin").mkdir()
    left_out = {*SERVICES, "JAVA_HOME", "CLOUDSDK_ROOT_DIR", "GOOGLE_CLOUD_PROJECT", "FLASK_APP", "GAE_ENV"}
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**kept, "PATH": str(tmp_path / "bin"), "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}


Start = Callable[..., Program]


@pytest.fixture
def start(directory: Path, env: dict[str, str]) -> Iterator[Start]:
    """A function that starts the local stack with arguments, and waits until it is ready."""
    programs: list[Program] = []

    def start(*arguments: str) -> Program:
        programs.append(Program("gaetk_longtask.dev", *arguments, cwd=directory, env=env))
        programs[-1].wait_for("ready: ")
        return programs[-1]

    yield start
    for program in programs:
        program.stop()


def url_of(stack: Program) -> str:
    (url,) = (line.removeprefix("ready: ") for line in stack.lines if line.startswith("ready: http"))
    return url


def line_of(stack: Program) -> str:
    (line,) = (line for line in stack.lines if line.startswith("export "))
    return line


def ask(url: str, **options: Any) -> Any:
    request = urllib.request.Request(url, headers={"Accept": "application/json"}, **options)
    with urllib.request.urlopen(request, timeout=PROMPTLY_SECONDS) as answer:
        body = answer.read().decode()
    return json.loads(body) if body.startswith("{") else body


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PROMPTLY_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


def flask(words: str, directory: Path, env: dict[str, str], *, paste: str = "true") -> subprocess.CompletedProcess[str]:
    command = f"{paste}; {shlex.quote(sys.executable)} -m flask {words}"
    return subprocess.run(
        ["/bin/sh", "-c", command], cwd=directory, env=env, capture_output=True, text=True, timeout=120, check=False
    )


def test_with_only_python_progress_moves_twice_a_second(start: Start) -> None:
    site = url_of(start("main:app", "--port", "0"))
    poll = site + ask(f"{site}/count")["links"]["self"]
    until(lambda: ask(poll)["progress"]["step"])

    steps, began = set(), time.monotonic()
    while not (document := ask(poll))["done"]:
        steps.add(document["progress"]["step"])
        time.sleep(0.05)
    seconds = time.monotonic() - began

    assert document["status"] == "done"
    assert len(steps) >= 1.5 * seconds, (steps, seconds)  # Datastore alone would give one in five seconds


def test_one_pasted_line_makes_another_terminal_use_the_services(start: Start, directory: Path, env: Any) -> None:
    stack = start("main:app", "--port", "0")
    task = ask(f"{url_of(stack)}/count")

    listed = flask("longtask list", directory, env, paste=line_of(stack))

    assert listed.returncode == 0, listed.stderr
    assert task["id"] in listed.stdout


def test_the_env_file_has_the_same_variables_and_goes_with_the_stack(start: Start, directory: Path) -> None:
    stack = start("main:app", "--port", "0", "--env-file", "services.env")
    written = (directory / "services.env").read_text()

    assert written.startswith("#")
    assert written.split("\n", 1)[1].split() == line_of(stack).split()[1:]
    stack.stop()
    assert not (directory / "services.env").exists()


def test_somebody_elses_file_is_not_overwritten(directory: Path, env: dict[str, str]) -> None:
    (directory / ".env").write_text("SECRET=1\n")
    with Program("gaetk_longtask.dev", "main:app", "--env-file", ".env", cwd=directory, env=env) as stack:
        assert stack.wait() == 1
        assert ".env is there already, and is not overwritten" in stack.output
    assert (directory / ".env").read_text() == "SECRET=1\n"


def test_ports_are_those_that_are_asked_for(start: Start) -> None:
    ports = [free_port() for _ in range(4)]
    names = ("--port", "--datastore-port", "--memcached-port", "--tasks-port")
    stack = start("main:app", *(word for pair in zip(names, map(str, ports), strict=True) for word in pair))

    assert url_of(stack) == f"http://127.0.0.1:{ports[0]}"
    for variable, port in zip(SERVICES, ports[1:], strict=True):
        assert f"{variable}=127.0.0.1:{port}" in line_of(stack).split()


@pytest.mark.parametrize("name", ["datastore", "memcached", "tasks"])
def test_a_port_of_a_service_that_is_taken_is_named(name: str, directory: Path, env: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        arguments = ("main:app", "--port", "0", f"--{name}-port", port)
        with Program("gaetk_longtask.dev", *arguments, cwd=directory, env=env) as stack:
            assert stack.wait(seconds=90) == 1
            assert re.search(f"{name}.*{port}", stack.output, re.DOTALL), stack.output


def test_beside_flask_run_there_are_only_the_services(start: Start, directory: Path, env: dict[str, str]) -> None:
    port = str(free_port())
    stack = start("main:app", "--services-only", "--port", port)
    assert not any("gunicorn" in line for line in stack.lines)
    variables = dict(word.split("=", 1) for word in line_of(stack).split()[1:])

    with Program("flask", "run", "--port", port, cwd=directory, env={**env, **variables}):
        site = f"http://127.0.0.1:{port}"
        until(lambda: answers(f"{site}/count", method="HEAD"))
        poll = site + ask(f"{site}/count")["links"]["self"]
        until(lambda: ask(poll)["status"] == "done")
        assert "count" in ask(f"{site}/_longtask/tasks")  # the overview


def answers(url: str, **options: Any) -> bool:
    try:
        ask(url, **options)
    except OSError:
        return False
    return True


def test_without_an_application_the_services_need_none(start: Start) -> None:
    stack = start("--services-only")
    assert "FLASK_APP" not in line_of(stack)
    assert any(line == "ready: the services; tasks go to http://127.0.0.1:8080" for line in stack.lines)


def test_flask_run_without_the_stack_names_the_command(directory: Path, env: dict[str, str]) -> None:
    for project in ({}, {"GOOGLE_CLOUD_PROJECT": "demo"}):
        nowhere = {"NO_GCE_CHECK": "true"}
        listed = flask("--app main longtask list", directory, {**env, **nowhere, **project})
        assert listed.returncode != 0
        assert "python -m gaetk_longtask.dev MODULE:APP" in listed.stderr
        assert "Traceback" not in listed.stderr


def test_other_machines_are_let_in_with_a_warning(start: Start) -> None:
    stack = start("main:app", "--port", "0", "--host", "0.0.0.0")
    assert any(line.startswith("Warning: everyone who can reach this machine at 0.0.0.0") for line in stack.lines)
    assert url_of(stack).startswith("http://127.0.0.1:")
    own = socket.gethostbyname(socket.gethostname())  # an address that is not 127.0.0.1, or it proves less
    variables = dict(word.split("=", 1) for word in line_of(stack).split()[1:])
    for host in (url_of(stack), *(variables[name] for name in SERVICES)):
        socket.create_connection((own, int(host.rpartition(":")[2])), timeout=10).close()


def test_cron_calls_what_cron_yaml_lists(start: Start, directory: Path, env: dict[str, str], tmp_path: Path) -> None:
    env["PYTHONTZPATH"] = str(tmp_path)
    stack = start("main:app", "--port", "0")
    assert not any(line.startswith("cron ") for line in stack.lines)
    stack.stop()
    (directory / "cron.yaml").write_text("cron: [{url: /x, schedule: every blue moon}]")
    stack = start("main:app", "--port", "0")
    assert any("/x: the schedule 'every blue moon' is not understood" in line for line in stack.lines)

    add_zone(tmp_path / "Soon", seconds=3)
    job = "{url: /_longtask/sweep, schedule: every 1 minutes synchronized, timezone: Soon}"
    (directory / "cron.yaml").write_text(f"cron: [{job}]")
    deadline = time.monotonic() + 90
    while not any("cron" in line and "GET /_longtask/sweep -> 200" in line for line in stack.lines):
        assert time.monotonic() < deadline, stack.output
        time.sleep(0.2)


def add_zone(path: Path, *, seconds: int) -> None:
    """Add a time zone in which the next minute begins in so many seconds, to the folder of the time zones."""
    offset = int(-time.time() - seconds) % 60
    header = struct.pack(">4s16x6l", b"TZif", 0, 0, 0, 0, 1, 4)  # RFC 9636: one kind of local time, with 4 characters
    path.write_bytes(header + struct.pack(">lbb4s", offset, 0, 0, b"SOO"))


def test_the_overview_and_the_lines_of_events_are_on(start: Start) -> None:
    stack = start("main:app", "--port", "0")
    task = ask(f"{url_of(stack)}/count")
    assert task["id"] in ask(f"{url_of(stack)}/_longtask/tasks")
    until(lambda: any("longtask.claimed" in line and task["id"][:8] in line for line in stack.lines))
