"""The services beside the app: Datastore, memcached, Redis and Cloud Tasks."""

from __future__ import annotations

import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from gaetk_longtask.dev.cloud_sdk import find_emulator, find_java
from gaetk_longtask.dev.options import LOCAL, address, reachable
from gaetk_longtask.dev.processes import Log, MissingPieceError, PieceEndedError, Process, answers, discard, free_port
from gaetk_longtask.dev.stoppable import Stoppable

_START_TIMEOUT_SECONDS = 60.0
#: Another program may take the free port before ours binds it.
_START_ATTEMPTS = 3


class DatastoreKind(StrEnum):
    """The local Datastores that can be started."""

    #: ``CloudDatastore.jar`` of the Cloud SDK.
    SDK = "sdk"
    #: The Cloud SDK's Firestore emulator in Datastore mode.
    FIRESTORE = "firestore"
    #: Our own, in Python; needs neither Java nor the Cloud SDK.
    EMBEDDED = "embedded"


class MemcachedKind(StrEnum):
    """The memcacheds that can be started."""

    #: The ``memcached`` program.
    PROGRAM = "memcached"
    #: Our own, in Python.
    EMBEDDED = "embedded"


_JARS = {
    DatastoreKind.SDK: (
        "cloud-datastore-emulator/CloudDatastore.jar",
        "com.google.cloud.datastore.emulator.CloudDatastore",
    ),
    DatastoreKind.FIRESTORE: (
        "cloud-firestore-emulator/cloud-firestore-emulator.jar",
        "com.google.cloud.datastore.emulator.firestore.CloudFirestore",
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece(Stoppable):
    """A running service of the local stack; a context manager that stops it."""

    name: str
    #: A description for people.
    what: str
    #: ``host:port``, the value for ``DATASTORE_EMULATOR_HOST`` and the like.
    host: str
    #: Whether a better equipped machine would run something else.
    stand_in: bool = False
    #: ``None`` if we did not start it.
    process: Process | None = None

    def stop(self) -> None:
        """End it and its children, if we started it."""
        if self.process is not None:
            self.process.stop()

    def reset(self) -> None:
        """Delete all data of a Datastore emulator."""
        request = urllib.request.Request(f"http://{self.host}/reset", data=b"", method="POST")
        with urllib.request.urlopen(request, timeout=30):  # noqa: S310 - http, written above
            pass


def start_datastore(
    kind: DatastoreKind | str | None = None,
    *,
    host: str = LOCAL,
    port: int = 0,
    data_dir: Path | None = None,
    memory_mib: int = 512,
    log: Log = discard,
) -> Piece:
    """Start a Datastore emulator on a port, or on a free one, and return it when it answers.

    Without ``kind``, start the Cloud SDK's if it and Java are found, else the embedded one. All of them read with
    strong consistency, as production does. ``data_dir`` keeps the data, but not with the Firestore emulator.
    ``memory_mib`` limits Java; 512 is enough for some ten thousand tasks.
    """
    if kind is None:
        try:
            kind = DatastoreKind.SDK
            check_datastore(kind)
        except MissingPieceError:
            kind = DatastoreKind.EMBEDDED
    match DatastoreKind(kind):
        case DatastoreKind.EMBEDDED:
            return _start_embedded_datastore(host, port, data_dir, log)
        case DatastoreKind.FIRESTORE:
            options = ["--database-mode=datastore-mode"]
            what = "the Cloud SDK's Firestore emulator in Datastore mode"
        case DatastoreKind.SDK:
            what = "the Cloud SDK's Datastore emulator"
            options = ["--testing"]
            if data_dir is not None:
                options = ["--consistency=1.0", "--store_on_disk=true", str(data_dir / "datastore-sdk")]
    java, jar, main_class = _java_and_jar(DatastoreKind(kind))
    # A quick start and little memory: an emulator does not live long enough for the optimising compiler.
    jvm = [f"-Xmx{memory_mib}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    command = [java, *jvm, "-cp", jar, main_class, "start", f"--host={host}"]
    return _start_on_port(
        "datastore",
        what,
        lambda port: [*command, f"--port={port}", *options],
        host=host,
        port=port,
        is_ready=_answers_http,
        log=log,
    )


def check_datastore(kind: DatastoreKind | str) -> None:
    """Raise :class:`MissingPieceError` if something is missing here that this kind of Datastore needs."""
    if kind != DatastoreKind.EMBEDDED:
        _java_and_jar(DatastoreKind(kind))


def _java_and_jar(kind: DatastoreKind) -> tuple[str, str, str]:
    jar_name, main_class = _JARS[kind]
    jar, java = find_emulator(jar_name), find_java()
    if jar is None:
        component = jar_name.split("/")[0]
        raise MissingPieceError(
            f"datastore: the Cloud SDK's {component} is not installed; gcloud components install {component}"
            f" (on Debian: apt install google-cloud-cli-{component.removeprefix('cloud-')})"
            f"{'' if java else '; it also needs Java 17'}"
        )
    if java is None:
        raise MissingPieceError(
            "datastore: the SDK's emulators need Java 17; apt install default-jre-headless, or brew install openjdk"
        )
    return java, str(jar), main_class


def _start_embedded_datastore(host: str, port: int, data_dir: Path | None, log: Log) -> Piece:
    command = [sys.executable, "-m", "gaetk_longtask.dev.datastore_emulator", "--host", host, "--port", str(port)]
    if data_dir is not None:
        command += ["--data-dir", str(data_dir)]
    return _start_announced("datastore", "the embedded Datastore", command, stand_in=True, log=log)


def start_memcached(
    kind: MemcachedKind | str | None = None, *, host: str = LOCAL, port: int = 0, log: Log = discard
) -> Piece:
    """Start memcached on a port, or on a free one, and return it when it answers.

    Without ``kind``, start the ``memcached`` program if it is found, else our own.
    """
    program = shutil.which("memcached")
    if kind is None:
        kind = MemcachedKind.PROGRAM if program else MemcachedKind.EMBEDDED
    if MemcachedKind(kind) == MemcachedKind.EMBEDDED:
        command = [sys.executable, "-m", "gaetk_longtask.dev.memcached", "--host", host, "--port", str(port)]
        return _start_announced("memcached", "our own memcached in Python", command, stand_in=True, log=log)
    if program is None:
        raise MissingPieceError("memcached is not installed; apt install memcached, or brew install memcached")
    command = [program, "-l", host, "-m", "64", "-U", "0"]
    if os.geteuid() == 0:
        command += ["-u", "nobody"]  # it refuses to run as root
    return _start_on_port(
        "memcached",
        "memcached",
        lambda port: [*command, "-p", str(port)],
        host=host,
        port=port,
        is_ready=answers,
        log=log,
    )


def start_redis(*, log: Log = discard) -> Piece:
    """Start the ``redis-server`` program on a free port, without persistence, and return it when it answers."""
    program = shutil.which("redis-server")
    if program is None:
        raise MissingPieceError("redis-server is not installed; apt install redis-server, or brew install redis")
    command = [program, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    return _start_on_port(
        "redis", "redis-server", lambda port: [*command, "--port", str(port)], is_ready=answers, log=log
    )


def start_tasks(
    app_url: str,
    *,
    host: str = LOCAL,
    port: int = 0,
    queue_yaml: Path | None = None,
    data_dir: Path | None = None,
    at_once: int | None = None,
    log: Log = discard,
) -> Piece:
    """Start the Cloud Tasks emulator on a port, or on a free one; it sends App Engine tasks to ``app_url``.

    With ``at_once``, no more tasks than that run at a time, whatever the queues allow.
    """
    command = [sys.executable, "-m", "gaetk_longtask.dev.tasks_emulator", "--host", host, "--port", str(port)]
    command += ["--app", app_url]
    if queue_yaml is not None:
        command += ["--queue-yaml", str(queue_yaml)]
    if data_dir is not None:
        command += ["--data-dir", str(data_dir)]
    what = "our Cloud Tasks emulator; there is no official one"
    if at_once is not None:
        command += ["--at-once", str(at_once)]
        what += f"; runs at most {at_once} tasks at a time"
    return _start_announced("tasks", what, command, log=log)


def _start_announced(name: str, what: str, command: list[str], *, log: Log, stand_in: bool = False) -> Piece:
    process = Process(name, command, log=log)
    try:
        bound, _, port = process.ready_line(timeout_seconds=_START_TIMEOUT_SECONDS).rpartition(":")
    except BaseException:
        process.stop()
        raise
    host = address(reachable(bound.strip("[]")), int(port))
    return Piece(name=name, what=what, host=host, stand_in=stand_in, process=process)


def _start_on_port(
    name: str,
    what: str,
    command: Callable[[int], list[str]],
    *,
    host: str = LOCAL,
    port: int = 0,
    is_ready: Callable[[str], bool],
    log: Log,
) -> Piece:
    for attempt in range(1, _START_ATTEMPTS + 1):
        number = free_port(host, port, name=name)
        place = address(reachable(host), number)
        process = Process(name, command(number), log=log)
        try:
            process.wait_until_ready(partial(is_ready, place), timeout_seconds=_START_TIMEOUT_SECONDS)
        except BaseException as exc:
            process.stop()
            if isinstance(exc, PieceEndedError) and attempt < _START_ATTEMPTS and not port:
                continue
            raise
        return Piece(name=name, what=what, host=place, process=process)
    raise AssertionError  # the last attempt returned or raised


def _answers_http(host: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{host}/", timeout=5):
            return True
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return False
    except OSError:
        return False
