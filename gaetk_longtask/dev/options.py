"""Checks the options of the programs before anything starts, and names a wrong one in one line."""

from __future__ import annotations

import argparse
import io
import ipaddress
import os
import re
import socket
import sys
from argparse import ArgumentTypeError
from pathlib import Path
from typing import NoReturn

#: How the last line of gunicorn begins if MODULE:APP names no application.
NO_APPLICATION = "no application: "

_LONGEST_MESSAGE = 300
#: Where servers listen, unless told otherwise.
LOCAL = "127.0.0.1"
_OURS = (LOCAL, "localhost", "::1")
_BACKLOG = 500
_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}")


class Parser(argparse.ArgumentParser):
    """A parser that names a wrong argument in one line."""

    def error(self, message: str) -> NoReturn:
        """End the program with code 2."""
        line = " ".join(message.split())
        line = line if len(line) <= _LONGEST_MESSAGE else f"{line[:_LONGEST_MESSAGE]}…"
        self.exit(2, f"{self.prog}: {line}\n")


def accept_any_text() -> None:
    """Let standard output and error replace characters that their encoding lacks by their code, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def host(text: str) -> str:
    """Return the number of an address to listen on, or localhost."""
    if text != "localhost":
        try:
            ipaddress.ip_address(text)
        except ValueError as exc:
            raise ArgumentTypeError(
                f"{text[:100]!r} is not an address; use 127.0.0.1, or 0.0.0.0 for all of this machine's"
            ) from exc
    return text


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; OSError if it can't."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


def address(host: str, port: int) -> str:
    """Return ``host:port``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable(host: str) -> str:
    """Return where a program on this machine reaches a server that listens at a host: on all addresses, perhaps."""
    return {"0.0.0.0": LOCAL, "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened on


def warn_of(host: str, what: str) -> str | None:
    """Return a warning if other machines can reach a host; None if they can't."""
    if host in _OURS:
        return None
    return f"Warning: everyone who can reach this machine at {host} can {what}."


def port(text: str) -> int:
    """Return a TCP port, or 0 for a free one."""
    if re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) and int(text) <= 65_535:
        return int(text)
    raise ArgumentTypeError(f"{text[:50]!r} is not a port; use a number from 1 to 65535, or 0 for a free one")


def positive(text: str) -> int:
    """Return a whole number above zero."""
    if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) and int(text):
        return int(text)
    raise ArgumentTypeError(f"{text[:50]!r} is not a whole number above zero")


def project(text: str) -> str:
    """Return the id of a Google Cloud project."""
    if _PROJECT.fullmatch(text):
        return text
    raise ArgumentTypeError(f"{text[:50]!r} is not the id of a project; use letters, digits and hyphens, such as demo")


def existing_file(text: str) -> Path:
    """Return the path of a file that can be read."""
    path = _path(text)
    try:
        if not path.exists():
            raise ArgumentTypeError(f"{text[:200]!r} does not exist")
        if not path.is_file():
            raise ArgumentTypeError(f"{text[:200]!r} is not a file")
        path.open("rb").close()
    except OSError as exc:
        raise ArgumentTypeError(f"{text[:200]!r} can't be read: {exc.strerror}") from exc
    return path


def data_directory(text: str) -> Path:
    """Return the path of a directory that can be written to. Create it if it does not exist."""
    path = _path(text)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        reason = "it is not a directory" if isinstance(exc, FileExistsError) else exc.strerror
        raise ArgumentTypeError(f"{text[:200]!r} can't be the directory for the data: {reason}") from exc
    if not os.access(path, os.W_OK | os.X_OK):
        raise ArgumentTypeError(f"{text[:200]!r} can't be the directory for the data: Permission denied")
    return path


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise ArgumentTypeError(f"{text[:200]!r} is not a path")
    return Path(text)
