"""gunicorn, whose workers end when they are to, whatever their threads are still at."""

from __future__ import annotations

import os
import sys
from typing import Any

from gunicorn.app.wsgiapp import WSGIApplication


class _Gunicorn(WSGIApplication):  # type: ignore[misc]  # gunicorn is untyped
    def load_config(self) -> None:
        """Read all that gunicorn reads, and be called when a worker exits."""
        super().load_config()
        theirs = self.cfg.worker_exit

        def worker_exit(server: Any, worker: Any) -> None:
            theirs(server, worker)
            # Python would join the thread that works on a task, and until then nobody would serve the changed code.
            # What tells the arbiter of an application that does not load has no such threads.
            if worker.booted:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(0)

        self.cfg.set("worker_exit", worker_exit)


if __name__ == "__main__":
    _Gunicorn("%(prog)s [OPTIONS] [APP_MODULE]").run()
