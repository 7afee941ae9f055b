"""The first example of the README runs where it stands, with the command that the README gives."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from tests.acceptance.conftest import Visitor
from tests.pages import ROOT, blocks, page_named
from tests.programs import Program

README = page_named("README.md")


@pytest.mark.parametrize("place", ["a clone", "a folder of its own"])
def test_the_example_counts(place: str, tmp_path: Path) -> None:
    if place == "a clone":
        for path in ROOT.iterdir():
            if path.name == "gaetk_longtask" or path.suffix == ".yaml":
                (tmp_path / path.name).symlink_to(path)
    [example] = blocks(README, "python")
    (tmp_path / "count.py").write_text(example, encoding="utf-8")
    [command] = [block for block in blocks(README, "sh") if "count:app" in block]
    python, option, module, *arguments = shlex.split(command)
    assert (python, option) == ("python", "-m")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with Program(module, *arguments, "--port", "0", cwd=tmp_path, env=env) as stack:
        visitor = Visitor(stack.wait_for("ready: "))
        started = visitor.get("/count/1")
        assert started.status == 307
        assert "Counted 1 seconds." in visitor.collect(started).text
        assert visitor.get("/count/601").status == 404
