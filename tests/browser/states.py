"""The states of our pages, with functions that bring them about."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from playwright.sync_api import Page

from gaetk_longtask import LongTaskManager, Status
from gaetk_longtask.info import Parts, Phase
from tests.browser.stage import Stage

FACTS = {"imported": 12_480, "file": "invoices-2026-03.csv"}
IN_PHASES = {
    "message": "Checking line 7 of 12,500",
    "step": 7,
    "total_steps": 12_500,
    "eta_seconds": 128,
    "phase": Phase(name="Checking", number=2, count=3),
    "share": 0.42,
    "facts": FACTS,
}
IN_PARTS = {
    "message": "Reading 2026-03",
    "parts": Parts(done=3, total=12),
    "share": 0.29,
    "eta_seconds": 128,
}
WORKING = {"message": "Reading the invoices of March", "step": 120, "total_steps": 283, "eta_seconds": 128}


def _usual(stage: Stage) -> str:
    """A task without steps, of a kind that usually takes 40 seconds."""
    return stage.page(stage.task(Status.STARTED, message="Asking the customs office", eta_seconds=36))


def _working(stage: Stage) -> str:
    """A task that took 88 seconds for 42 %, and will take 2 more minutes."""
    task_id = stage.task(Status.STARTED)
    stage.report(task_id, seconds=84, **WORKING)
    return stage.page(task_id)


def _finished_with_facts(stage: Stage) -> str:
    task_id = stage.task(Status.FINISHED, endpoint="import")
    with stage.services.ndb_context():
        task = stage.find(task_id)
        task.progress_stored |= {"facts": FACTS}
        task.save()
        stage.services.store.publish(task)
    return stage.page(task_id, endpoint="import")


def _delayed(stage: Stage) -> str:
    with stage.app.app_context():
        task = LongTaskManager.start("report", {"month": "March"}, delay=timedelta(hours=2))
    return stage.page(task.id)


def _second_attempt(stage: Stage) -> str:
    task_id = stage.task(Status.ERROR)
    stage.begin(task_id)
    stage.report(task_id, seconds=84, **WORKING)
    return stage.page(task_id)


def _expired(stage: Stage) -> str:
    task_id = stage.task(Status.FINISHED)
    with stage.services.ndb_context():
        task = stage.find(task_id)
        task.expires_at = stage.clock() - timedelta(days=1)
        task.save()
        stage.services.store.publish(task)
    return stage.page(task_id)


def _damaged(stage: Stage) -> str:
    task_id = stage.task(Status.FINISHED)
    stage.damage(task_id)
    return stage.page(task_id, job="showresult")


def _text(stage: Stage) -> str:
    return stage.page(stage.task(Status.DONE, endpoint="notes"), job="showresult", endpoint="notes")


def _explained(stage: Stage) -> str:
    return stage.page(stage.task(Status.FAILED, error="There are no invoices in March 2031."))


def _broken(stage: Stage) -> str:
    return f"{stage.url}/report?_longtaskjob=query"


#: The name of each state, and a function that brings it about and returns its URL.
STATES: dict[str, Callable[[Stage], str]] = {
    "waiting": lambda stage: stage.page(stage.task()),
    "starting-later": _delayed,
    "working": _working,
    "working-without-steps": _usual,
    "working-in-phases": lambda stage: stage.page(
        stage.task(Status.STARTED, endpoint="import", **IN_PHASES), endpoint="import"
    ),
    "working-in-parts": lambda stage: stage.page(stage.task(Status.STARTED, **IN_PARTS)),
    "trying-again": lambda stage: stage.page(stage.task(Status.ERROR)),
    "second-attempt": _second_attempt,
    "finished": lambda stage: stage.page(stage.task(Status.FINISHED)),
    "finished-with-facts": _finished_with_facts,
    "failed": lambda stage: stage.page(stage.task(Status.FAILED)),
    "failed-explained": _explained,
    "cancelled": lambda stage: stage.page(stage.task(Status.CANCELLED)),
    "expired": _expired,
    "unknown": lambda stage: stage.page("A" * 22),
    "text": _text,
    "damaged": _damaged,
    "unpressed": lambda stage: stage.page(stage.task(), job="cancel"),
    "problem": _broken,
    "start": lambda stage: f"{stage.url}/report?month=March",
}


def _everything(stage: Stage) -> str:
    """The operators' overview, with tasks in every state."""
    for status in Status:
        stage.task(status, **(WORKING if status is Status.STARTED else {}))
    stage.task(Status.STARTED, endpoint="import", **IN_PHASES)
    return f"{stage.url}/_longtask/tasks"


def _mine(stage: Stage) -> str:
    """The visitor's own list, with tasks in every state."""
    for status in Status:
        stage.task(status, created_by="visitor", **(WORKING if status is Status.STARTED else {}))
    stage.task(Status.STARTED, endpoint="import", created_by="visitor", **IN_PHASES)
    stage.task(Status.FAILED, created_by="visitor", error="There are no invoices in March 2031.")
    return f"{stage.url}/_longtask/mine"


def _overseen(stage: Stage, task_id: str) -> str:
    return f"{stage.url}/_longtask/tasks/{task_id}?parameters=show"


#: The pages with several tasks: those for operators, and the visitor's own list.
OVERVIEW: dict[str, Callable[[Stage], str]] = {
    "overview": _everything,
    "overview-filtered": lambda stage: f"{stage.url}/_longtask/tasks?status=failed&endpoint=export&older=1h",
    "overview-working": lambda stage: _overseen(stage, stage.task(Status.STARTED, **WORKING)),
    "overview-phases": lambda stage: _overseen(stage, stage.task(Status.STARTED, endpoint="import", **IN_PHASES)),
    "overview-failed": lambda stage: _overseen(stage, stage.task(Status.FAILED, error="There are no invoices.")),
    "overview-many": lambda stage: f"{_everything(stage).replace('/tasks', '/many')}?action=delete&all=1",
    "overview-none": lambda stage: f"{stage.url}/_longtask/many?action=cancel&all=1&endpoint=none",
    "mine": _mine,
    "overview-statistics": lambda stage: f"{stage.url}/_longtask/statistics",
}


#: The pages on which only a browser without JavaScript stays.
MORE_STATES: dict[str, Callable[[Stage], str]] = {
    "done": lambda stage: stage.page(stage.task(Status.DONE), more="&_longtaskrefresh=on"),
    "stopped": lambda stage: stage.page(stage.task(Status.STARTED, **WORKING), more="&_longtaskrefresh=off"),
}


def open_state(page: Page, stage: Stage, name: str) -> None:
    """Open a page in this state."""
    url = (STATES | OVERVIEW)[name](stage)
    if name == "start":  # about:blank counts as another site
        page.goto("about:blank")
        page.set_content(f'<a href="{url}">Report</a>')
        page.get_by_role("link").click()
        page.get_by_role("button").wait_for()
    else:
        page.goto(url)
