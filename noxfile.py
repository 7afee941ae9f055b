"""The project's nox sessions. Without arguments, `nox` runs lint, typing and tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "typing", "tests"]
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"

PYPROJECT = nox.project.load_toml("pyproject.toml")
GROUPS = PYPROJECT["dependency-groups"]

#: The required programs, and the Debian packages that contain them.
DEBIAN_PACKAGES = {
    "memcached": "memcached",
    "redis-server": "redis-server",
    "chromium": "chromium",
    "java": "default-jre-headless",
    "npm": "npm",
    "wrk": "wrk",
}
#: The npm packages that the browser tests need, and the folder for them.
NPM_PACKAGES, NPM_FOLDER = ("axe-core@4", "vnu-jar@26"), Path(".nox/npm")

#: The clients for Node that `peers` tries, and the folder for them.
NODE_CLIENTS, NODE_FOLDER = ("@google-cloud/datastore@10", "@google-cloud/tasks@6"), Path(".nox/npm-peers")

#: Two processes share the test files, in the order of `testpaths`. Each process starts its own services.
IN_PARALLEL = ("--numprocesses=2", "--dist=loadfile", "--no-loadscope-reorder")


def provide(session: nox.Session, *programs: str, required: bool = False) -> None:
    """Install missing programs if possible; otherwise print which ones are missing."""
    missing = [program for program in programs if shutil.which(program) is None]
    if not missing:
        return
    packages = [DEBIAN_PACKAGES[program] for program in missing]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        env = {"DEBIAN_FRONTEND": "noninteractive"}
        # 100 means that some lists could not be fetched. If that matters, the installation fails.
        session.run("apt-get", "update", "-qq", external=True, success_codes=[0, 100])
        session.run(
            "apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages, external=True, env=env, silent=True
        )
        return
    message = f"not found: {', '.join(missing)} (on Debian: apt-get install {' '.join(packages)})"
    if required:
        session.error(message)
    session.warn(message)


def provide_npm_packages(session: nox.Session, packages: tuple[str, ...], folder: Path, *, required: bool) -> None:
    """Install packages from npm, unless they are installed already."""
    if all((folder / "node_modules" / package.rpartition("@")[0]).is_dir() for package in packages):
        return
    provide(session, "npm", required=required)
    if shutil.which("npm"):
        folder.mkdir(parents=True, exist_ok=True)
        options = ["--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts"]
        session.run("npm", "install", *options, *packages, external=True, silent=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and import layers."""
    session.install(*GROUPS["lint"])
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports", "--no-cache")


@nox.session
def typing(session: nox.Session) -> None:
    """Check types with mypy in strict mode."""
    session.install("-e", ".[dev,redis]", *GROUPS["typing"], "nox")
    session.run("mypy", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests of the library in two processes and measure coverage. Arguments after `--` go to pytest instead."""
    required = os.environ.get("CI") == "true"
    provide(session, "memcached", "redis-server", "chromium", "java", required=required)
    provide_npm_packages(session, NPM_PACKAGES, NPM_FOLDER, required=required)
    session.install("-e", ".[test]")
    session.run("python", "-m", "pytest", *(session.posargs or ["--cov", *IN_PARALLEL]))


@nox.session
def tests_dev(session: nox.Session) -> None:
    """Run the tests of the local stack, as `tests` runs those of the library."""
    provide(session, "memcached", "redis-server", "java", required=os.environ.get("CI") == "true")
    session.install("-e", ".[test]")
    arguments = session.posargs or ["tests/dev", "--cov=gaetk_longtask/dev", *IN_PARALLEL]
    session.run("python", "-m", "pytest", *arguments, env={"COVERAGE_OMIT": ""})


@nox.session
def peers(session: nox.Session) -> None:
    """Compare our emulators with Google's, behaviour by behaviour. `-- --reasons` says why a behaviour is missing."""
    provide(session, "java")
    provide_npm_packages(session, NODE_CLIENTS, NODE_FOLDER, required=False)
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.peers", *session.posargs)
    session.run("python", "-m", "tests.peers.tasks", *session.posargs)


@nox.session
def dev_appserver(session: nox.Session) -> None:
    """Test the sample app under the Cloud SDK's dev_appserver.py, with our Cloud Tasks emulator."""
    provide(session, "memcached", "java", required=True)
    session.install("-e", ".[test]")
    session.run("python", "-m", "pytest", "tests/dev_appserver", *session.posargs)


@nox.session
def translations(session: nox.Session) -> None:
    """Update and compile the message catalogues. `-- fr nl` adds those for French and Dutch."""
    session.install("-e", ".", "babel>=2.14")
    session.run("python", "-m", "tools.translations", *session.posargs)


@nox.session
def screenshots(session: nox.Session) -> None:
    """Take the screenshots for the docs: all states of the waiting page, and the operators' overview."""
    provide(session, "chromium", "java")
    session.install("-e", ".[test]")
    session.run("python", "-m", "tools.screenshots")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into build/docs, with warnings as errors. `-- serve` shows a live preview."""
    session.install(*GROUPS["docs"])
    session.run("mkdocs", *(session.posargs or ["build", "--strict"]))


@nox.session
def demo(session: nox.Session) -> None:
    """Start the local stack and the sample app, and run both of its tasks. `-- --once` stops after the report."""
    provide(session, "memcached")
    session.install("-e", ".[dev]")
    # The stack ends what it started before it ends itself: leave it the time.
    session.run("python", "-m", "sample_app.demo", *session.posargs, interrupt_timeout=20, terminate_timeout=20)


@nox.session
def chaos(session: nox.Session) -> None:
    """Run 200 tasks while workers and services fail, and print the outcome. `-- --seed 7` repeats a run."""
    provide(session, "memcached", "java", required=os.environ.get("CI") == "true")
    session.install("-e", ".[test]")
    # It ends what it started before it ends itself: leave it the time.
    session.run("python", "-m", "tests.chaos", *session.posargs, interrupt_timeout=20, terminate_timeout=20)


@nox.session
def endurance(session: nox.Session) -> None:
    """Run tasks that take many attempts, kill their workers, and check every result."""
    provide(session, "memcached", "java", required=os.environ.get("CI") == "true")
    session.install("-e", ".[test]")
    # It ends what it started before it ends itself: leave it the time.
    session.run("python", "-m", "tests.endurance", *session.posargs, interrupt_timeout=20, terminate_timeout=20)


@nox.session
def bench(session: nox.Session) -> None:
    """Run all benchmarks and write docs/performance.md. `-- --quick` only checks that they run."""
    provide(session, "memcached", "redis-server", "java", "wrk", required=True)
    session.install("-e", ".[dev,redis]", *GROUPS["bench"])
    session.run("python", "-m", "benchmarks", *session.posargs, interrupt_timeout=20, terminate_timeout=20)


# With pip, because App Engine uses it.
@nox.session(venv_backend="virtualenv")
def deployable(session: nox.Session) -> None:
    """Check that requirements.txt is enough to load the sample app. Then check wheel and sdist."""
    session.install("--no-deps", "-r", "requirements.txt")
    session.run("python", "-m", "pip", "check")
    session.run("python", "-c", "import gaetk_longtask, sample_app.main")
    session.notify("wheel")


@nox.session(venv_backend="virtualenv")
def wheel(session: nox.Session) -> None:
    """Build wheel and sdist, install each into an empty environment, and run a task with it."""
    session.install("build", *PYPROJECT["build-system"]["requires"])
    dist = Path(session.create_tmp()).resolve()
    for left in dist.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    # pip builds the sdist in isolation, so a missing build requirement is noticed there.
    session.run("python", "-m", "build", "--no-isolation", "--outdir", str(dist), silent=True)
    for kind, extra in (("*.tar.gz", ""), ("*.whl", "[dev]")):
        [package] = dist.glob(kind)
        environment = dist / f"environment-{package.suffix[1:]}"
        session.run("python", "-m", "venv", "--without-pip", str(environment))
        python = str(environment / "bin" / "python")
        session.run("python", "-m", "pip", "--python", python, "install", "-q", "--no-compile", f"{package}{extra}")
        # -I ignores this folder and PYTHONPATH, so Python imports the installed package.
        session.run(python, "-I", str(Path("tests/installed.py").resolve()), external=True)


@nox.session(venv_backend="virtualenv")
def pin(session: nox.Session) -> None:
    """Write requirements.txt with the latest versions of everything that a deployment installs."""
    session.install("--upgrade", *PYPROJECT["project"]["dependencies"], "gunicorn")
    frozen = session.run("python", "-m", "pip", "freeze", silent=True)
    header = "# All packages of a deployment, with pinned versions. Written by `nox -s pin`; do not edit by hand.\n"
    Path("requirements.txt").write_text(header + str(frozen).strip() + "\n", encoding="utf-8")
