"""One line for people about each attempt; headers are not in it, they hold secrets."""

from __future__ import annotations

import re
from datetime import timedelta

from gaetk_longtask.dev.tasks_emulator.names import short_task_name
from gaetk_longtask.dev.tasks_emulator.outcomes import Outcome
from gaetk_longtask.dev.tasks_emulator.requests import Outgoing
from gaetk_longtask.dev.tasks_emulator.scheduler import Attempt, Fate, Verdict

_LONGEST_URL = 200
_PASSWORD = re.compile(r"//[^/?#]*@")
_LONGEST_NAME = 40


def describe(attempt: Attempt, request: Outgoing, outcome: Outcome, verdict: Verdict, took: timedelta) -> str:
    """Return the line, such as ``default/8f3a: GET http://127.0.0.1:8080/work -> 500 in 0.12 s; again in 1.0 s``."""
    queue, name = attempt.queue.name.queue, _shortened(short_task_name(attempt.task.name), _LONGEST_NAME)
    answer = str(outcome.status) if outcome.status is not None else outcome.detail or str(outcome.silence)
    line = f"{queue}/{name}: {request.method} {_shown(request.url)} -> {answer}"
    line += f" in {took.total_seconds():.2f} s"
    match verdict.fate:
        case Fate.DONE:
            rest = f" (attempt {verdict.attempts})" if verdict.attempts > 1 else ""
        case Fate.RETRY:
            seconds = verdict.again_in.total_seconds() if verdict.again_in else 0
            rest = f" (attempt {verdict.attempts}); again in {seconds:.1f} s"
        case Fate.GAVE_UP:
            rest = f" (attempt {verdict.attempts}); gave up, the task is deleted"
        case Fate.GONE:
            rest = "; the task was deleted meanwhile or has another attempt"
    return line + rest


def _shown(url: str) -> str:
    return _shortened(_PASSWORD.sub("//", url), _LONGEST_URL)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
