"""``flask longtask doctor`` on the local stack, as an operator runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from gaetk_longtask.pytest_plugin import LocalStack
from tests.programs import ROOT


def test_the_doctor_finds_nothing_wrong_with_the_sample_application(stack: LocalStack) -> None:
    command = [sys.executable, "-m", "flask", "--app", "sample_app.main", "longtask", "doctor", "--json"]
    environment = os.environ | stack.environment
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    found = {finding["check"]: finding["outcome"] for finding in json.loads(done.stdout)}
    assert "problem" not in found.values(), done.stdout
    assert found["datastore"] == found["progress"] == found["way through default to default"] == "ok"
    assert done.returncode == 0
