"""Sets up the log. It contains a line for each event of a task, such as ``longtask.finished``."""

from __future__ import annotations

import json
import logging
import os


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON, as Cloud Logging reads it.

    The record's level becomes the severity, and the fields of an event can be searched. The trace leads to the other
    lines of the same request.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON. A traceback is part of the message."""
        entry = {"severity": record.levelname, "message": super().format(record), **getattr(record, "json_fields", {})}
        if trace := getattr(record, "trace", None):
            entry["logging.googleapis.com/trace"] = trace
        return json.dumps(entry, default=str)


def set_up_logging() -> None:
    """Write records from INFO on to standard error: as JSON on App Engine, as text elsewhere."""
    handler = logging.StreamHandler()
    on_app_engine = os.environ.get("GAE_ENV") == "standard"
    handler.setFormatter(JsonFormatter() if on_app_engine else logging.Formatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
