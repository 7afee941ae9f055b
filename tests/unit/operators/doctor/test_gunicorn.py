"""The doctor reads an entrypoint like gunicorn does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gaetk_longtask.operators.doctor.gunicorn import Gunicorn, NotUnderstoodError, read_entrypoint


def read(entrypoint: str, directory: Path = Path("nowhere"), **env: str) -> Gunicorn:
    return read_entrypoint(entrypoint, env, directory)


def test_what_is_not_said_is_what_gunicorn_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--threads 3")  # of this process, not of the entrypoint
    found = read("gunicorn main:app")
    assert (found.workers, found.threads, found.worker_class_str, found.timeout) == (1, 1, "sync", 30)
    assert found.forwarded_allow_ips == ["127.0.0.1", "::1"]
    assert (found.header_map, found.forwarder_headers) == ("drop", ["SCRIPT_NAME", "PATH_INFO"])


def test_without_gunicorn_nothing_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gunicorn.config", None)
    with pytest.raises(NotUnderstoodError, match="is not installed here"):
        read("gunicorn main:app")


def test_short_and_long_options_are_understood() -> None:
    short = read("exec gunicorn -b :$PORT -w 2 -k gthread -t 0 --threads=4 main:app")
    assert (short.workers, short.worker_class_str, short.timeout, short.threads) == (2, "gthread", 0, 4)
    long = read("/usr/bin/gunicorn --workers 2 --worker-class gthread --timeout 0 --threads 4 main:app")
    assert long == short


def test_the_environment_counts_less_than_the_file_and_the_file_less_than_arguments(tmp_path: Path) -> None:
    assert read("gunicorn main:app", WEB_CONCURRENCY="3").workers == 3
    assert read("gunicorn main:app", FORWARDED_ALLOW_IPS="*").forwarded_allow_ips == ["*"]
    assert read("gunicorn main:app", GUNICORN_CMD_ARGS="--timeout 7").timeout == 7
    assert read("gunicorn -t 9 main:app", GUNICORN_CMD_ARGS="--timeout 7").timeout == 9
    (tmp_path / "gunicorn.conf.py").write_text("workers = 2\ntimeout = 5\nforwarded_allow_ips = '10.0.0.1,::1'\n")
    found = read("gunicorn -t 9 main:app", tmp_path, WEB_CONCURRENCY="3")
    assert (found.workers, found.timeout, found.forwarded_allow_ips) == (2, 9, ["10.0.0.1", "::1"])


def test_a_named_configuration_is_read(tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text("threads = 6\n")
    assert read("gunicorn -c conf.py main:app", tmp_path).threads == 6


@pytest.mark.parametrize(
    ("worker", "threads", "seconds"), [("sync", 1, 30), ("sync", 2, 0), ("gthread", 1, 0), ("gevent", 1, 0)]
)
def test_only_a_worker_that_can_not_say_that_it_lives_is_killed(worker: str, threads: int, seconds: int) -> None:
    assert read(f"gunicorn -k {worker} --threads {threads} main:app").kills_after_seconds == seconds


@pytest.mark.parametrize(
    ("entrypoint", "why"),
    [
        ("uwsgi --http :$PORT", "does not start gunicorn"),
        ("gunicorn 'main:app", "quotation"),
        ("gunicorn -w many main:app", "invalid int value"),
        ("gunicorn -c missing.py main:app", "missing.py is not a file here"),
        ("gunicorn -c python:conf main:app", "python:conf is not a file here"),
        ("gunicorn -c broken.py main:app", "broken.py raises ZeroDivisionError"),
        ("gunicorn -c odd.py main:app", "int"),
        ("gunicorn -c ended.py main:app", "ended.py raises SystemExit"),
        ("gunicorn --work 3 main:app", "ambiguous option: --work could match --work"),
        ("gunicorn main:app --threads", "expected one argument"),
        *(
            (f"gunicorn main:app {option}", "serves nothing")
            for option in ("--help", "-h", "--version", "-v", "--check-config", "--print-config")
        ),
    ],
)
def test_what_is_not_understood_is_said(
    entrypoint: str, why: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ended.py").write_text("raise SystemExit(0)\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "odd.py").write_text("workers = None\n")
    with pytest.raises(NotUnderstoodError, match=why):
        read(entrypoint, tmp_path)
    assert capfd.readouterr() == ("", "")


def test_an_option_in_the_environment_that_only_prints_is_said() -> None:
    with pytest.raises(NotUnderstoodError, match="serves nothing"):
        read("gunicorn main:app", GUNICORN_CMD_ARGS="--version")
