import pytest

from benchmarks.gate_level import passed_share

pytestmark = pytest.mark.slow


def test_what_the_error_sample_chose_keeps_the_gates_level():
    """Of 300 worthless models a test of 5 % passes 15, and more than 26 in 4 of 1,000 such runs."""
    assert passed_share("error_sample", "failures_first", 300) <= 26 / 300


def test_what_debug_val_chose_would_not():
    assert passed_share("debug_val", 1.0, 100) > 0.1


def test_unless_it_must_prove_more():
    assert passed_share("debug_val, tested at 5 % / models", 1.0, 100) <= 0.05
