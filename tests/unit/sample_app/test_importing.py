"""Which uploads the import accepts."""

from __future__ import annotations

from typing import Any

import pytest

from gaetk_longtask import PermanentTaskFailure
from sample_app.importing import Import


@pytest.mark.parametrize(
    "parameters",
    [{}, {"file": b""}, {"file": "typed, not uploaded"}, {"file": [b"one", b"two"]}, {"another": b"field"}],
)
def test_an_import_without_one_file_fails_for_good_and_asks_for_it(parameters: dict[str, Any]) -> None:
    with pytest.raises(PermanentTaskFailure, match="Choose one CSV file"):
        Import().execute_task(parameters)


def test_an_import_of_something_else_fails_for_good_and_says_why() -> None:
    with pytest.raises(PermanentTaskFailure, match="may be a workbook"):
        Import().execute_task({"file": b"PK\x03\x04\x00"})
