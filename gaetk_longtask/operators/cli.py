"""The ``flask longtask`` commands for operators."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import click
from flask import current_app
from flask.cli import AppGroup
from google.auth.exceptions import GoogleAuthError

from gaetk_longtask import maintenance, starting
from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.exceptions import EnqueueRefusedError, LongTaskError
from gaetk_longtask.models import LongTask
from gaetk_longtask.operators import cli_output as output
from gaetk_longtask.operators import overview
from gaetk_longtask.operators.overview import Filter, Row
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.status import Status
from gaetk_longtask.web import endpoints
from gaetk_longtask.web.current import current_runtime

#: How long `start --wait` waits between two checks.
POLL_SECONDS = 1.0
#: Datastore's limit for the results of a query.
_MOST = 2**31 - 1


class _Group(AppGroup):
    """A group of commands that print an expected error on standard error and exit with 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        output.accept_any_text()
        try:
            return super().invoke(ctx)
        except EnqueueRefusedError as exc:
            message = f"The queue refused the task: {exc}"
            if exc.task_id:
                message += f"\nFix the reason, then run: flask longtask retry {exc.task_id}"
            raise click.ClickException(message) from exc
        except (LongTaskError, GoogleAuthError) as exc:
            raise click.ClickException(str(exc)) from exc
        except STORE_ERRORS as exc:
            host = os.environ.get("DATASTORE_EMULATOR_HOST")
            where = f"the Datastore emulator at {host}" if host else "Datastore"
            raise click.ClickException(f"The request to {where} failed: {_reason(exc)}") from exc


longtask = _Group("longtask")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def command(name: str, **settings: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add a command with ``--json``. It gets the runtime as its first argument, and runs in an NDB context."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        @longtask.command(name, **settings)
        @_as_json
        @functools.wraps(function)
        def run(**options: Any) -> None:
            runtime = current_runtime()
            with runtime.ndb_context():
                function(runtime, **options)

        return function

    return add


def _age(_context: click.Context, _parameter: click.Parameter, text: str | None) -> timedelta | None:
    try:
        return None if text is None else overview.parse_age(text)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc


_task_id = click.argument("task_id", metavar="ID")
#: An id may begin with a hyphen.
_takes_id = {"context_settings": {"ignore_unknown_options": True}}


@command("list")
@click.option("--status", type=click.Choice([each.value for each in Status]), help="Only tasks in this state.")
@click.option("--endpoint", help="Only tasks of this endpoint.")
@click.option("--created-by", metavar="USER", help="Only tasks of this user.")
@click.option("--older-than", callback=_age, help="Only tasks older than this: 90s, 10m, 2h, 7d …")
@click.option("--younger-than", callback=_age, help="Only tasks younger than this.")
@click.option("--limit", type=click.IntRange(1, 500), default=overview.PAGE, show_default=True)
@click.option("--cursor", help="Continue a list from this cursor, with the same filter.")
def _list(
    runtime: Runtime, *, status: str | None, limit: int, cursor: str | None, as_json: bool, **wanted: Any
) -> None:
    """List tasks, newest first."""
    try:
        asked = Filter(status=Status(status) if status else None, **wanted)
        found = overview.tasks(runtime, asked, cursor=cursor, limit=limit)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    if as_json:
        output.print_json({"tasks": [output.document(row) for row in found.rows], "cursor": found.cursor})
        return
    output.print_rows(found.rows, runtime.clock())
    _note_unknown([wanted["endpoint"]] if wanted["endpoint"] is not None and not found.rows else [])
    if found.cursor:
        click.echo(f"There are more tasks. To continue, add --cursor {found.cursor}", err=True)


@command("show", **_takes_id)
@_task_id
@click.option("--parameters", "with_parameters", is_flag=True, help="Also show the parameters, shortened.")
def _show(runtime: Runtime, *, task_id: str, with_parameters: bool, as_json: bool) -> None:
    """Show a task, and why its attempts failed.

    ID may be the first characters of its ID, or the reference on the visitor's page.
    """
    task = overview.find(runtime, task_id)
    row = Row.of(task, overview.live(runtime, task))
    facts = output.document(row) | output.details(task)
    failures = output.failures(task)
    if with_parameters:
        facts["parameters"] = overview.parameters(runtime, task, endpoints.serializer(task.endpoint))
    if as_json:
        output.print_json(facts | {"failed_attempts": failures})
        return
    for name, value in (facts | output.particulars(row.live)).items():
        if value is not None:
            click.echo(f"{name.replace('_', ' ')}: {output.printable(value)}")
    output.print_failures(failures)


@command("start")
@click.argument("endpoint")
@click.option("--parameters", default="{}", help="JSON, @FILE, or @- for standard input.")
@click.option("--url-value", "url_values", multiple=True, metavar="NAME=VALUE", help="An argument of the URL.")
@click.option("--created-by", metavar="USER", help="The task's user, as get_user_id() returns it.")
@click.option("--wait", is_flag=True, help="Wait until the task ends. Exit with 1 if it has no result.")
def _start(
    runtime: Runtime,
    *,
    endpoint: str,
    parameters: str,
    url_values: Sequence[str],
    created_by: str | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Start a task, and print its ID and URL."""
    try:
        loaded = json.loads(_text(parameters), object_pairs_hook=_object)
    except (OSError, ValueError, RecursionError) as exc:
        raise click.UsageError(f"--parameters must be JSON or @FILE: {exc}") from exc
    if created_by == "":
        raise click.UsageError("--created-by must not be empty. Without it, the task's user is anonymous.")
    if any(pair.find("=") < 1 for pair in url_values):
        raise click.UsageError("--url-value must be NAME=VALUE.")
    values = dict(pair.split("=", 1) for pair in url_values)
    if len(values) < len(url_values):
        raise click.UsageError("--url-value must name each argument only once.")
    task = endpoints.start(endpoint, loaded, url_values=values, created_by=created_by)
    if wait:
        task = _wait(runtime, task)
    _print_task(task, as_json=as_json)
    if wait and not task.status.has_result:
        raise click.exceptions.Exit(1)


@command("cancel", **_takes_id)
@_task_id
def _cancel(runtime: Runtime, *, task_id: str, as_json: bool) -> None:
    """Cancel a task that has not ended."""
    task = starting.cancel(runtime, overview.find(runtime, task_id).id)
    if task is None or task.status is not Status.CANCELLED:
        raise click.ClickException(f"{task_id} can't be cancelled: it is {task.status.value if task else 'gone'}.")
    _print_task(task, as_json=as_json)


@command("retry", **_takes_id)
@_task_id
def _retry(runtime: Runtime, *, task_id: str, as_json: bool) -> None:
    """Retry a task that failed or was cancelled."""
    task: LongTask | None = overview.find(runtime, task_id)
    if task is not None and task.status.may_retry:
        task = starting.retry(runtime, task.id)
        if task is not None and not task.status.may_retry:
            _print_task(task, as_json=as_json)
            return
    raise click.ClickException(f"{task_id} can't be retried: it is {task.status.value if task else 'gone'}.")


@command("sweep")
@click.option("--limit", type=click.IntRange(1, _MOST), default=maintenance.SWEPT, show_default=True)
@click.option("--all", "early", is_flag=True, help="Enqueue all tasks that wait, also those that are not due yet.")
def _sweep(runtime: Runtime, *, limit: int, early: bool, as_json: bool) -> None:
    """Enqueue due tasks again, as cron does. After a queue was purged, use --all."""
    _print_report(maintenance.sweep(runtime, limit=limit, early=early), "enqueued again", as_json=as_json)


@command("purge")
@click.option("--limit", type=click.IntRange(1, _MOST), default=maintenance.PURGED, show_default=True)
def _purge(runtime: Runtime, *, limit: int, as_json: bool) -> None:
    """Delete expired tasks, as cron does."""
    _print_report(maintenance.purge(runtime, limit=limit), "deleted", as_json=as_json)


@command("stats")
@click.argument("names", metavar="[ENDPOINT]...", nargs=-1)
def _stats(runtime: Runtime, *, names: Sequence[str], as_json: bool) -> None:
    """Show statistics of each endpoint's last runs."""
    try:
        for name in names:
            overview.check_name(name, "endpoint")
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    found = overview.statistics(names or endpoints.handlers())
    if as_json:
        output.print_json([asdict(each) | {"success_rate": each.success_rate} for each in found])
        return
    output.print_table(
        ["ENDPOINT", "ENDED", "SUCCESSFUL", "FAILED", "CANCELLED", "MEDIAN", "95 % WITHIN"],
        [
            [
                each.endpoint,
                each.runs,
                "" if each.success_rate is None else f"{int(100 * each.success_rate + 1e-9)} %",
                each.failed,
                each.cancelled,
                "" if each.median_seconds is None else f"{each.median_seconds:.1f} s",
                "" if each.p95_seconds is None else f"{each.p95_seconds:.1f} s",
            ]
            for each in found
        ],
    )
    _note_unknown(each.endpoint for each in found if not each.runs)


@longtask.command()
@_as_json
@click.pass_context
def doctor(context: click.Context, *, as_json: bool) -> None:
    """Check whether the application can run its tasks. Exit with 1 if there is a problem.

    Run it in the directory of app.yaml. It writes, reads and deletes an entity of its own. It sends two tasks for each
    queue and service; these tasks do nothing.
    """
    from gaetk_longtask.operators.doctor import Outcome, examine  # noqa: PLC0415  # only this command pays for its import

    findings = []
    for finding in examine(current_app._get_current_object()):  # type: ignore[attr-defined]  # noqa: SLF001  # as Flask
        findings.append(finding)
        if not as_json:
            output.print_finding(finding.outcome, finding.check, finding.text, finding.remedy)
    if as_json:
        output.print_json([asdict(finding) for finding in findings])
    if any(finding.outcome is Outcome.PROBLEM for finding in findings):
        context.exit(1)


def _note_unknown(names: Iterable[str]) -> None:
    """Print a hint for unknown endpoints: a typo, or an endpoint of another service."""
    for name in names:
        if name not in endpoints.handlers():
            click.echo(endpoints.unknown(name), err=True)


def _wait(runtime: Runtime, task: LongTask) -> LongTask:
    last = ""
    while not task.status.ended:
        if (now := output.said(overview.live(runtime, task))) != last:
            click.echo(output.printable(now), err=True)
            last = now
        time.sleep(POLL_SECONDS)
        task = starting.heal(runtime, runtime.store.get(task.id) or task)
    return task


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} occurs twice in an object")
    return found


def _text(argument: str) -> str:
    if not argument.startswith("@"):
        return argument
    with click.open_file(argument[1:], encoding="utf-8-sig") as file:  # a hyphen is standard input
        return str(file.read())


def _reason(exc: Exception) -> str:
    """Return the readable sentence in an error of NDB or gRPC."""
    cause = getattr(exc, "cause", None) or exc
    return str(getattr(cause, "message", "") or cause).partition("\n")[0]


def _print_task(task: LongTask, *, as_json: bool) -> None:
    if as_json:
        failed = task.status is Status.FAILED
        trouble = {"error": task.error, "error_reference": task.error_reference} if failed else {}
        output.print_json({"id": task.id, "status": task.status.value, "url": task.url} | trouble)
    else:
        click.echo(f"{task.id} {task.status.value} {task.url}")
        if task.status is Status.FAILED:
            click.echo(f"{output.printable(task.error or 'See the log')} (reference {task.error_reference})", err=True)


def _print_report(report: maintenance.Report, what: str, *, as_json: bool) -> None:
    if as_json:
        output.print_json({"done": report.done, "left": report.left})
    else:
        click.echo(f"{report.done} {what}{'; there may be more' if report.left else ''}")
