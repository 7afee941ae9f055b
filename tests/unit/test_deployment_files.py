"""The files for the deployment, read with Google's own parsers."""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from google.appengine.api import appinfo, croninfo, queueinfo
from google.appengine.datastore import datastore_index
from gunicorn.config import Config as GunicornConfig
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PARSERS = {
    "cron.yaml": croninfo.LoadSingleCron,
    "index.yaml": datastore_index.ParseIndexDefinitions,
    "queue.yaml": queueinfo.LoadSingleQueue,
}
#: The files that `gcloud app deploy` accepts. All files without their own parser describe a service, like app.yaml.
FILES = sorted(path.name for path in ROOT.glob("[!.]*.yaml"))


@pytest.fixture
def app_yaml():
    return appinfo.LoadSingleAppInfo((ROOT / "app.yaml").read_text())


@pytest.fixture
def worker_yaml():
    return appinfo.LoadSingleAppInfo((ROOT / "worker.yaml").read_text())


def arguments_of(service):
    """Return the entrypoint's arguments, read with gunicorn's own parser."""
    program, *arguments = shlex.split(service.entrypoint.removeprefix("exec "))
    assert program == "gunicorn"
    return GunicornConfig().parser().parse_args(arguments)


@pytest.fixture
def gunicorn(app_yaml):
    return arguments_of(app_yaml)


@pytest.fixture
def default_queue():
    (queue,) = queueinfo.LoadSingleQueue((ROOT / "queue.yaml").read_text()).queue
    return queue


@pytest.fixture
def pins():
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lines)}


@pytest.fixture
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_well_formed(name):
    parse = PARSERS.get(name, appinfo.LoadSingleAppInfo)
    assert parse((ROOT / name).read_text()) is not None


def test_the_runtime_is_a_python_that_the_project_declares(app_yaml, project):
    major, minor = re.fullmatch(r"python(3)(\d\d)", app_yaml.runtime).groups()
    assert f"Programming Language :: Python :: {major}.{minor}" in project["classifiers"]


def test_a_long_request_does_not_end_its_worker(gunicorn):
    assert gunicorn.timeout == 0


def test_no_request_waits_for_a_thread(app_yaml, gunicorn):
    assert gunicorn.worker_class == "gthread"
    assert gunicorn.threads >= int(app_yaml.automatic_scaling.max_concurrent_requests)


def test_the_worker_is_the_same_application_with_24_hours_for_a_request(app_yaml, worker_yaml):
    assert worker_yaml.service == "worker"
    assert worker_yaml.basic_scaling
    assert worker_yaml.runtime == app_yaml.runtime
    assert (arguments_of(worker_yaml).timeout, arguments_of(worker_yaml).args) == (0, arguments_of(app_yaml).args)


def test_the_entrypoint_names_the_sample_app(gunicorn):
    (target,) = gunicorn.args
    module, _, name = target.partition(":")
    assert name == "app"
    assert importlib.util.find_spec(module)


def test_the_queue_never_gives_up_by_itself(default_queue):
    assert default_queue.name == "default"
    retry = default_queue.retry_parameters
    assert (retry.task_retry_limit, retry.task_age_limit) == (None, None)


def test_the_queue_tries_again_after_a_second_and_then_within_a_minute(default_queue):
    retry = default_queue.retry_parameters
    assert (retry.min_backoff_seconds, retry.max_backoff_seconds, retry.max_doublings) == (1, 60, 6)


def test_cron_calls_what_the_library_offers():
    jobs = croninfo.LoadSingleCron((ROOT / "cron.yaml").read_text()).cron
    assert [job.url for job in jobs] == ["/_longtask/sweep", "/_longtask/purge"]


def test_app_engine_finds_only_the_pinned_dependencies():
    assert "/pyproject.toml" in (ROOT / ".gcloudignore").read_text().splitlines()


def test_the_pins_satisfy_what_the_library_requires(pins, project):
    required = [Requirement(line) for line in project["dependencies"]]
    unsatisfied = [str(one) for one in required if pins[canonicalize_name(one.name)] not in one.specifier]
    assert unsatisfied == []


def test_the_server_of_the_entrypoint_is_pinned(pins, project):
    (required,) = [Requirement(line) for line in project["optional-dependencies"]["dev"] if line.startswith("gunicorn")]
    assert pins["gunicorn"] in required.specifier
