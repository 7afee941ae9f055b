"""The commands that only look: list, show, stats, endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click
from flask import current_app

from gaetk_longtask import listing
from gaetk_longtask.operators import cli_output as output
from gaetk_longtask.operators import overview
from gaetk_longtask.operators.cli.group import command, filter_of, filters, note_unknown, task_id
from gaetk_longtask.operators.open_parts import open_parts
from gaetk_longtask.operators.overview import Row
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.web import endpoints


@command("list")
@filters
@click.option("--limit", type=click.IntRange(1, 500), default=listing.PAGE, show_default=True)
@click.option("--cursor", help="Continue a list from this cursor, with the same filter.")
def _list(runtime: Runtime, *, limit: int, cursor: str | None, as_json: bool, **wanted: Any) -> None:
    """List tasks, newest first."""
    try:
        found = overview.tasks(runtime, filter_of(wanted), cursor=cursor, limit=limit)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    if as_json:
        output.print_json({"tasks": [output.document(row) for row in found.rows], "cursor": found.cursor})
        return
    output.print_rows(found.rows, runtime.clock())
    if not found.rows:
        note_unknown(wanted["endpoint"])
    if found.cursor:
        click.echo(f"There are more tasks. To continue, add --cursor {found.cursor}", err=True)


@command("show", takes_id=True)
@task_id
@click.option("--parameters", "with_parameters", is_flag=True, help="Also show the parameters, shortened.")
def _show(runtime: Runtime, *, task_id: str, with_parameters: bool, as_json: bool) -> None:
    """Show a task, and why its attempts failed.

    ID may be the first characters of its ID, or the reference on the visitor's page.
    """
    task = overview.find(runtime, task_id)
    row = Row.of(task, listing.latest(runtime, task))
    facts = output.document(row) | output.details(task)
    failures = output.failures(task)
    parts = open_parts(runtime, task)
    if with_parameters:
        facts["parameters"] = overview.parameters(runtime, task, endpoints.serializer(task.endpoint))
    if as_json:
        more = {"open_parts": output.parts(parts)} if task.parts else {}
        output.print_json(facts | more | {"failed_attempts": failures})
        return
    for name, value in (facts | output.particulars(row.live)).items():
        if value is not None:
            click.echo(f"{name.replace('_', ' ')}: {output.printable(value)}")
    output.print_parts(parts)
    output.print_failures(failures)


@command("stats")
@click.argument("names", metavar="[ENDPOINT]...", nargs=-1)
def _stats(runtime: Runtime, *, names: Sequence[str], as_json: bool) -> None:
    """Show statistics of each endpoint's last runs."""
    try:
        for name in names:
            listing.check_name(name, "endpoint")
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
    note_unknown(*(each.endpoint for each in found if not each.runs))


@command("endpoints")
def _endpoints(runtime: Runtime, *, as_json: bool) -> None:
    """List the application's handlers: what `start` accepts."""
    found = [
        (name, handler, handler.options(runtime.config), [rule.rule for rule in current_app.url_map.iter_rules(name)])
        for name, handler in endpoints.handlers().items()
    ]
    if as_json:
        output.print_json(
            [
                {
                    "endpoint": name,
                    "handler": f"{handler.__module__}.{handler.__qualname__}",
                    "rules": rules,
                    "queue": options.queue,
                    "service": options.service,
                    "time_limit_seconds": options.time_limit.total_seconds(),
                    "max_attempts": options.max_attempts,
                    "keep_result_seconds": options.keep_result.total_seconds(),
                    "task_ended": options.tells_end,
                }
                for name, handler, options, rules in found
            ]
        )
        return
    output.print_table(
        ["ENDPOINT", "URL", "QUEUE", "ATTEMPTS", "HANDLER"],
        [
            [name, " ".join(rules), options.queue, options.max_attempts, f"{handler.__module__}.{handler.__qualname__}"]
            for name, handler, options, rules in found
        ],
    )
