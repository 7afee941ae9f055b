"""The log line of an attempt; it contains no headers, because they hold secrets."""

from __future__ import annotations

import re
from datetime import timedelta

from gaetk_longtask.dev.tasks_emulator.answers import Answer
from gaetk_longtask.dev.tasks_emulator.names import short_task_name
from gaetk_longtask.dev.tasks_emulator.requests import Outgoing
from gaetk_longtask.dev.tasks_emulator.scheduler import Attempt, Ending, Fate

_LONGEST_URL = 200
_PASSWORD = re.compile(r"//[^/?#]*@")
_LONGEST_NAME = 40


def describe(attempt: Attempt, request: Outgoing, answer: Answer, ending: Ending, took: timedelta) -> str:
    """Return the line, such as ``default/8f3a: GET http://127.0.0.1:8080/work -> 500 in 0.12 s; again in 1.0 s``."""
    queue, name = attempt.queue.name.queue, _shortened(short_task_name(attempt.task.name), _LONGEST_NAME)
    shown = str(answer.status) if answer.status is not None else answer.detail or str(answer.silence)
    line = f"{queue}/{name}: {request.method} {_shown(request.url)} -> {shown}"
    line += f" in {took.total_seconds():.2f} s"
    match ending.fate:
        case Fate.DONE:
            rest = f" (attempt {ending.attempts})" if ending.attempts > 1 else ""
        case Fate.RETRY:
            seconds = ending.again_in.total_seconds() if ending.again_in else 0
            rest = f" (attempt {ending.attempts}); again in {seconds:.1f} s"
        case Fate.GAVE_UP:
            rest = f" (attempt {ending.attempts}); gave up, the task is deleted"
        case Fate.GONE:
            rest = "; the task was deleted meanwhile or has another attempt"
    return line + rest


def _shown(url: str) -> str:
    return _shortened(_PASSWORD.sub("//", url), _LONGEST_URL)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
