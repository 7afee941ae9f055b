"""Stands for ``flask longtask`` in an application that serves: the commands are loaded when somebody gives one."""

from __future__ import annotations

from typing import Any

import click
from werkzeug.utils import import_string


class OperatorCommands(click.Group):
    """The group of `cli`, by its name alone."""

    def __init__(self) -> None:
        super().__init__("longtask", help="Look after the application's long-running tasks.")

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands."""
        return _loaded().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Give a command."""
        return _loaded().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        return _loaded().invoke(ctx)


def _loaded() -> click.Group:
    # By name: what serves never needs the commands, and starts faster without them.
    group: click.Group = import_string("gaetk_longtask.operators.cli:longtask")
    return group
