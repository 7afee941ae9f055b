"""The commands that keep an application's tasks in order: sweep, purge, doctor."""

from __future__ import annotations

from dataclasses import asdict

import click
from flask import current_app

from gaetk_longtask import maintenance
from gaetk_longtask.operators import cli_output as output
from gaetk_longtask.operators.cli.group import as_json as json_option
from gaetk_longtask.operators.cli.group import command, longtask
from gaetk_longtask.runtime import Runtime

#: Datastore's limit for the results of a query.
_MOST = 2**31 - 1


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


@longtask.command()
@json_option
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


def _print_report(report: maintenance.Report, what: str, *, as_json: bool) -> None:
    if as_json:
        output.print_json({"done": report.done, "left": report.left})
    else:
        click.echo(f"{report.done} {what}{'; there may be more' if report.left else ''}")
