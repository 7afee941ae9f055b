"""The thread that requests what is due."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from gaetk_longtask.dev.cron.cron_yaml import Job, Table, read
from gaetk_longtask.dev.stoppable import Stoppable

_TICK_SECONDS = 1.0
#: As App Engine with automatic scaling.
_TIMEOUT_SECONDS = 600.0
_HEADERS = {"X-Appengine-Cron": "true", "User-Agent": "AppEngine-Google; (+http://code.google.com/appengine)"}


class Agenda:
    """When the jobs of a file are due. An interval begins when the file is read, and when its job was due."""

    def __init__(self, path: Path, service: str, now: datetime) -> None:
        self._path = path
        self._service = service
        self.table = Table()
        self._due: dict[Job, datetime] = {}
        self._stamp: object = None
        self.changed(now)

    def changed(self, now: datetime) -> bool:
        """Read the file again if it has changed, and return whether it had."""
        stamp = self._look()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        self.table = read(self._path, self._service)
        self._due = {job: job.schedule.next(now) for job in self.table.jobs}
        return True

    def take(self, now: datetime) -> list[Job]:
        """Return the jobs that are due, and plan them again."""
        jobs = [job for job, due in self._due.items() if due <= now]
        for job in jobs:
            self._due[job] = job.schedule.next(now)
        return jobs

    def lines(self) -> list[str]:
        """Return what there is to say about the file."""
        jobs = [f"{job.path} {job.text}" for job in self.table.jobs]
        return [f"{self._path}: {', '.join(jobs) or 'no jobs'}", *self.table.problems]

    def _look(self) -> object:
        try:
            stat = self._path.stat()
        except OSError:
            return "missing"
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


class Cron(Stoppable):
    """Requests the jobs of a file from the application at a URL. `log` gets a line about each request."""

    def __init__(self, path: Path, *, url: str, service: str, log: Callable[[str], None]) -> None:
        self._agenda = Agenda(path, service, _utc_now())
        self._address = urlsplit(url).netloc
        self._log = log
        self._ended = threading.Event()
        #: What there is to say about the file.
        self.lines = self._agenda.lines()
        threading.Thread(target=self._run, name="cron", daemon=True).start()

    def _run(self) -> None:
        while not self._ended.wait(_TICK_SECONDS):
            if self._agenda.changed(_utc_now()):
                for line in self._agenda.lines():
                    self._log(line)
            for job in self._agenda.take(_utc_now()):
                if not self._ended.is_set():
                    self._log(f"GET {job.path} -> {self._request(job)}")

    def _request(self, job: Job) -> str:
        began = time.monotonic()
        connection = http.client.HTTPConnection(self._address, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request("GET", job.path, headers=_HEADERS)
            status = str(connection.getresponse().status)
        except (OSError, http.client.HTTPException) as exc:
            status = f"no answer ({exc})"
        finally:
            connection.close()
        return f"{status} in {time.monotonic() - began:.2f} s"

    def stop(self) -> None:
        """Request nothing more. A request that is running is not waited for."""
        self._ended.set()


def _utc_now() -> datetime:
    return datetime.now(UTC)
