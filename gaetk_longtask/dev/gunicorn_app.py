"""gunicorn with workers that end at once, even while their threads are working."""

from __future__ import annotations

import logging
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
        """Load the application, and show its events; mark the error if there is none."""
        try:
            loaded = super().load_wsgiapp()
        except AppImportError as exc:
            raise AppImportError(f"{NO_APPLICATION}{exc}") from exc
        except SystemExit as exc:
            # gunicorn would start one worker after the other. After this error it ends.
            raise RuntimeError(f"the application called sys.exit({exc.code!r}) when it was imported") from exc
        _show_events()
        return loaded


def _show_events() -> None:
    """Let the library's events be written, unless the application has decided about its logging."""
    events = logging.getLogger("gaetk_longtask.events")
    if events.getEffectiveLevel() == logging.WARNING:  # Python's default
        events.setLevel(logging.INFO)
    if not events.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        events.addHandler(handler)


if __name__ == "__main__":
    _Gunicorn("%(prog)s [OPTIONS] [APP_MODULE]").run()
