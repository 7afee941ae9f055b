"""The commands for one run: start, watch, result."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import click

from gaetk_longtask.operators import overview
from gaetk_longtask.operators.cli.group import age, command, print_task, task_id
from gaetk_longtask.operators.cli.watching import follow
from gaetk_longtask.payloads.yielded import YieldedResult
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.web import endpoints
from gaetk_longtask.web.results import jsonable


@command("start")
@click.argument("endpoint")
@click.option("--parameters", default="{}", help="JSON, @FILE, or @- for standard input.")
@click.option("--url-value", "url_values", multiple=True, metavar="NAME=VALUE", help="An argument of the URL.")
@click.option("--created-by", metavar="USER", help="The task's user, as get_user_id() returns it.")
@click.option("--delay", callback=age, help="Begin the work that much later: 90s, 10m, 2h, 7d … up to 30d.")
@click.option("--wait", is_flag=True, help="Wait until the task ends. Exit with 1 if it has no result.")
def _start(
    runtime: Runtime,
    *,
    endpoint: str,
    parameters: str,
    url_values: Sequence[str],
    created_by: str | None,
    delay: timedelta | None,
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
    try:
        task = endpoints.start(endpoint, loaded, url_values=values, created_by=created_by, delay=delay)
    except ValueError as exc:
        if delay is None:
            raise
        raise click.UsageError(f"--delay: {exc}") from exc
    if wait:
        task = follow(runtime, task)
    print_task(task, as_json=as_json)
    if wait and not task.status.has_result:
        raise click.exceptions.Exit(1)


@command("watch", takes_id=True)
@task_id
def _watch(runtime: Runtime, *, task_id: str, as_json: bool) -> None:
    """Show a task's progress until it ends. Exit with 1 if it has no result.

    Ctrl-C stops watching; the task goes on. The live bar needs tqdm, which is part of the extra `cli`.
    """
    task = follow(runtime, overview.find(runtime, task_id))
    print_task(task, as_json=as_json)
    if not task.status.has_result:
        raise click.exceptions.Exit(1)


@command("result", takes_id=True)
@task_id
@click.option("--output", "path", type=click.Path(dir_okay=False, writable=True), help="Write it to this file.")
def _result(runtime: Runtime, *, task_id: str, path: str | None, as_json: bool) -> None:
    """Print a task's result: text and bytes as they are, anything else as JSON. The task's state does not change.

    With --json, text and bytes are JSON, too: bytes in Base64.
    """
    task = overview.find(runtime, task_id)
    if not task.status.has_result:
        raise click.ClickException(f"{task_id} has no result: it is {task.status.value}.")
    pieces = _pieces(runtime.load_result(task, endpoints.serializer(task.endpoint)), as_json=as_json)
    with click.open_file(path or "-", "wb") as file:
        for piece in pieces:
            file.write(piece if isinstance(piece, bytes) else piece.encode(errors="replace"))


def _pieces(result: Any, *, as_json: bool) -> Iterable[str | bytes]:
    if isinstance(result, YieldedResult):
        if not as_json:
            return result
        pieces = list(result)
        result = "".join(map(str, pieces)) if result.is_text else b"".join(map(bytes, pieces))
    if isinstance(result, str | bytes) and not as_json:
        return [result]
    return [json.dumps(jsonable(result), indent=2, ensure_ascii=False, default=str) + "\n"]


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
