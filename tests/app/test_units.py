"""Numbers as people read them."""

import numpy as np
import pytest

from app import units


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [(0, "bytes", "0 B"), (999, "bytes", "999 B"), (1234567, "bytes", "1.23 MB"), (8.19e12, "FLOPs", "8.19 TFLOP"),
     (1.5e9, "parameters", "1.50 G"), (123.4e6, "bytes", "123 MB"), (45.67e3, "bytes", "45.7 kB"),
     # Rounding comes before the prefix and the number of digits
     (999.6e6, "bytes", "1.00 GB"), (999_600, "bytes", "1.00 MB"), (9.996e6, "bytes", "10.0 MB"), (99.96e3, "bytes", "100 kB"),
     (999.4e6, "bytes", "999 MB"), (1125, "bytes", "1.13 kB")],
)  # fmt: skip
def test_amounts_have_three_digits_and_a_prefix(value, unit, shown):
    assert units.amount(value, unit) == shown


@pytest.mark.parametrize("kind", [np.int64, np.float64, np.float32, int])
def test_amounts_of_tables_are_numbers_too(kind):
    assert units.amount(kind(80_000_000_000), "bytes") == "80.0 GB"


def test_savings_have_a_sign():
    assert [units.saved(15.44), units.saved(0.0)] == ["−15.4%", "±0%"]


def test_a_slower_shared_model_is_not_called_equal():
    assert units.saved(-3.21) == "+3.2%"


def test_a_duration_is_rounded_before_its_unit_is_chosen():
    assert [units.seconds(value) for value in (0.9994, 0.9996, 1.2)] == ["999 ms", "1.00 s", "1.20 s"]
