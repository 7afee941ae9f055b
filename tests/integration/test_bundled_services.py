"""An application with App Engine's bundled services works, and can keep its progress in the bundled memcache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gaetk_longtask.dev.pieces import Piece
from tests.api_server import led_to

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("legacy_context", "plain_threads"),
    [(True, False), (False, False), (True, True)],
    ids=["legacy context", "context variables", "legacy context, threads as from Python 3.13 on"],
)
def test_an_attempt_writes_to_the_bundled_memcache_with_the_ticket_of_its_request(
    datastore_piece: Piece, api_host: str, legacy_context: bool, plain_threads: bool
) -> None:
    options = ["--legacy-context"] * legacy_context + ["--plain-threads"] * plain_threads
    environment = {
        "DATASTORE_EMULATOR_HOST": datastore_piece.host,
        "READ_GAE_CONTEXT_FROM_OS_ENVIRON": str(legacy_context).lower(),
        **led_to(api_host),
    }
    ended = subprocess.run(
        [sys.executable, "-m", "tests.integration.wrapped_app", *options],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stdout == "Reading Writing\n", ended.stderr
