"""An application with App Engine's bundled services, and a task that reads its own progress.

It runs in a separate process, because ``wrap_wsgi_app`` replaces parts of ``threading`` and ``os``. It prints the
task's result: the messages in memcache, in the order in which the task has reported them.
"""

from __future__ import annotations

import argparse
import threading
import time
from typing import Any

from flask import Flask
from google.appengine.api import wrap_wsgi_app
from google.cloud import ndb

from gaetk_longtask import LongRunningTaskHandler, LongTaskManager
from gaetk_longtask.testing import InMemoryQueue
from gaetk_longtask.web.current import current_runtime
from tests.api_server import TICKET
from tests.support import JSON, job, result_text

SECONDS = 10


class Report(LongRunningTaskHandler):
    def execute_task(self, parameters: Any) -> str:
        found = []
        for message in ("Reading", "Writing"):
            self.log_progress(message)
            found.append(self.kept(message))
        return " ".join(found)

    def kept(self, message: str) -> str:
        """Wait until the reporter's beat is in memcache."""
        progress, deadline = current_runtime().progress, time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            snapshot = progress.read(self.task.id)
            if snapshot is not None and snapshot.info.progress.message == message:
                return message
            time.sleep(0.05)
        return "nothing"


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--legacy-context", action="store_true")
    options.add_argument("--plain-threads", action="store_true")
    arguments = options.parse_args()
    start_new_thread = getattr(threading, "_start_new_thread", None)
    app, queue = Flask("wrapped"), InMemoryQueue()
    app.config["LONGTASK_PROGRESS_URL"] = "appengine:"
    LongTaskManager(app, ndb_client=ndb.Client(project="wrapped"), queue=queue)
    app.add_url_rule("/report", view_func=Report.as_view("report"))
    app.wsgi_app = wrap_wsgi_app(app.wsgi_app, use_legacy_context_mode=arguments.legacy_context)  # type: ignore[method-assign]  # Flask's own way
    if arguments.plain_threads:
        threading._start_new_thread = start_new_thread  # type: ignore[attr-defined]  # as from Python 3.13 on
    client = app.test_client()
    client.environ_base["HTTP_X_APPENGINE_API_TICKET"] = TICKET
    document = client.get("/report", headers=JSON).json
    queue.deliver(client)
    print(result_text(client.get(job(document["links"]["self"], "showresult"))))


if __name__ == "__main__":
    main()
