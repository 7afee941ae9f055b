"""What the client for Node, and plain HTTP, get from a Cloud Tasks emulator."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from tests.dev.tasks_support import app_engine, wait_until
from tests.peers.checklist import Checklist
from tests.peers.tasks_client import TasksPeer

CLIENTS = Checklist()

_NODE = Path(__file__).with_name("tasks_node.js")
#: Where nox installs the client for Node.
NODE_MODULES = Path(__file__).parents[2] / ".nox" / "npm-peers" / "node_modules"


def has_node() -> bool:
    """Return whether the Node client can run here."""
    return shutil.which("node") is not None and (NODE_MODULES / "@google-cloud" / "tasks").is_dir()


@lru_cache
def _node_outcome(host: str) -> dict[str, str | None]:
    env = {**os.environ, "CLOUD_TASKS_EMULATOR_HOST": host, "NODE_PATH": str(NODE_MODULES)}
    ran = subprocess.run(["node", str(_NODE)], env=env, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr[-500:]
    outcome: dict[str, str | None] = json.loads(ran.stdout)
    return outcome


def _node_check(what: str) -> Callable[[TasksPeer], None]:
    def check(peer: TasksPeer) -> None:
        error = _node_outcome(peer.host)[what]
        assert error is None, error

    return check


if has_node():
    for _what in re.findall(r'^  "(.+)": async', _NODE.read_text(encoding="utf-8"), re.MULTILINE):
        CLIENTS(f"Node: {_what}")(_node_check(_what))


def _status(peer: TasksPeer, method: str, path: str) -> int:
    request = urllib.request.Request(f"http://{peer.host}{path}", method=method, data=b"" if method == "POST" else None)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code


@CLIENTS("HTTP: shows that it is running")
def _(peer: TasksPeer) -> None:
    assert _status(peer, "GET", "/") == 200


@CLIENTS("HTTP: answers an unknown path with 404")
def _(peer: TasksPeer) -> None:
    assert _status(peer, "GET", "/nosuch") == 404


@CLIENTS("HTTP: serves the keys of OIDC tokens")
def _(peer: TasksPeer) -> None:
    assert _status(peer, "GET", "/oauth2/v3/certs") == 200


@CLIENTS("HTTP: frees all names by a reset")
def _(peer: TasksPeer) -> None:
    queue = peer.queue()
    task = {"name": f"{queue}/tasks/t", **app_engine()}
    peer.client.create_task(parent=queue, task=task)
    peer.delivered()
    wait_until(lambda: not list(peer.client.list_tasks(parent=queue)))
    assert _status(peer, "POST", "/reset") == 200
    peer.client.create_task(parent=peer.queue(), task=task)
    peer.delivered()
