"""The emulator as a program: its start, its output, its end, and the data that it keeps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gaetk_longtask.dev.tasks_emulator.__main__ import main
from tests.dev.tasks_support import (
    DEFAULT,
    PARENT,
    PATIENCE_SECONDS,
    App,
    app_engine,
    connected,
    wait_until,
)
from tests.programs import Program

Q = f"{PARENT}/queues/q"


class Emulator(Program):
    """A running emulator."""

    def __init__(self, *options: str) -> None:
        super().__init__("gaetk_longtask.dev.tasks_emulator", "--port", "0", *options)
        self.host = self.wait_for("ready: ")

    def end(self, by: signal.Signals) -> str:
        """Stop the emulator, and return all its output."""
        self.process.send_signal(by)
        self.wait()
        return self.output


@pytest.fixture
def start(tasks_app: App) -> Iterator[Callable[..., Emulator]]:
    with ExitStack() as stack:
        yield lambda *options: stack.enter_context(Emulator("--app", tasks_app.url, *options))


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_it_says_when_it_is_ready_logs_its_dispatches_and_ends_cleanly(start, tasks_app, by):
    program = start()
    with connected(program.host) as client:
        client.create_task(parent=DEFAULT, task=app_engine(headers={"X-Execute-Key": "s3cret"}))
        tasks_app.next()
        wait_until(lambda: not list(client.list_tasks(parent=DEFAULT)))

    log = program.end(by)

    assert program.process.returncode == 0
    assert f"POST {tasks_app.url}/work -> 200 in 0." in log
    assert "s3cret" not in log
    assert "Traceback" not in log


def test_it_ends_at_once_even_if_a_handler_hangs(start, tasks_app):
    finish = threading.Event()
    tasks_app.answer = lambda _: 200 if finish.wait(PATIENCE_SECONDS) else 500
    program = start()
    with connected(program.host) as client:
        client.create_task(parent=DEFAULT, task=app_engine())
        tasks_app.next()

    log = program.end(signal.SIGTERM)
    finish.set()

    assert program.process.returncode == 0
    assert "Traceback" not in log


def test_a_kill_loses_nothing_that_was_answered_for(start, tasks_app, tmp_path):
    tasks_app.answer = lambda request: 500 if request.path == "/fails" else 200
    data = ("--data-dir", str(tmp_path / "data"))
    first = start(*data)
    with connected(first.host) as client:
        client.create_queue(parent=PARENT, queue={"name": Q, "retry_config": {"min_backoff": {"seconds": 3600}}})
        failing = client.create_task(parent=Q, task={"name": f"{Q}/tasks/t", **app_engine("/fails")}).name
        wait_until(lambda: client.get_task(name=failing).response_count == 1)
        client.pause_queue(name=Q)
        created = {client.create_task(parent=Q, task=app_engine()).name for _ in range(50)} | {failing}
        first.end(signal.SIGKILL)

    with connected(start(*data).host) as client:
        assert {task.name for task in client.list_tasks(parent=Q)} == created
        assert client.get_task(name=failing).response_count == 1
        client.resume_queue(name=Q)
        wait_until(lambda: len(list(client.list_tasks(parent=Q))) == 1)


def test_it_routes_services_to_their_ports_and_reads_queue_yaml(start, tasks_app, tmp_path):
    other = App()
    try:
        (tmp_path / "queue.yaml").write_text("queue: [{name: q, rate: 5/s}]")
        program = start("--route", f"worker={other.url}", "--queue-yaml", str(tmp_path / "queue.yaml"))
        with connected(program.host) as client:
            client.create_task(parent=Q, task=app_engine(app_engine_routing={"service": "worker"}))

            assert other.next().path == "/work"
    finally:
        other.stop()


def test_a_port_that_is_taken_ends_it_with_a_message_that_helps(start, capfd):
    port = start().host.partition(":")[2]

    assert main(["--port", port]) == 1
    assert f"127.0.0.1:{port} is taken: another program listens there" in capfd.readouterr().err


def test_a_queue_yaml_that_is_missing_ends_it_with_a_message_that_helps(tmp_path, capfd):
    with pytest.raises(SystemExit) as caught:
        main(["--queue-yaml", str(tmp_path / "queue.yaml")])
    assert caught.value.code == 2
    assert "queue.yaml' does not exist" in capfd.readouterr().err


def test_a_data_directory_in_use_ends_it_with_a_message_that_helps(start, tmp_path, capfd):
    start("--data-dir", str(tmp_path))

    assert main(["--port", "0", "--data-dir", str(tmp_path)]) == 1
    assert "is another emulator using it?" in capfd.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["--app", "localhost:8080"],
        ["--app", "http://127.0.0.1:99999"],
        ["--route", "worker"],
        ["--route", "=http://127.0.0.1:1"],
        ["--route", "worker=nowhere"],
        ["--port", "many"],
    ],
)
def test_options_that_make_no_sense_are_refused(options, capsys):
    with pytest.raises(SystemExit) as ended:
        main(options)

    assert ended.value.code == 2
    assert options[0] in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="the limits are read from /proc")
def test_it_allows_itself_many_open_files(start):
    limits = Path(f"/proc/{start().process.pid}/limits").read_text().splitlines()

    [line] = [line for line in limits if line.startswith("Max open files")]
    soft, hard = (int(limit) for limit in line.split()[3:5])
    assert soft >= min(hard, 16384)
