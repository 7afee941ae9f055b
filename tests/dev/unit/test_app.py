"""The settings that the local stack reads from app.yaml."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from gaetk_longtask.dev.app import AppSettings, NoAppError, check_installed, check_target, read_app_yaml
from gaetk_longtask.dev.processes import MissingPieceError, StackError


def settings_for(tmp_path: Path, entrypoint: str | None) -> AppSettings:
    path = tmp_path / "app.yaml"
    path.write_text("runtime: python313\n" + (f"entrypoint: {entrypoint}\n" if entrypoint else ""))
    return read_app_yaml(path)


def test_without_app_yaml_eight_tasks_run_and_eight_visitors_are_served(tmp_path: Path) -> None:
    settings = read_app_yaml(tmp_path / "app.yaml")
    options = "--workers 1 --threads 16 --worker-class gthread --timeout 0"
    assert (settings.options, settings.tasks_at_once) == (tuple(options.split()), 8)


def test_service_and_variables_come_from_app_yaml(tmp_path: Path) -> None:
    path = tmp_path / "app.yaml"
    path.write_text("runtime: python313\nservice: reports\nenv_variables:\n  MODE: test\n  SIZE: 2\n")
    settings = read_app_yaml(path)
    assert settings.service == "reports"
    assert settings.env_variables == {"MODE": "test", "SIZE": "2"}
    assert settings.options == read_app_yaml(tmp_path / "none.yaml").options


@pytest.mark.parametrize(
    ("entrypoint", "options", "tasks_at_once"),
    [
        ("gunicorn -b :$PORT -w 2 --threads 4 --timeout 90 main:app", "--workers 2 --threads 16 --timeout 90", 8),
        ("gunicorn -b :$PORT main:app", "--workers 1 --threads 10", 2),
        ("exec /usr/bin/gunicorn --threads=1 -t 0 main:app", "--workers 1 --threads 10 --timeout 0", 2),
        ("gunicorn -w 3 main:app", "--workers 3 --threads 11", 3),
        ("gunicorn -k sync -w 1 main:app", "--workers 1 --threads 10 --worker-class sync", 2),
        ("gunicorn -k gthread --threads 40 main:app", "--workers 1 --threads 48 --worker-class gthread", 40),
        ("gunicorn -k gevent --threads 8 main:app", "--workers 1 --threads 8 --worker-class gevent", None),
        (
            "gunicorn -k uvicorn.workers.UvicornWorker main:app",
            "--workers 1 --threads 1 --worker-class uvicorn.workers.UvicornWorker",
            None,
        ),
        ("python main.py", "--workers 1 --threads 16 --worker-class gthread --timeout 0", 8),
        (None, "--workers 1 --threads 16 --worker-class gthread --timeout 0", 8),
    ],
)
def test_every_worker_has_threads_for_all_tasks_and_for_visitors(
    tmp_path: Path, entrypoint: str | None, options: str, tasks_at_once: int | None
) -> None:
    settings = settings_for(tmp_path, entrypoint)
    assert (settings.options, settings.tasks_at_once) == (tuple(options.split()), tasks_at_once)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--threads $THREADS main:app", "threads"),
        ("--threads", "expected one argument"),
        ("--work 3 main:app", "ambiguous option: --work could match --work"),
        *((option, "serves nothing") for option in ("--help", "-h", "--version", "-v", "main:app --help")),
        ("'main:app", "No closing quotation"),
    ],
)
def test_an_entrypoint_that_is_not_understood_is_an_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], options: str, reason: str
) -> None:
    with pytest.raises(StackError, match=f"^app: the entrypoint in app.yaml is not understood: .*{reason}"):
        settings_for(tmp_path, f"gunicorn {options}")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "target",
    [
        *("main:app", "main", "main:create_app()", 'main:create("x", y=1)', "shop:app", "shop.web:app"),
        *("space:app", "space.inner:app", "json:app", "xml.dom:app", "größe:app"),
        *("os.path:x", "odd:app", "concurrent.futures:app"),
    ],
)
def test_a_module_that_is_there_is_found_without_its_import(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "odd", ModuleType("odd"))  # without a spec
    for name in ("main.py", "größe.py", "shop/__init__.py", "shop/web.py", "space/inner.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise SystemExit(7)\n")
    check_target(target)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nosuch:app", "there is no module 'nosuch' in "),
        ("nosuch", "there is no module"),
        ("main.nosuch:app", "there is no module"),
        ("json.nosuch:app", "there is no module"),
        ("main.py", "write main instead"),
        ("main.py:app", "write main:app instead"),
        ("", "not of the form MODULE:APP"),
        (":app", "not of the form"),
        ("main:", "not of the form"),
        ("./main:app", "not of the form"),
        ("shop/main.py:app", "not of the form"),
        ("main app", "not of the form"),
        (".main:app", "not of the form"),
        ("main..app", "not of the form"),
        ("--app", "not of the form"),
        ("__main__:app", "there is no module"),
        ("__main__.app:app", "there is no module"),
        ("os.nosuch:x", "there is no module"),
        ("odd.nosuch:x", "there is no module"),
        ("x" * 5000, "there is no module"),
    ],
)
def test_a_target_that_leads_nowhere_is_named_in_one_line(
    target: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "odd", ModuleType("odd"))  # without a spec
    (tmp_path / "main.py").touch()
    with pytest.raises(NoAppError) as caught:
        check_target(target)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


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
