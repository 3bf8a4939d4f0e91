"""Read the head of a text table, and check its quotes. Pure.

What stands above its columns, their separator and names; where a quote tears the rows.
"""

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass

from dcd.tables.labels import clean_text

SEPARATORS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
_BYTE_ORDER_MARK = "\ufeff"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
# What Excel (`sep=;`) and PowerShell (`#TYPE …`) write above the names.
_ABOVE = re.compile(r'#TYPE \S.*|"?sep=(?P<separator>.)"?', re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"')


@dataclass(frozen=True)
class TextHeader:
    """The columns of a text table. n_lines: up to the first row.

    is_guess: the separator is another one than the file's name tells.
    """

    names: tuple[str, ...]
    separator: str
    n_lines: int
    is_guess: bool


def encoding_of(start: bytes) -> str:
    """Name a text table's encoding by its first two bytes; `text_header` takes the mark off."""
    return "utf-16" if start[:2] in _UTF16_MARKS else "utf-8"


def text_header(lines: Iterable[str], separator: str) -> TextHeader | None:
    """Read the first lines of a text table up to its names; None if all are blank.

    separator: what the file's name tells. Another one is taken where a line above the names says
    so, or where it is the only one outside of quotes. Raises csv.Error for a line of no CSV, and
    ValueError for one with NUL characters.
    """
    said = separator
    for number, line in enumerate(lines, start=1):
        header = line.rstrip("\r\n").lstrip(_BYTE_ORDER_MARK)
        above = _ABOVE.fullmatch(header)
        if above is not None:
            said = above["separator"] or said
        elif clean_text(header):
            return _read(header, said, number, separator)
    return None


def torn_quote(lines: Iterable[str], separator: str, n_above: int) -> str | None:
    """Say in which line a quote is not closed, or closes amid a value; None for a sound table.

    Readers take all that follows such a quote, further rows too, for one value. lines: all below
    the n_above lines up to the names, with their line ends.
    """
    rows = csv.reader(lines, delimiter=separator, strict=True)
    n_lines = 0
    try:
        for _ in rows:
            n_lines = rows.line_num
    except csv.Error:
        return (
            f"the quotes from line {n_above + n_lines + 1} on do not match, so that what follows "
            "would be one value; close the quote, and write a quote within a value twice"
        )
    return None


def _read(header: str, said: str, n_lines: int, usual: str) -> TextHeader:
    if "\0" in header:
        raise ValueError("its first line holds NUL characters, as UTF-16 does; save it as UTF-8")
    bare = _QUOTED.sub("", header)
    others = [other for other in SEPARATORS if other in bare]
    found = others[0] if said not in bare and len(others) == 1 else said
    fields = next(csv.reader([header], delimiter=found, skipinitialspace=True))
    return TextHeader(tuple(map(clean_text, fields)), found, n_lines, found != usual)
