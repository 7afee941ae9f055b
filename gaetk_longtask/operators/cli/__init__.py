"""The ``flask longtask`` commands for operators: a module for each family."""

from gaetk_longtask.operators.cli import acting, looking, running, upkeep
from gaetk_longtask.operators.cli.group import longtask

__all__ = ["acting", "longtask", "looking", "running", "upkeep"]
