"""The runner of the local stack. It prints what runs, and leaves no process behind in any case."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gaetk_longtask.dev.stack import Stack
from tests.programs import ROOT, Program

SERVICES = ("DATASTORE_EMULATOR_HOST", "MEMCACHED_HOSTS", "CLOUD_TASKS_EMULATOR_HOST")
APP = """
import os, time, urllib.request
from flask import Flask, request
from google.cloud import ndb

app = Flask(__name__)

class Note(ndb.Model):
    text = ndb.StringProperty()

@app.get("/environ")
def environ():
    return dict(os.environ)

@app.get("/sleep")
def sleep():
    print("sleeping", flush=True)
    time.sleep(600)

@app.get("/inner")
def inner():
    return "inner"

@app.get("/outer")
def outer():
    return urllib.request.urlopen(request.host_url + "inner", timeout=10).read()

@app.route("/note/<text>", methods=["GET", "PUT"])
def note(text):
    with ndb.Client().context():
        if request.method == "PUT":
            Note(id=text, text=text).put()
        return {"found": [note.text for note in Note.query()]}
"""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")


class Runner(Program):
    """A runner in its own process. Its processes are recognized by a mark in their environment."""

    def __init__(self, directory: Path, *arguments: str, app: str = "main:app", env: dict[str, str]) -> None:
        self._mark = f"LONGTASK_TEST_MARK={uuid.uuid4()}"
        name, _, value = self._mark.partition("=")
        env = {**env, "PYTHONPATH": str(ROOT), name: value}
        super().__init__("gaetk_longtask.dev", app, "--port", "0", *arguments, cwd=directory, env=env)

    def wait_until_ready(self) -> str:
        return self.wait_for("ready: ")

    def heard(self, text: str) -> bool:
        return eventually(lambda: any(text in line for line in self.lines), 30)

    def running(self) -> dict[int, str]:
        """Return the process ids and command lines of its running processes."""
        found = {}
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                environ = (directory / "environ").read_bytes()
                command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if self._mark.encode() in environ and int(directory.name) != self.process.pid:
                found[int(directory.name)] = command
        return found

    def pid_of(self, part: str) -> int:
        return min(pid for pid, command in self.running().items() if part in command and "guard.py" not in command)


def eventually(condition: Callable[[], object], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def get(url: str, **options: Any) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, **options), timeout=20) as answer:
        body = answer.read().decode()
    return json.loads(body) if body.startswith("{") else body


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text(APP)
    return tmp_path / "app"


@pytest.fixture
def env() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in SERVICES}


@pytest.fixture
def bare_env(env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """An environment without Java, the Cloud SDK and memcached on the path."""
    for name in ("JAVA_HOME", "CLOUDSDK_ROOT_DIR"):
        env.pop(name, None)
    (tmp_path / "bin").mkdir()
    return {**env, "PATH": str(tmp_path / "bin")}


@pytest.fixture
def app_alone(env: dict[str, str]) -> Iterator[dict[str, str]]:
    """Environment variables with services that seem to be running already."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {**env, **dict.fromkeys(SERVICES, f"127.0.0.1:{server.getsockname()[1]}")}


@pytest.fixture
def start(directory: Path, env: dict[str, str]) -> Iterator[Callable[..., Runner]]:
    runners: list[Runner] = []

    def start(*arguments: str, **options: Any) -> Runner:
        runners.append(Runner(directory, *arguments, **{"env": env, **options}))
        return runners[-1]

    yield start
    for runner in runners:
        runner.kill()


class TestRunning:
    def test_it_prints_what_runs_and_answers_when_it_is_ready(self, start: Any) -> None:
        runner = start("--project", "my-project")
        url = runner.wait_until_ready()

        environ = get(f"{url}/environ")
        assert environ["GOOGLE_CLOUD_PROJECT"] == "my-project"
        assert environ["GAE_ENV"] == "localdev"
        assert {"GAE_SERVICE", "GAE_VERSION", "GAE_INSTANCE"} < environ.keys()
        assert url == f"http://127.0.0.1:{environ['PORT']}"
        said = "\n".join(runner.lines)
        for name in SERVICES:
            assert environ[name] in said
            host, port = environ[name].split(":")
            socket.create_connection((host, int(port)), timeout=5).close()

    def test_a_request_may_make_another(self, start: Any, directory: Path, app_alone: dict[str, str]) -> None:
        (directory / "app.yaml").write_text("runtime: python313\nentrypoint: gunicorn -b :$PORT main:app\n")
        url = start(env=app_alone).wait_until_ready()
        assert get(f"{url}/outer") == "inner"

    def test_with_only_python_it_uses_the_built_in_services(self, start: Any, bare_env: dict[str, str]) -> None:
        runner = start(env=bare_env)
        url = runner.wait_until_ready()
        assert get(f"{url}/note/a", method="PUT") == {"found": ["a"]}
        said = "\n".join(runner.lines)
        assert re.search(r"datastore .*stand-in", said)
        assert re.search(r"memcached .*stand-in: our own memcached in Python", said)

    def test_services_in_the_environment_are_used_and_not_started(self, start: Any, app_alone: dict[str, str]) -> None:
        runner = start(env=app_alone)
        environ = get(f"{runner.wait_until_ready()}/environ")
        assert all(environ[name] == app_alone[name] for name in SERVICES)
        assert all("gunicorn" in command for command in runner.running().values())

    @pytest.mark.parametrize("bare", [False, True])
    def test_data_survives_even_a_killed_runner(
        self,
        bare: bool,
        start: Any,
        env: dict[str, str],
        bare_env: dict[str, str],
        app_alone: dict[str, str],
        tmp_path: Path,
    ) -> None:
        others = {name: host for name, host in app_alone.items() if name in SERVICES[1:]}
        options = {"env": (bare_env if bare else env) | others}
        first = start("--data-dir", str(tmp_path / "data"), **options)
        url = first.wait_until_ready()
        for text in ("a", "b"):
            get(f"{url}/note/{text}", method="PUT")
        first.process.kill()
        assert eventually(lambda: not first.running())

        second = start("--data-dir", str(tmp_path / "data"), **options)
        assert get(f"{second.wait_until_ready()}/note/x") == {"found": ["a", "b"]}


class TestCodeChanges:
    def test_changed_code_is_loaded(self, start: Any, directory: Path, app_alone: dict[str, str]) -> None:
        url = start(env=app_alone).wait_until_ready()
        changed = APP.replace('return "inner"', 'return "changed"')
        assert saved_until(answers(f"{url}/inner", "changed"), directory / "main.py", changed)

    def test_changed_code_does_not_wait_for_long_requests(
        self, start: Any, directory: Path, app_alone: dict[str, str]
    ) -> None:
        runner = start(env=app_alone)
        url = runner.wait_until_ready()
        sleeping = threading.Thread(target=get_or_none, args=(f"{url}/sleep",))
        sleeping.start()
        assert runner.heard("sleeping")
        changed = APP.replace('return "inner"', 'return "changed"')
        assert saved_until(answers(f"{url}/inner", "changed"), directory / "main.py", changed)
        sleeping.join(20)
        assert not sleeping.is_alive()

    def test_mistakes_in_the_code_are_shown_and_can_be_corrected(
        self, start: Any, directory: Path, app_alone: dict[str, str]
    ) -> None:
        runner = start(env=app_alone)
        url = runner.wait_until_ready()
        for mistake in ("1 / 0", "def broken(:", "import no_such_module"):
            runner.lines.clear()
            assert saved_until(lambda: "Error" in "".join(runner.lines), directory / "main.py", f"{APP}\n{mistake}\n")
            mended = APP.replace('return "inner"', f'return "no {mistake}"')
            assert saved_until(answers(f"{url}/inner", f"no {mistake}"), directory / "main.py", mended)


def saved_until(condition: Callable[[], object], path: Path, code: str) -> bool:
    """Save ``code`` until the runner reacts, because gunicorn misses changes in its first moments."""

    def save_and_wait() -> bool:
        path.write_text(code)
        return eventually(condition, 5)

    return eventually(save_and_wait, 40)


def answers(url: str, text: str) -> Callable[[], bool]:
    return lambda: get_or_none(url) == text


def get_or_none(url: str) -> Any:
    try:
        return get(url)
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return None
    except OSError:
        return None


class TestEnding:
    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
    def test_a_stopped_runner_leaves_no_process(self, how: signal.Signals, start: Any) -> None:
        runner = start()
        runner.wait_until_ready()
        runner.process.send_signal(how)
        assert runner.wait() == 0
        assert runner.running() == {}

    def test_a_killed_runner_leaves_no_process(self, start: Any) -> None:
        runner = start()
        url = runner.wait_until_ready()
        threading.Thread(target=get_or_none, args=(f"{url}/sleep",)).start()
        assert runner.heard("sleeping")
        runner.process.kill()
        assert eventually(lambda: not runner.running()), runner.running()

    def test_stopping_does_not_wait_for_long_requests(self, start: Any, app_alone: dict[str, str]) -> None:
        runner = start(env=app_alone)
        url = runner.wait_until_ready()
        threading.Thread(target=get_or_none, args=(f"{url}/sleep",)).start()
        assert runner.heard("sleeping")
        runner.process.terminate()
        assert runner.wait() == 0
        assert runner.running() == {}

    @pytest.mark.parametrize("piece", ["datastore", "memcached", "tasks", "app"])
    def test_a_runner_interrupted_at_its_start_leaves_no_process(self, piece: str, start: Any) -> None:
        runner = start()
        runner.wait_for(piece)
        runner.process.send_signal(signal.SIGINT)
        assert runner.wait() == 0
        # If the signal reaches a guard before its program runs, the guard ends a moment after the runner.
        assert eventually(lambda: not runner.running()), runner.running()

    @pytest.mark.parametrize("piece", ["datastore", "memcached", "tasks", "app"])
    def test_a_runner_killed_at_its_start_leaves_no_process(self, piece: str, start: Any) -> None:
        runner = start()
        runner.wait_for(piece)
        runner.process.kill()
        assert eventually(lambda: not runner.running()), runner.running()

    def test_a_second_interrupt_leaves_no_process_either(self, start: Any) -> None:
        runner = start()
        runner.wait_until_ready()
        for _ in range(20):
            runner.process.send_signal(signal.SIGINT)
            time.sleep(0.01)
        assert runner.wait() in (0, 1)
        assert eventually(lambda: not runner.running()), runner.running()

    @pytest.mark.parametrize(
        ("variable", "part", "name"),
        [
            ("MEMCACHED_HOSTS", "memcached", "memcached"),
            ("CLOUD_TASKS_EMULATOR_HOST", "tasks_emulator", "tasks"),
            (None, "gunicorn", "app"),
        ],
    )
    def test_a_service_that_dies_ends_the_stack_and_is_named(
        self, variable: str | None, part: str, name: str, start: Any, app_alone: dict[str, str]
    ) -> None:
        app_alone.pop(variable, None)
        runner = start(env=app_alone)
        runner.wait_until_ready()
        os.kill(runner.pid_of(part), signal.SIGKILL)
        assert runner.wait() == 1
        assert runner.heard(f"{name} ended with exit code 137")
        assert runner.running() == {}


class TestTrouble:
    def test_a_port_that_is_taken_is_named(self, start: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            runner = start("--port", str(port))
            assert runner.wait() == 1
        assert runner.heard(f"port {port} is not free")
        assert runner.running() == {}

    @pytest.mark.parametrize(
        ("app", "message"),
        [
            ("nosuch:app", "dev: there is no module 'nosuch'"),
            ("main.py:app", "dev: there is no module 'main.py'"),
            ("main:nosuch", "dev: 'main:nosuch' is no application: Failed to find attribute 'nosuch'"),
            ("bad:number", "dev: 'bad:number' is no application: Application object must be callable"),
            ("bad:a b", "dev: 'bad:a b' is no application: Failed to parse"),
            ("bad", "dev: 'bad' is no application: Failed to find attribute 'application'"),
        ],
    )
    def test_an_app_that_is_none_ends_it(
        self, app: str, message: str, start: Any, directory: Path, app_alone: dict[str, str]
    ) -> None:
        (directory / "bad.py").write_text("number = 1")
        runner = start(app=app, env=app_alone)
        assert runner.wait() == 2
        assert runner.heard(message), runner.lines
        assert runner.running() == {}

    @pytest.mark.parametrize(
        ("app", "message"),
        [
            ("bad:app", "1 / 0"),
            ("worse:app", "No module named 'nosuch'"),
            ("ending:app", "the application called sys.exit('set KEY first') when it was imported"),
        ],
    )
    def test_an_app_that_does_not_load_ends_it(
        self, app: str, message: str, start: Any, directory: Path, app_alone: dict[str, str]
    ) -> None:
        (directory / "bad.py").write_text("1 / 0")
        (directory / "worse.py").write_text("import nosuch")
        (directory / "ending.py").write_text("import sys; sys.exit('set KEY first')")
        runner = start(app=app, env=app_alone)
        assert runner.wait() == 1
        assert runner.heard(message)
        assert runner.running() == {}

    @pytest.mark.parametrize("name", SERVICES)
    def test_a_service_that_does_not_answer_is_named(self, name: str, start: Any, app_alone: dict[str, str]) -> None:
        runner = start(env={**app_alone, name: "127.0.0.1:1"})
        assert runner.wait() == 1
        assert runner.heard(f"{name} names 127.0.0.1:1, where nothing answers")
        assert runner.running() == {}

    def test_a_queue_yaml_that_is_named_must_exist(self, start: Any) -> None:
        runner = start("--queue-yaml", "nosuch.yaml")
        assert runner.wait() == 2
        assert runner.heard("'nosuch.yaml' does not exist")

    def test_a_broken_queue_yaml_ends_it(self, start: Any, directory: Path, app_alone: dict[str, str]) -> None:
        (directory / "queue.yaml").write_text("queue: [")
        del app_alone["CLOUD_TASKS_EMULATOR_HOST"]
        runner = start(env=app_alone)
        assert runner.wait() == 1
        assert runner.heard("queue.yaml")
        assert runner.running() == {}

    def test_a_broken_emulator_ends_it(self, start: Any, env: dict[str, str], tmp_path: Path) -> None:
        (tmp_path / "bin").mkdir()
        for name in ("memcached", "java"):
            program = tmp_path / "bin" / name
            program.write_text("#!/bin/sh\necho no luck with $0\nexit 9\n")
            program.chmod(0o755)
        env["PATH"] = f"{tmp_path / 'bin'}:{env['PATH']}"
        runner = start(env=env)
        assert runner.wait() == 1
        assert runner.heard("memcached ended with exit code 9; its last lines:"), runner.lines
        assert runner.heard("no luck with"), runner.lines


def test_the_stack_is_a_context_manager(
    directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bare_env: dict[str, str]
) -> None:
    monkeypatch.chdir(directory)
    for name in SERVICES:
        monkeypatch.delenv(name, raising=False)
    if not shutil.which("memcached"):
        monkeypatch.setenv("PATH", bare_env["PATH"])
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    said: list[str] = []
    with Stack("main:app", port=0, datastore="embedded", data_dir=tmp_path / "data", say=said.append) as stack:
        assert get(f"{stack.url}/inner") == "inner"
        stack.check()
    assert get_or_none(f"{stack.url}/inner") is None
    assert said
