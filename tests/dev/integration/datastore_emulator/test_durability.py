"""What the embedded Datastore keeps, and what it can't."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from gaetk_longtask.dev.pieces import start_datastore
from gaetk_longtask.dev.processes import PieceEndedError
from tests.dev.datastore_client import DatastoreClient, connected, entity, key, query


def test_killed_in_the_middle_of_writes_it_loses_nothing_acknowledged(tmp_path: Path) -> None:
    acknowledged: list[list[int]] = [[] for _ in range(4)]
    enough = threading.Event()

    def write(client: DatastoreClient, writer: int) -> None:
        number = writer
        while True:
            number += len(acknowledged)
            try:
                client.put(entity(key("A", number), n=number), entity(key("B", number), n=number))
            except grpc.RpcError:
                return
            acknowledged[writer].append(number)
            if len(acknowledged[writer]) >= 50:
                enough.set()

    with start_datastore("embedded", data_dir=tmp_path) as piece, connected(piece.host) as client:
        assert piece.process is not None
        with ThreadPoolExecutor(len(acknowledged)) as pool:
            for writer in range(len(acknowledged)):
                pool.submit(write, client, writer)
            enough.wait(60)
            os.kill(piece.process.pid, signal.SIGKILL)

    with start_datastore("embedded", data_dir=tmp_path) as piece, connected(piece.host) as client:
        for number in (number for numbers in acknowledged for number in numbers):
            assert client.get(key("A", number), key("B", number)) == [{"n": number}] * 2
            assert client.keys(query("A", ("n", "=", number))) == [f"A:{number}"]


def test_without_a_data_dir_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with start_datastore("embedded") as piece, connected(piece.host) as client:
        client.put(entity(key("A", 1)))
        assert list(tmp_path.iterdir()) == []


def test_the_data_of_an_older_version_are_refused_clearly(tmp_path: Path) -> None:
    (tmp_path / "datastore.sqlite").touch()
    with pytest.raises(PieceEndedError, match="written by an older version") as caught:
        start_datastore("embedded", data_dir=tmp_path)
    assert "delete it, or choose another --data-dir" in str(caught.value)
