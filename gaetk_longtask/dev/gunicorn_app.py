"""gunicorn with workers that end at once, even while their threads are working."""

from __future__ import annotations

import os
import sys
from typing import Any

from gunicorn.app.wsgiapp import WSGIApplication
from gunicorn.errors import AppImportError

from gaetk_longtask.dev.options import NO_APPLICATION


class _Gunicorn(WSGIApplication):  # type: ignore[misc]  # gunicorn is untyped
    def load_config(self) -> None:
        """Load gunicorn's configuration, and add a hook to the exit of a worker."""
        super().load_config()
        theirs = self.cfg.worker_exit

        def worker_exit(server: Any, worker: Any) -> None:
            theirs(server, worker)
            # Python would wait for the thread that works on a task, and the changed code would not be served.
            # A worker that could not load the application has no such threads; its exit code matters.
            if worker.booted:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(0)

        self.cfg.set("worker_exit", worker_exit)

    def load_wsgiapp(self) -> Any:
        """Load the application; mark the error if there is none."""
        try:
            return super().load_wsgiapp()
        except AppImportError as exc:
            raise AppImportError(f"{NO_APPLICATION}{exc}") from exc


if __name__ == "__main__":
    _Gunicorn("%(prog)s [OPTIONS] [APP_MODULE]").run()
