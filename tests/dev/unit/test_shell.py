"""The file with the variables for other programs: it is checked before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from gaetk_longtask.dev.processes import StackError
from gaetk_longtask.dev.shell import EnvFile


def test_a_folder_that_does_not_exist_is_named_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"there is no folder .*nosuch"):
        EnvFile(tmp_path / "nosuch" / "services.env").check()


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="can't be read: Is a directory"):
        EnvFile(tmp_path).check()


def test_a_file_of_an_earlier_stack_is_written_again_and_deleted(tmp_path: Path) -> None:
    path = tmp_path / "services.env"
    EnvFile(path).write({"NAME": "old"})
    file = EnvFile(path)
    file.check()
    file.write({"NAME": "new value"})
    assert path.read_text().splitlines()[1:] == ["NAME='new value'"]
    file.delete()
    assert not path.exists()
