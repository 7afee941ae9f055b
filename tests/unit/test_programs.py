"""Programs that tests start beside themselves."""

from __future__ import annotations

import pytest

from gaetk_longtask.testing.programs import Program, ProgramError


def test_a_program_that_does_not_get_ready_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ProgramError, match="datastore_emulator has ended; standard error says why"):
        Program("gaetk_longtask.dev.datastore_emulator", "--port", "none")
    assert "invalid int value: 'none'" in capfd.readouterr().err
