"""The links of a task's pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from gaetk_longtask.info import TaskInfo, job_url


@dataclass(frozen=True, kw_only=True, slots=True)
class Links:
    """The visitor's links; None if a link is not possible now."""

    self: str  #: this page, fit for a bookmark
    result: str | None
    cancel: str | None  #: by POST
    retry: str | None  #: by POST
    start: str | None  #: starts an equal task, by GET; None also if the page's URL lacks some of its parameters
    form: str | None  #: where the visitor begins again, from the handler's `form_url`; None while the task may succeed
    refreshing: str  #: this page, which then refreshes automatically without JavaScript
    still: str  #: this page, which then does not refresh

    @classmethod
    def of(
        cls, info: TaskInfo, *, bookmark: str = "", start_url: str | None = None, form_url: str | None = None
    ) -> Self:
        """Return the links that are possible in this state; `bookmark` is the query with the task's parameters."""

        def link(job: str) -> str:
            return job_url(info.path, info.id, job) + (f"&{bookmark}" if bookmark else "")

        return cls(
            self=link("query"),
            result=link("showresult") if info.status.has_result else None,
            cancel=None if info.status.ended else link("cancel"),
            retry=link("retry") if info.status.may_retry else None,
            start=start_url if info.status.may_retry else None,
            form=form_url if info.status.may_retry else None,
            refreshing=link("query") + "&_longtaskrefresh=on",
            still=link("query") + "&_longtaskrefresh=off",
        )
