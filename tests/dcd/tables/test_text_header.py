"""The head of a text table: separator and names."""

import pytest

from dcd.tables.text_header import TextHeader, text_header


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a,b\n1,2\n", TextHeader(("a", "b"), ",", 1, is_guess=False)),
        ("\n \n a , b\n", TextHeader(("a", "b"), ",", 3, is_guess=False)),
        ("a;b\n", TextHeader(("a", "b"), ";", 1, is_guess=True)),
        ("a;b|c\n", TextHeader(("a;b|c",), ",", 1, is_guess=False)),
        ('a;"b,c"\n', TextHeader(("a", "b,c"), ";", 1, is_guess=True)),
        ("sep=|\na|b,c\n", TextHeader(("a", "b,c"), "|", 2, is_guess=True)),
        ("sep=,\na,b\n", TextHeader(("a", "b"), ",", 2, is_guess=False)),
        ('\ufeff"a","b"\n', TextHeader(("a", "b"), ",", 1, is_guess=False)),
        ("\n\ufeff\n", None),
    ],
)
def test_names_and_separator(text: str, found: TextHeader | None):
    assert text_header(text.splitlines(keepends=True), ",") == found
