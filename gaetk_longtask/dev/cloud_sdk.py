"""Finds the Cloud SDK's emulators and a Java that runs them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

_USUAL_PLACES = (
    "~/google-cloud-sdk",
    "/usr/lib/google-cloud-sdk",
    "/usr/local/google-cloud-sdk",
    "/opt/google-cloud-sdk",
    "/opt/homebrew/share/google-cloud-sdk",
    "/usr/local/share/google-cloud-sdk",
    "/usr/local/Caskroom/google-cloud-sdk/latest/google-cloud-sdk",
    "/snap/google-cloud-cli/current",
    "/snap/google-cloud-sdk/current",
)


def find_emulator(jar: str) -> Path | None:
    """Return the path of ``jar``, relative to the ``platform`` directory, in the first SDK that has it."""
    roots: list[Path] = []
    if root := os.environ.get("CLOUDSDK_ROOT_DIR"):
        roots.append(Path(root))
    if gcloud := shutil.which("gcloud"):
        roots.append(Path(gcloud).resolve().parent.parent)
    roots += [Path(place).expanduser() for place in _USUAL_PLACES]
    candidates = (root / "platform" / jar for root in roots)
    return next((path for path in candidates if path.is_file()), None)


def find_java() -> str | None:
    """Return a ``java`` that runs; the one that comes with macOS does not."""
    home = os.environ.get("JAVA_HOME")
    for program in (f"{home}/bin/java" if home else None, shutil.which("java")):
        if program and _runs(program):
            return program
    return None


def _runs(java: str) -> bool:
    try:
        return subprocess.run([java, "-version"], capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
