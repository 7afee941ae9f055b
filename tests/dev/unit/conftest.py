"""Keeps these unit tests from opening sockets, too."""

from tests.unit.conftest import no_socket

__all__ = ["no_socket"]
