"""The sample application, tested with the fixtures of the library's plugin, without services or stack."""

from __future__ import annotations

import pytest
from flask import Flask


@pytest.fixture
def app(longtask_datastore: str) -> Flask:
    from sample_app.main import create_app

    return create_app()
