"""These unit tests open no socket, either."""

from tests.unit.conftest import no_socket

__all__ = ["no_socket"]
