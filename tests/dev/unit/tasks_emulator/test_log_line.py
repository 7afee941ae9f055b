"""The Cloud Tasks emulator's line in the log for an attempt."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gaetk_longtask.dev.tasks_emulator.answers import Answer, Silence
from gaetk_longtask.dev.tasks_emulator.log_line import describe
from gaetk_longtask.dev.tasks_emulator.requests import Routes, outgoing
from gaetk_longtask.dev.tasks_emulator.scheduler import Ending, Fate
from gaetk_longtask.dev.tokens import Signer
from tests.dev.unit.tasks_emulator.messages import app_engine_task, attempt, http_task

APP = "http://127.0.0.1:8080"
ROUTES = Routes(app_url=APP)
SIGNER = Signer()
SECRETIVE = app_engine_task(uri="/work?a=b", headers={"X-Execute-Key": "s3cret"}, body=b"b0dy")
TOOK = timedelta(seconds=0.123)


@pytest.mark.parametrize(
    ("answer", "ending", "rest"),
    [
        (Answer(status=200), Ending(fate=Fate.DONE, attempts=1), "200 in 0.12 s"),
        (Answer(status=200), Ending(fate=Fate.DONE, attempts=4), "200 in 0.12 s (attempt 4)"),
        (
            Answer(status=500),
            Ending(fate=Fate.RETRY, attempts=2, again_in=timedelta(seconds=1.5)),
            "500 in 0.12 s (attempt 2); again in 1.5 s",
        ),
        (
            Answer(silence=Silence.DEADLINE, detail="no answer within 15 s"),
            Ending(fate=Fate.GAVE_UP, attempts=5),
            "no answer within 15 s in 0.12 s (attempt 5); gave up, the task is deleted",
        ),
        (
            Answer(status=500),
            Ending(fate=Fate.GONE, attempts=1),
            "500 in 0.12 s; the task was deleted meanwhile or has another attempt",
        ),
    ],
)
def test_an_attempt_is_told_in_one_line_without_its_secrets(answer, ending, rest):
    made = attempt(SECRETIVE)

    line = describe(made, outgoing(made, ROUTES, SIGNER), answer, ending, TOOK)

    assert line == f"default/t: POST {APP}/work?a=b -> {rest}"


def test_a_long_url_is_shortened_in_the_log():
    made = attempt(app_engine_task(uri="/" + "x" * 2000))

    line = describe(made, outgoing(made, ROUTES, SIGNER), Answer(status=200), Ending(fate=Fate.DONE, attempts=1), TOOK)

    assert len(line) < 300
    assert "…" in line


def test_a_password_in_a_url_is_not_logged():
    made = attempt(http_task(url="http://user:s3cret@h/x@y"))

    line = describe(made, outgoing(made, ROUTES, SIGNER), Answer(status=200), Ending(fate=Fate.DONE, attempts=1), TOOK)

    assert "POST http://h/x@y ->" in line
