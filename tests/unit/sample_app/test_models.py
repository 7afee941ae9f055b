"""What the sample application stores."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sample_app.models import DecimalProperty

PRICE = DecimalProperty("price")


@given(st.decimals(allow_nan=False))
def test_a_decimal_comes_back_as_it_was_written(value: Decimal) -> None:
    assert str(PRICE._from_base_type(PRICE._to_base_type(value))) == str(value)


@pytest.mark.parametrize("value", [2.55, 2, "2.55"])
def test_what_is_not_a_decimal_is_not_stored(value: object) -> None:
    with pytest.raises(TypeError, match="expected a Decimal"):
        PRICE._validate(value)
