import pytest

from dcd.report.words import filesize


@pytest.mark.parametrize(
    ("n_bytes", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (31_240, "31.2 kB"),
        (1_000_000, "1.0 MB"),
        (2.5e12, "2.5 TB"),
        (1_234e12, "1,234.0 TB"),
    ],
)
def test_sizes_for_people(n_bytes: float, words: str):
    assert filesize(n_bytes) == words
