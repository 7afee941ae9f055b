"""What messages and docs tell people to install can be typed, and is what was missing.

The library is on no package index yet. So a command names packages that are, or says that it is for a clone.
"""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.pages import PAGES, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def names(requirements: list[str]) -> set[str]:
    """Return the names of the packages in requirements."""
    return {re.split(r"[\[<>=]", requirement)[0] for requirement in requirements} - {PROJECT["name"]}


OURS = names(PROJECT["dependencies"]).union(*map(names, EXTRAS.values()))
#: They are no dependencies of ours, except ruamel.yaml, which comes with another one.
OTHERS = {"babel", "nox", "pre-commit", "pytest", "ruamel.yaml", "tqdm"}
SOURCES = [
    path
    for folder in ("gaetk_longtask", "sample_app", "tools", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
TEXTS = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "sample_app" / "README.md"]


#: An argument: quoted, or of the characters of packages and paths; a dot at the end belongs to the sentence.
_WORD = r"""(?:'[^'\n]*'|"[^"\n]*"|[\w./-]*\w|\.)"""


def installed_by(text: str) -> list[list[str]]:
    """Return the arguments of each ``pip install`` in a text."""
    return [shlex.split(command) for command in re.findall(rf"pip install ({_WORD}(?: {_WORD})*)", text)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_message_names_packages_that_can_be_installed(path: Path) -> None:
    for arguments in installed_by(path.read_text(encoding="utf-8")):
        assert set(arguments) <= OURS | OTHERS


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_installs_what_can_be_installed(page: Path) -> None:
    for arguments in installed_by(page.read_text(encoding="utf-8")):
        for argument in arguments:
            in_a_clone = re.fullmatch(r"(?:\.|\./gaetk_longtask-[\d.]+-py3-none-any\.whl)(?:\[([a-z,]+)\])?", argument)
            if in_a_clone:
                assert set((in_a_clone[1] or "dev").split(",")) <= EXTRAS.keys()
            else:
                assert argument in OURS | OTHERS | {"-r", "requirements.txt", "uv"}


def test_the_commands_are_found() -> None:
    assert installed_by("(pip install 'a>=1' b). Then") == [["a>=1", "b"]]
    assert installed_by('x; pip install "gaetk-longtask[dev]"') == [["gaetk-longtask[dev]"]]
    assert installed_by("pip install . && pip install -r requirements.txt") == [["."], ["-r", "requirements.txt"]]
    assert sum(len(installed_by(path.read_text(encoding="utf-8"))) for path in SOURCES) >= 5


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("flask", "flask"),
        ("google.cloud.ndb", "google-cloud-ndb"),
        ("google.cloud.tasks_v2", "google-cloud-tasks"),
        ("pymemcache", "pymemcache"),
        ("gunicorn", "gunicorn"),
        ("google.appengine", "appengine-python-standard"),
        ("cryptography", "cryptography"),
        ("redis", "redis"),
        ("ruamel.yaml", "ruamel.yaml"),
    ],
)
def test_a_package_has_the_module_that_was_missing(module: str, package: str) -> None:
    files = importlib.metadata.files(package) or []
    assert any(file.as_posix().startswith(module.replace(".", "/")) for file in files)


def errors_of(*arguments: str) -> str:
    """Run Python in the clone. It must fail. Return what it writes to standard error."""
    command = [sys.executable, *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    return run.stderr


@pytest.mark.parametrize("module", ["flask", "google.cloud.ndb", "google.cloud.tasks_v2", "pymemcache"])
def test_without_its_dependencies_the_library_says_what_to_install(module: str) -> None:
    program = f"import sys; sys.modules[{module!r}] = None; import gaetk_longtask"
    last = errors_of("-c", program).splitlines()[-1]
    assert last.startswith(f"ModuleNotFoundError: {module} is not installed. Run: pip install ")
    assert set(last.partition("pip install ")[2].split()) == names(PROJECT["dependencies"])


@pytest.mark.parametrize("module", ["dev", "dev.tasks_emulator", "dev.datastore_emulator"])
def test_a_clone_in_which_nothing_is_installed_says_what_to_install(module: str) -> None:
    last = errors_of("-S", "-m", f"gaetk_longtask.{module}").splitlines()[-1]  # -S leaves out all installed packages
    assert last.startswith("ModuleNotFoundError: ")
    assert last.endswith("is not installed. Run: pip install flask google-cloud-ndb google-cloud-tasks pymemcache")


def test_a_missing_module_of_the_library_is_no_missing_package() -> None:
    program = "import sys; sys.modules['gaetk_longtask.info'] = None; import gaetk_longtask"
    errors = errors_of("-c", program)
    assert "pip install" not in errors
    assert "gaetk_longtask.info" in errors.splitlines()[-1]
