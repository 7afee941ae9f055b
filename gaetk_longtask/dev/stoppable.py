"""Something that runs until it is stopped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self


class Stoppable(ABC):
    """A context manager that calls `stop` at its end."""

    @abstractmethod
    def stop(self) -> None:
        """End it; a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
