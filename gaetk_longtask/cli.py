"""``flask longtask …``: what operators do from the command line."""

from __future__ import annotations

import json
import textwrap

import click
from flask import current_app
from flask.cli import AppGroup

longtask = AppGroup("longtask", help="Look after long-running tasks.")

_INDENT = 12 * " "
# Commands are there to be copied.
_wrapper = textwrap.TextWrapper(
    100, initial_indent=_INDENT, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False
)
_COLOURS = {"ok": "green", "problem": "red", "not checked": "yellow"}


@longtask.command()
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.pass_context
def doctor(context: click.Context, *, as_json: bool) -> None:
    """Look for what stands between the application and its tasks; exits with 1 if there is something.

    Run it where app.yaml is. It writes, reads and deletes an entity of its own, and sends two tasks for each queue
    and service that find nothing to do.
    """
    from gaetk_longtask.doctor import Outcome, examine  # noqa: PLC0415  # nobody else pays for its import

    findings = []
    for finding in examine(current_app._get_current_object()):  # type: ignore[attr-defined]  # noqa: SLF001  # as Flask
        findings.append(finding)
        if not as_json:
            click.echo(f"{click.style(f'{finding.outcome:<12}', fg=_COLOURS[finding.outcome])}{finding.check}")
            for text in filter(None, (finding.text, finding.remedy and f"→ {finding.remedy}")):
                click.echo(_wrapper.fill(text))
    if as_json:
        click.echo(json.dumps([finding.document() for finding in findings], indent=2, ensure_ascii=False))
    if any(finding.outcome is Outcome.PROBLEM for finding in findings):
        context.exit(1)
