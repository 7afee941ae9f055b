"""What the local stack reads from a cron.yaml, and which jobs of it are due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gaetk_longtask.dev.cron.cron_yaml import Table, read
from gaetk_longtask.dev.cron.runner import Agenda

ROOT = Path(__file__).parents[4]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cron.yaml"


def table_of(path: Path, text: str) -> Table:
    path.write_text(text)
    return read(path, "default")


def test_the_sample_applications_jobs_are_read():
    table = read(ROOT / "cron.yaml", "default")

    assert [(job.path, job.text) for job in table.jobs] == [
        ("/_longtask/sweep", "every 5 minutes"),
        ("/_longtask/purge", "every 1 hours"),
    ]
    assert table.problems == ()


@pytest.mark.parametrize("text", ["", "cron:", "cron: []"])
def test_a_file_without_jobs_is_no_problem(path, text):
    assert table_of(path, text) == Table()


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("{url: /a, schedule: every blue moon}", "/a: the schedule 'every blue moon' is not understood"),
        ("{url: /a}", "/a: the schedule None is not understood"),
        (
            "{url: /a, schedule: every 1 minutes, target: worker}",
            "/a, which is for the service worker",
        ),
        ("{url: /a, schedule: every 1 minutes, timezone: Mars/X}", "/a: there is no time zone 'Mars/X'"),
        ("{url: a, schedule: every 1 minutes}", "'a' is not the path of a URL"),
        ('{url: "/a b", schedule: every 1 minutes}', "'/a b' is not the path of a URL"),
        ("{schedule: every 1 minutes}", "None is not the path of a URL"),
        ("text", "'text' is no job"),
    ],
)
def test_a_job_that_cannot_run_is_left_out_and_named(path, entry, says):
    table = table_of(path, f"cron: [{entry}, {{url: /good, schedule: every day 03:00, timezone: Europe/Berlin}}]")

    assert [job.path for job in table.jobs] == ["/good"]
    (problem,) = table.problems
    assert says in problem


@pytest.mark.parametrize(("text", "says"), [("cron: [", "can't be read"), ("cron: text", "has no list of jobs")])
def test_a_file_that_cannot_be_read_is_named(path, text, says):
    (problem,) = table_of(path, text).problems
    assert says in problem


def test_jobs_are_due_after_their_interval_and_again(path):
    path.write_text("cron: [{url: /a, schedule: every 2 minutes}, {url: /b, schedule: every 3 minutes}]")
    agenda = Agenda(path, "default", NOW)

    taken = [[job.path for job in agenda.take(NOW + number * MINUTE)] for number in range(7)]

    assert taken == [[], [], ["/a"], ["/b"], ["/a"], [], ["/a", "/b"]]


def test_a_changed_file_is_read_again(path):
    path.write_text("cron: [{url: /a, schedule: every 2 minutes}]")
    agenda = Agenda(path, "default", NOW)
    assert not agenda.changed(NOW)

    path.write_text("cron: [{url: /other, schedule: every 1 minutes}]")

    assert agenda.changed(NOW)
    assert [job.path for job in agenda.take(NOW + MINUTE)] == ["/other"]
    assert agenda.lines() == [f"{path}: /other every 1 minutes"]
