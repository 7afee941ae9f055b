"""The links of a task's pages."""

from __future__ import annotations

from dataclasses import dataclass

from gaetk_longtask.info import TaskInfo, job_url


@dataclass(frozen=True, kw_only=True, slots=True)
class Links:
    """The visitor's links, each built when it is asked for; None if a link is not possible now."""

    task: TaskInfo
    bookmark: str = ""  #: the query with the task's parameters
    start_url: str | None = None
    form_url: str | None = None

    @property
    def self(self) -> str:
        """This page, fit for a bookmark."""
        return self._link("query")

    @property
    def result(self) -> str | None:
        """The result."""
        return self._link("showresult") if self.task.status.has_result else None

    @property
    def cancel(self) -> str | None:
        """Cancels the task, by POST."""
        return None if self.task.status.ended else self._link("cancel")

    @property
    def retry(self) -> str | None:
        """Starts the task again, by POST."""
        return self._link("retry") if self.task.status.may_retry else None

    @property
    def start(self) -> str | None:
        """Starts an equal task, by GET; None also if the page's URL lacks some of its parameters."""
        return self.start_url if self.task.status.may_retry else None

    @property
    def form(self) -> str | None:
        """Where the visitor begins again, from the handler's `form_url`; None while the task may succeed."""
        return self.form_url if self.task.status.may_retry else None

    @property
    def refreshing(self) -> str:
        """This page, which then refreshes automatically without JavaScript."""
        return self._link("query") + "&_longtaskrefresh=on"

    @property
    def still(self) -> str:
        """This page, which then does not refresh."""
        return self._link("query") + "&_longtaskrefresh=off"

    def _link(self, job: str) -> str:
        url = job_url(self.task.path, self.task.id, job)
        return f"{url}&{self.bookmark}" if self.bookmark else url
