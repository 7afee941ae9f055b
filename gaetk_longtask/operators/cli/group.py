"""The group of commands, and what several of them share: options, errors, and how a task is printed."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import click
from flask.cli import AppGroup
from google.auth.exceptions import GoogleAuthError

from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.exceptions import EnqueueRefusedError, LongTaskError
from gaetk_longtask.listing import Filter
from gaetk_longtask.models import LongTask
from gaetk_longtask.operators import cli_output as output
from gaetk_longtask.operators import overview
from gaetk_longtask.status import Status
from gaetk_longtask.web import endpoints
from gaetk_longtask.web.current import current_runtime


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
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def command(name: str, *, takes_id: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add a command with ``--json``. It gets the runtime as its first argument, and runs in an NDB context.

    With `takes_id`, an argument may begin with a hyphen, as an id may.
    """

    def add(function: Callable[..., None]) -> Callable[..., None]:
        @longtask.command(name, context_settings={"ignore_unknown_options": takes_id})
        @as_json
        @functools.wraps(function)
        def run(**options: Any) -> None:
            runtime = current_runtime()
            with runtime.ndb_context():
                function(runtime, **options)

        return function

    return add


def age(_context: click.Context, _parameter: click.Parameter, text: str | None) -> timedelta | None:
    """Read the value of an option that is a duration."""
    try:
        return None if text is None else overview.parse_age(text)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc


task_id = click.argument("task_id", metavar="ID")

_FILTERS = (
    click.option("--status", type=click.Choice([each.value for each in Status]), help="Only tasks in this state."),
    click.option("--endpoint", help="Only tasks of this endpoint."),
    click.option("--created-by", metavar="USER", help="Only tasks of this user."),
    click.option("--older-than", callback=age, help="Only tasks older than this: 90s, 10m, 2h, 7d …"),
    click.option("--younger-than", callback=age, help="Only tasks younger than this."),
)


def filters(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that `filter_of` reads."""
    for option in reversed(_FILTERS):
        function = option(function)
    return function


def filter_of(wanted: dict[str, Any]) -> Filter:
    """Return the filter from the options of a command."""
    try:
        return Filter(**wanted | {"status": Status(wanted["status"]) if wanted["status"] else None})
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc


def note_unknown(*names: str | None) -> None:
    """Print a hint for unknown endpoints: a typo, or an endpoint of another service."""
    for name in names:
        if name is not None and name not in endpoints.handlers():
            click.echo(endpoints.unknown(name), err=True)


def print_task(task: LongTask, *, as_json: bool) -> None:
    """Print a task's id, state and URL, and why it failed."""
    if as_json:
        failed = task.status is Status.FAILED
        trouble = {"error": task.error, "error_reference": task.error_reference} if failed else {}
        output.print_json({"id": task.id, "status": task.status.value, "url": task.url} | trouble)
    else:
        click.echo(f"{task.id} {task.status.value} {task.url}")
        if task.status is Status.FAILED:
            click.echo(f"{output.printable(task.error or 'See the log')} (reference {task.error_reference})", err=True)


def _reason(exc: Exception) -> str:
    """Return the readable sentence in an error of NDB or gRPC."""
    cause = getattr(exc, "cause", None) or exc
    return str(getattr(cause, "message", "") or cause).partition("\n")[0]
