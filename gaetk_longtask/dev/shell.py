"""What another terminal needs to use the stack's services: a line to paste, or a file."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Mapping
from pathlib import Path

from gaetk_longtask.dev.processes import StackError

_FIRST_LINE = "# Written by python -m gaetk_longtask.dev, which deletes it when it ends.\n"


def export_line(environment: Mapping[str, str]) -> str:
    """Return a command for a shell that sets the variables."""
    return "export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())


class EnvFile:
    """A file with the variables, as ``flask --env-file``, Docker and editors read it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_written = False

    def check(self) -> None:
        """Raise `StackError` if there is a file that somebody else has written, or no folder for it."""
        try:
            if not self._path.parent.is_dir():
                raise StackError(f"{self._path} can't be written: there is no folder {self._path.parent}")
            if self._path.exists() and not self._path.read_text(errors="replace").startswith(_FIRST_LINE):
                raise StackError(f"{self._path} is there already, and is not overwritten; name another file")
        except OSError as exc:
            raise StackError(f"{self._path} can't be read: {exc.strerror}") from exc

    def write(self, environment: Mapping[str, str]) -> None:
        """Write the file."""
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in environment.items()]
        try:
            self._path.write_text(_FIRST_LINE + "".join(lines))
        except OSError as exc:
            raise StackError(f"{self._path} can't be written: {exc.strerror}") from exc
        self._is_written = True

    def delete(self) -> None:
        """Delete the file, if this stack has written it."""
        if self._is_written:
            with contextlib.suppress(OSError):
                self._path.unlink()
