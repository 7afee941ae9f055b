"""The project's sessions; `nox` alone runs lint, typing and tests."""

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

#: Program to look for, and the Debian package that brings it.
DEBIAN_PACKAGES = {
    "memcached": "memcached",
    "redis-server": "redis-server",
    "chromium": "chromium",
    "java": "default-jre-headless",
    "npm": "npm",
    "wrk": "wrk",
}
#: What the browser tests need of npm, and the folder that they look for it in.
NPM_PACKAGES, NPM_FOLDER = ("axe-core@4", "vnu-jar@26"), Path(".nox/npm")

#: Two processes share the tests, a file at a time, in the order of `testpaths`; each starts services of its own.
IN_PARALLEL = ("--numprocesses=2", "--dist=loadfile", "--no-loadscope-reorder")


def provide(session: nox.Session, *programs: str, required: bool = False) -> None:
    """Install the programs that are missing where that is possible, and name them where it is not."""
    missing = [program for program in programs if shutil.which(program) is None]
    if not missing:
        return
    packages = [DEBIAN_PACKAGES[program] for program in missing]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        env = {"DEBIAN_FRONTEND": "noninteractive"}
        # 100: some list could not be fetched; whether that matters shows when the packages are installed.
        session.run("apt-get", "update", "-qq", external=True, success_codes=[0, 100])
        session.run(
            "apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages, external=True, env=env, silent=True
        )
        return
    message = f"not found: {', '.join(missing)} (on Debian: apt-get install {' '.join(packages)})"
    if required:
        session.error(message)
    session.warn(message)


def provide_npm_packages(session: nox.Session, *, required: bool) -> None:
    """Have npm fetch what the browser tests need, unless it is there."""
    modules = NPM_FOLDER / "node_modules"
    if all((modules / package.partition("@")[0]).is_dir() for package in NPM_PACKAGES):
        return
    provide(session, "npm", required=required)
    if shutil.which("npm"):
        NPM_FOLDER.mkdir(parents=True, exist_ok=True)
        options = ["--prefix", str(NPM_FOLDER), "--no-audit", "--no-fund", "--ignore-scripts"]
        session.run("npm", "install", *options, *NPM_PACKAGES, external=True, silent=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and the layers of imports."""
    session.install(*GROUPS["lint"])
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports", "--no-cache")


@nox.session
def typing(session: nox.Session) -> None:
    """Check types: mypy, strict."""
    session.install("-e", ".[dev,redis]", *GROUPS["typing"], "nox")
    session.run("mypy", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests of the library in two processes and measure coverage; instead, pass what follows `--` to pytest."""
    required = os.environ.get("CI") == "true"
    provide(session, "memcached", "redis-server", "chromium", "java", required=required)
    provide_npm_packages(session, required=required)
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
def dev_appserver(session: nox.Session) -> None:
    """Run the sample app under the Cloud SDK's dev_appserver.py, with our Cloud Tasks emulator beside it."""
    provide(session, "memcached", "java", required=True)
    session.install("-e", ".[test]")
    session.run("python", "-m", "pytest", "tests/dev_appserver", *session.posargs)


@nox.session
def translations(session: nox.Session) -> None:
    """Bring the catalogues up to date and compile them; `-- fr` makes one for French."""
    session.install("-e", ".", "babel>=2.14")
    session.run("python", "-m", "tools.translations", *session.posargs)


@nox.session
def screenshots(session: nox.Session) -> None:
    """Take the pictures for the docs: the waiting page in all of its states, and the operators' list."""
    provide(session, "chromium", "java")
    session.install("-e", ".[test]")
    session.run("python", "-m", "tools.screenshots")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into build/docs, warnings being errors; `-- serve` shows it while you write."""
    session.install(*GROUPS["docs"])
    session.run("mkdocs", *(session.posargs or ["build", "--strict"]))


@nox.session
def demo(session: nox.Session) -> None:
    """Start the local stack and the sample app, run both of its tasks; `-- --once` ends after the report."""
    provide(session, "memcached")
    session.install("-e", ".[dev]")
    # The stack ends what it started before it ends itself: leave it the time.
    session.run("python", "-m", "sample_app.demo", *session.posargs, interrupt_timeout=20, terminate_timeout=20)


@nox.session
def chaos(session: nox.Session) -> None:
    """Put 200 tasks under fire for some minutes and print what became of them; `-- --seed 7` repeats a run."""
    provide(session, "memcached", "java", required=os.environ.get("CI") == "true")
    session.install("-e", ".[test]")
    # It ends what it started before it ends itself: leave it the time.
    session.run("python", "-m", "tests.chaos", *session.posargs, interrupt_timeout=20, terminate_timeout=20)


@nox.session
def endurance(session: nox.Session) -> None:
    """Hand a minute's work over every three seconds, import invoices 40 times, and kill those who work on it."""
    provide(session, "memcached", "java", required=os.environ.get("CI") == "true")
    session.install("-e", ".[test]")
    # It ends what it started before it ends itself: leave it the time.
    session.run("python", "-m", "tests.endurance", *session.posargs, interrupt_timeout=20, terminate_timeout=20)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure everything beside what others would take, and write docs/performance.md; `-- --quick` tries it."""
    provide(session, "memcached", "redis-server", "java", "wrk", required=True)
    session.install("-e", ".[dev,redis]", *GROUPS["bench"])
    session.run("python", "-m", "benchmarks", *session.posargs, interrupt_timeout=20, terminate_timeout=20)


# With pip, as App Engine does it.
@nox.session(venv_backend="virtualenv")
def deployable(session: nox.Session) -> None:
    """Check that requirements.txt is complete and alone enough to load the sample app; then wheel and sdist."""
    session.install("--no-deps", "-r", "requirements.txt")
    session.run("python", "-m", "pip", "check")
    session.run("python", "-c", "import gaetk_longtask, sample_app.main")
    session.notify("wheel")


@nox.session(venv_backend="virtualenv")
def wheel(session: nox.Session) -> None:
    """Build wheel and sdist, install each into an empty environment, and have it serve and work there."""
    session.install("build", *PYPROJECT["build-system"]["requires"])
    dist = Path(session.create_tmp()).resolve()
    for left in dist.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    # pip isolates the build of the sdist, so that it finds out if a requirement is missing.
    session.run("python", "-m", "build", "--no-isolation", "--outdir", str(dist), silent=True)
    for kind, extra in (("*.tar.gz", ""), ("*.whl", "[dev]")):
        [package] = dist.glob(kind)
        environment = dist / f"environment-{package.suffix[1:]}"
        session.run("python", "-m", "venv", "--without-pip", str(environment))
        python = str(environment / "bin" / "python")
        session.run("python", "-m", "pip", "--python", python, "install", "-q", "--no-compile", f"{package}{extra}")
        # -I: neither this folder nor what the environment says; the package is found where it was installed.
        session.run(python, "-I", str(Path("tests/installed.py").resolve()), external=True)


@nox.session(venv_backend="virtualenv")
def pin(session: nox.Session) -> None:
    """Write requirements.txt: what a deployment installs, to the last version as of today."""
    session.install("--upgrade", *PYPROJECT["project"]["dependencies"], "gunicorn")
    frozen = session.run("python", "-m", "pip", "freeze", silent=True)
    header = "# What a deployment installs, every version pinned. Written by `nox -s pin`; not edited by hand.\n"
    Path("requirements.txt").write_text(header + str(frozen).strip() + "\n", encoding="utf-8")
