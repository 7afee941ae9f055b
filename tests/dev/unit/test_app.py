"""The settings that the local stack reads from app.yaml."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gaetk_longtask.dev.app import AppSettings, check_installed, gunicorn_options, read_app_yaml
from gaetk_longtask.dev.processes import MissingPieceError, StackError


def test_without_app_yaml_eight_threads_wait_for_ever(tmp_path: Path) -> None:
    settings = read_app_yaml(tmp_path / "app.yaml")
    assert settings.options == ("--worker-class", "gthread", "--threads", "8", "--timeout", "0")


def test_service_and_variables_come_from_app_yaml(tmp_path: Path) -> None:
    path = tmp_path / "app.yaml"
    path.write_text("runtime: python313\nservice: reports\nenv_variables:\n  MODE: test\n  SIZE: 2\n")
    settings = read_app_yaml(path)
    assert settings.service == "reports"
    assert settings.env_variables == {"MODE": "test", "SIZE": "2"}
    assert settings.options == AppSettings().options


def test_threads_and_timeout_come_from_the_entrypoint(tmp_path: Path) -> None:
    path = tmp_path / "app.yaml"
    path.write_text("runtime: python313\nentrypoint: gunicorn -b :$PORT -w 2 --threads 4 --timeout 90 main:app\n")
    assert read_app_yaml(path).options == ("--workers", "2", "--threads", "4", "--timeout", "90")


@pytest.mark.parametrize(
    ("entrypoint", "options"),
    [
        ("gunicorn -b :$PORT main:app", "--workers 1 --threads 2"),
        ("exec /usr/bin/gunicorn --threads=1 -t 0 main:app", "--workers 1 --threads 2 --timeout 0"),
        ("gunicorn -w 3 main:app", "--workers 3 --threads 1"),
        ("gunicorn -k gevent --threads 8 main:app", "--workers 1 --threads 8 --worker-class gevent"),
        ("python main.py", "--worker-class gthread --threads 8 --timeout 0"),
    ],
)
def test_there_is_room_for_two_requests_at_once(entrypoint: str, options: str) -> None:
    assert gunicorn_options(entrypoint) == tuple(options.split())


def test_an_entrypoint_that_is_not_understood_is_an_error() -> None:
    with pytest.raises(StackError, match="threads"):
        gunicorn_options("gunicorn --threads $THREADS main:app")


@pytest.mark.parametrize("text", ["runtime: [", "nonsense: 1"])
def test_a_broken_app_yaml_is_an_error_that_names_it(text: str, tmp_path: Path) -> None:
    path = tmp_path / "app.yaml"
    path.write_text(text)
    with pytest.raises(StackError, match=r"app\.yaml"):
        read_app_yaml(path)


@pytest.mark.parametrize(
    ("module", "package"), [("gunicorn", "gunicorn"), ("google.appengine", "appengine-python-standard")]
)
def test_a_missing_package_says_how_to_install_it(module: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPieceError, match=rf"{package} is not installed; pip install {package}$"):
        check_installed()


def test_all_missing_packages_are_installed_by_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("gunicorn", "google.appengine"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPieceError, match=r"pip install gunicorn appengine-python-standard$"):
        check_installed()
