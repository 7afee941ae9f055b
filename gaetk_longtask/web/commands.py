"""The command ``flask longtask``. It loads its subcommands only when one is used."""

from __future__ import annotations

from typing import Any

import click
from werkzeug.utils import import_string


class OperatorCommands(click.Group):
    """A group that passes everything on to the group in `operators.cli`."""

    def __init__(self) -> None:
        super().__init__("longtask", help="Look after the application's long-running tasks.")

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return _loaded().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, or None if there is no such command."""
        return _loaded().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        return _loaded().invoke(ctx)


def _loaded() -> click.Group:
    # Imported by name: an application that serves requests starts faster without the commands.
    group: click.Group = import_string("gaetk_longtask.operators.cli:longtask")
    return group
