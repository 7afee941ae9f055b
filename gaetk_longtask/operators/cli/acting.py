"""The commands that act on tasks: cancel, retry, delete."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import click

from gaetk_longtask import starting
from gaetk_longtask.listing import Filter
from gaetk_longtask.operators import cli_output as output
from gaetk_longtask.operators import many, overview
from gaetk_longtask.operators.cli.group import command, filter_of, filters, note_unknown, print_task
from gaetk_longtask.operators.many import Action, Obstacle, Refusal, Report
from gaetk_longtask.operators.overview import NoSuchTaskError
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.status import Status

#: How many tasks one call with ``--all`` handles, unless `--limit` says otherwise.
_LIMIT = 10_000
_SHOWN = 25  #: how many tasks a dry run lists


def _acts(action: Action) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add a command that acts on tasks."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        named = click.argument("ids", metavar="[ID]...", nargs=-1)
        every = click.option("--all", "all_of_them", is_flag=True, help="All tasks that the filters find, not IDs.")
        limit = click.option("--limit", type=click.IntRange(1), default=_LIMIT, show_default=True, help="With --all.")
        dry_run = click.option("--dry-run", is_flag=True, help="Only say which tasks it would be.")
        yes = click.option("--yes", is_flag=True, help="Do not ask.")
        for option in (yes, dry_run, limit, filters, every, named):
            function = option(function)
        return command(action.value, takes_id=True)(function)

    return add


@_acts(Action.CANCEL)
def _cancel(runtime: Runtime, **options: Any) -> None:
    """Cancel tasks that have not ended. Asks, unless it is one ID."""
    if _is_one(options):
        [task_id] = options["ids"]
        task = starting.cancel(runtime, overview.find(runtime, task_id).id)
        if task is None or task.status is not Status.CANCELLED:
            raise click.ClickException(f"{task_id} can't be cancelled: it is {task.status.value if task else 'gone'}.")
        print_task(task, as_json=options["as_json"])
        return
    _act(runtime, Action.CANCEL, **options)


@_acts(Action.RETRY)
def _retry(runtime: Runtime, **options: Any) -> None:
    """Retry tasks that failed or were cancelled. Asks, unless it is one ID."""
    if _is_one(options):
        [task_id] = options["ids"]
        task = overview.find(runtime, task_id)
        if task.status.may_retry:
            retried = starting.retry(runtime, task.id)
            if retried is not None and not retried.status.may_retry:
                print_task(retried, as_json=options["as_json"])
                return
        raise click.ClickException(f"{task_id} can't be retried: it is {task.status.value}.")
    _act(runtime, Action.RETRY, **options)


@_acts(Action.DELETE)
@click.option("--untold", is_flag=True, help="Even if task_ended has not been called yet. Not with --all.")
def _delete(runtime: Runtime, **options: Any) -> None:
    """Delete tasks at once, with their parameters and results. A task that works is cancelled first."""
    _act(runtime, Action.DELETE, **options)


def _is_one(options: dict[str, Any]) -> bool:
    """Return whether one task is named; that needs no question."""
    return len(options["ids"]) == 1 and not options["all_of_them"] and not options["dry_run"]


def _act(
    runtime: Runtime,
    action: Action,
    *,
    ids: Sequence[str],
    all_of_them: bool,
    limit: int,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    untold: bool = False,
    **wanted: Any,
) -> None:
    """Do it to many tasks, after a question. Exit with 1 if some could not be done."""
    if all_of_them == bool(ids):
        raise click.UsageError("Name tasks by their IDs, or use --all with filters.")
    if not all_of_them and any(value is not None for value in wanted.values()):
        raise click.UsageError("Filters need --all.")
    if all_of_them and untold:
        raise click.UsageError("--untold needs IDs.")
    asked, asked_at = filter_of(wanted), runtime.clock()
    unknown: list[Refusal] = []
    if all_of_them:
        _check_state(action, asked)
        found = many.ids_of(action, asked, asked_at, limit=limit)
    else:
        found, unknown = _found(runtime, ids)
    if dry_run:
        _show_some(runtime, action, found, unknown, as_json=as_json)
        return
    if found and not yes:
        _ask(action, len(found))
    report = Report(refused=unknown)
    for task_id in found:
        report.add(many.act(runtime, action, task_id, untold=untold))
    if all_of_them and not found:
        note_unknown(asked.endpoint)
    _print(action, report, left=all_of_them and len(found) == limit, as_json=as_json)


def _check_state(action: Action, asked: Filter) -> None:
    if asked.status is not None and asked.status not in action.statuses:
        possible = ", ".join(action.statuses)
        message = f"A task that is {asked.status.value} can't be {action.past}. Use one of these states: {possible}."
        raise click.UsageError(message)


def _found(runtime: Runtime, ids: Sequence[str]) -> tuple[list[str], list[Refusal]]:
    """Look for all tasks before anything is done to one of them."""
    found, unknown = [], []
    for text in ids:
        try:
            found.append(overview.find(runtime, text).id)
        except NoSuchTaskError as exc:
            if "more than one" in str(exc):
                raise
            unknown.append(Refusal(id=text, obstacle=Obstacle.UNKNOWN))
    return list(dict.fromkeys(found)), unknown


def _ask(action: Action, number: int) -> None:
    try:
        click.confirm(f"{action.value.capitalize()} {_tasks(number)}?", abort=True, err=True)
    except click.Abort as exc:
        raise click.ClickException("Nothing was done. To act without a question, add --yes.") from exc


def _show_some(runtime: Runtime, action: Action, found: list[str], unknown: list[Refusal], *, as_json: bool) -> None:
    if as_json:
        output.print_json({"would_do": found, "not_done": _documents(unknown)})
        return
    shown = overview.rows(runtime, found[:_SHOWN])
    output.print_rows(shown, runtime.clock())
    if len(found) > len(shown):
        click.echo(f"… and {len(found) - len(shown)} more", err=True)
    _print_refused(unknown)
    click.echo(f"{_tasks(len(found))} would be {action.past}.", err=True)


def _print(action: Action, report: Report, *, left: bool, as_json: bool) -> None:
    if as_json:
        output.print_json({"done": report.done, "not_done": _documents(report.refused), "left": left})
    else:
        click.echo(f"{_tasks(len(report.done))} {action.past}")
        _print_refused(report.refused)
        if left:
            click.echo("There may be more tasks: run it again.", err=True)
    if report.refused:
        raise click.exceptions.Exit(1)


def _print_refused(refused: list[Refusal]) -> None:
    for each in refused[:_SHOWN]:
        click.echo(f"{each.id}: {each.reason}", err=True)
    for reason, number in Counter(each.reason for each in refused[_SHOWN:]).items():
        click.echo(f"{number} more: {reason}", err=True)


def _documents(refused: list[Refusal]) -> list[dict[str, str]]:
    return [{"id": each.id, "reason": each.reason} for each in refused]


def _tasks(number: int) -> str:
    return f"{number:,} task{'' if number == 1 else 's'}"
