"""What the current application has of ours is found; what it lacks, it is told."""

from __future__ import annotations

import pytest
from flask import Flask

from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.web.current import services_of_current_app


def test_an_application_without_a_manager_is_told_to_get_one() -> None:
    with Flask("tests").app_context(), pytest.raises(ConfigurationError, match=r"LongTaskManager\(app\)"):
        services_of_current_app()
