"""The options of the programs."""

from __future__ import annotations

import os
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gaetk_longtask.dev import __main__ as stack
from gaetk_longtask.dev import options
from gaetk_longtask.dev.datastore_emulator import __main__ as datastore
from gaetk_longtask.dev.tasks_emulator import __main__ as tasks
from sample_app import demo

PROGRAMS = [stack.main, datastore.main, tasks.main]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.touch()
    return path


def run(main: Callable[[list[str]], int], arguments: list[str], capfd: Any) -> str:
    """Run a program that refuses its arguments, and return its one line."""
    with pytest.raises(SystemExit) as caught:
        main([*(["main:app"] if main is stack.main else []), *arguments])
    output = capfd.readouterr()
    assert (caught.value.code, output.out) == (2, "")
    assert output.err.count("\n") == 1
    assert len(output.err) < 400
    return str(output.err)


@pytest.mark.parametrize("main", PROGRAMS, ids=["stack", "datastore", "tasks"])
class TestEveryProgram:
    @pytest.mark.parametrize("port", ["70000", "65536", "-1", "", " 80", "8e1", "80.0", "²", "0x50", "http", "9" * 900])
    def test_a_port_out_of_range_is_named(self, main: Any, port: str, capfd: Any) -> None:
        assert "is not a port" in run(main, [f"--port={port}"], capfd)

    def test_a_data_directory_must_be_possible(self, main: Any, file: Path, capfd: Any) -> None:
        for wrong in (str(file), f"{file}/below", "", "a\0b", "/proc/nosuch", "x" * 5000):
            assert "--data-dir" in run(main, [f"--data-dir={wrong}"], capfd)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_data_directory_must_be_writable(self, main: Any, tmp_path: Path, capfd: Any) -> None:
        tmp_path.chmod(0o500)
        assert "Permission denied" in run(main, [f"--data-dir={tmp_path}"], capfd)
        assert "Permission denied" in run(main, [f"--data-dir={tmp_path}/below"], capfd)

    def test_an_unknown_option_is_named(self, main: Any, capfd: Any) -> None:
        assert "--nosuch" in run(main, ["--nosuch"], capfd)
        assert "--port" in run(main, ["--port"], capfd)


@pytest.mark.parametrize("main", [stack.main, tasks.main], ids=["stack", "tasks"])
def test_a_queue_yaml_must_be_a_file(main: Any, tmp_path: Path, capfd: Any) -> None:
    for wrong in ("nosuch.yaml", str(tmp_path), "", "a\0b", "x" * 5000):
        assert "--queue-yaml" in run(main, [f"--queue-yaml={wrong}"], capfd)


@pytest.mark.parametrize("project", ["", " ", "a b", "a/b", "ä", "-x", "x" * 101, "a\nb"])
def test_a_project_that_is_no_id_is_named(project: str, capfd: Any) -> None:
    assert "--project" in run(stack.main, [f"--project={project}"], capfd)


@pytest.mark.parametrize("number", ["0", "-1", "", "1.5", "many", "9" * 900])
def test_the_number_of_tasks_at_once_is_positive(number: str, capfd: Any) -> None:
    assert "--at-once" in run(tasks.main, [f"--at-once={number}"], capfd)


@pytest.mark.parametrize("url", ["", "localhost:8080", "http://", "http://x:0", "http://x:70000", "ftp://x"])
def test_an_address_that_is_no_url_is_named(url: str, capfd: Any) -> None:
    assert "--app" in run(tasks.main, [f"--app={url}"], capfd)
    assert "--route" in run(tasks.main, [f"--route=worker={url}"], capfd)


def test_without_an_app_the_stack_says_so(capfd: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        stack.main([])
    assert caught.value.code == 2
    assert "MODULE:APP" in capfd.readouterr().err


@pytest.mark.parametrize("text", ["demo", "example.com:shop", "my-project-1", "test_2", "P"])
def test_an_id_of_a_project_is_accepted(text: str) -> None:
    assert options.project(text) == text


@pytest.mark.parametrize("text", ["0", "1", "65535", "08080"])
def test_a_port_is_accepted(text: str) -> None:
    assert options.port(text) == demo._port(text) == int(text)


@pytest.mark.parametrize("text", ["-1", "65536", "", "²", "8e1"])
def test_the_demo_refuses_the_same_ports(text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        demo._port(text)


def test_a_data_directory_is_created(tmp_path: Path) -> None:
    assert options.data_directory(str(tmp_path / "a" / "b")).is_dir()
