"""A list of behaviours, and whether an emulator has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

Check = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Something that an emulator should do. The check raises if it does not."""

    what: str
    check: Check

    def __str__(self) -> str:
        return self.what


class Checklist(list[Behaviour]):
    """Behaviours of a service."""

    def __call__(self, what: str) -> Callable[[Check], Check]:
        """Add the decorated check."""

        def add(check: Check) -> Check:
            self.append(Behaviour(what, check))
            return check

        return add


def failure_of(behaviour: Behaviour, client: Any) -> str | None:
    """Run a check and return why it failed, or None."""
    try:
        behaviour.check(client)
    # Clients and emulators may raise anything. What pytest raises is no Exception.
    except (Exception, pytest.fail.Exception) as exc:  # noqa: BLE001  # see above
        text = " ".join(str(exc).split())
        return f"{type(exc).__name__}: {text[:200]}"
    return None
