"""The context of the page with the visitor's own tasks."""

from __future__ import annotations

from dataclasses import dataclass

from gaetk_longtask.web.pages.base import ListPage
from gaetk_longtask.web.pages.status_page import StatusPage


@dataclass(frozen=True, kw_only=True, slots=True)
class MinePage(ListPage):
    """The values and functions that `mine.html` may use."""

    rows: list[StatusPage]  #: the tasks, the youngest first
    older: str | None  #: the URL of the next page; None on the last one
