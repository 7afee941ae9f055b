"""The doctor reads an entrypoint like gunicorn does."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from gunicorn.config import Config

from gaetk_longtask.operators.doctor.gunicorn import Gunicorn, NotUnderstoodError, read_entrypoint


def read(entrypoint: str, directory: Path = Path("nowhere"), **env: str) -> Gunicorn:
    return read_entrypoint(entrypoint, env, directory)


@pytest.mark.parametrize("name", [field.name for field in fields(Gunicorn)])
def test_what_is_not_said_is_what_gunicorn_takes(name: str) -> None:
    theirs = Config().settings[name]
    ours = getattr(Gunicorn(), name)
    assert theirs.validator(str(ours)) == theirs.validator(str(theirs.default)) or str(theirs.default) == str(ours)


def test_short_and_long_options_are_understood() -> None:
    short = read("exec gunicorn -b :$PORT -w 2 -k gthread -t 0 --threads=4 main:app")
    assert (short.workers, short.worker_class, short.timeout, short.threads) == (2, "gthread", 0, 4)
    long = read("/usr/bin/gunicorn --workers 2 --worker-class gthread --timeout 0 --threads 4 main:app")
    assert long == short


def test_the_environment_counts_less_than_the_file_and_the_file_less_than_arguments(tmp_path: Path) -> None:
    assert read("gunicorn main:app", WEB_CONCURRENCY="3").workers == 3
    assert read("gunicorn main:app", GUNICORN_CMD_ARGS="--timeout 7").timeout == 7
    (tmp_path / "gunicorn.conf.py").write_text("workers = 2\ntimeout = 5\nforwarded_allow_ips = ['10.0.0.1', '::1']\n")
    found = read("gunicorn -t 9 main:app", tmp_path, WEB_CONCURRENCY="3")
    assert (found.workers, found.timeout, found.forwarded_allow_ips) == (2, 9, "10.0.0.1,::1")


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
    ],
)
def test_what_is_not_understood_is_said(entrypoint: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "odd.py").write_text("workers = None\n")
    with pytest.raises(NotUnderstoodError, match=why):
        read(entrypoint, tmp_path)
