"""The lines of the log, as the terminal and Cloud Logging show them."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from sample_app.logs import JsonFormatter, set_up_logging


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("gaetk_longtask.events", logging.WARNING, __file__, 1, message, None, None)
    made.__dict__ |= extra
    return made


def test_a_line_for_cloud_logging_has_the_severity_the_fields_and_the_trace() -> None:
    fields = {"event": "failed", "endpoint": "import"}
    line = JsonFormatter().format(record("longtask.failed", json_fields=fields, trace="projects/p/traces/t"))
    assert json.loads(line) == {
        "severity": "WARNING",
        "message": "longtask.failed",
        "event": "failed",
        "endpoint": "import",
        "logging.googleapis.com/trace": "projects/p/traces/t",
    }


def test_a_traceback_is_part_of_the_message_and_of_the_same_line() -> None:
    failed = record("Exception on /import")
    try:
        int("no number")
    except ValueError:
        failed.exc_info = sys.exc_info()
    line = JsonFormatter().format(failed)
    assert "\n" not in line
    assert json.loads(line)["message"].endswith("'no number'")


@pytest.mark.parametrize(
    ("environment", "line"),
    [("standard", '{"severity": "INFO", "message": "longtask.created"}'), ("localdev", "INFO longtask.created")],
)
def test_events_are_logged_as_json_on_app_engine_and_as_text_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], environment: str, line: str
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])  # as in a new process
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setenv("GAE_ENV", environment)
    set_up_logging()
    logging.getLogger("gaetk_longtask.events").info("longtask.created")
    assert capsys.readouterr().err == f"{line}\n"
