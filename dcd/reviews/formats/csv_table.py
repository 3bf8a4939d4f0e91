"""A table for any tool, or a spreadsheet: one row an image, with a column to fill in."""

import csv
import io
from collections.abc import Mapping, Sequence

from dcd.errors import DataError
from dcd.reviews.hand_off import NONE_OF_THESE, Answer, Asked
from dcd.tables.labels import clean_text
from dcd.tables.text_header import encoding_of, text_header, torn_quote

_GIVEN = ("key", "image_id", "label", "file", "url", "distance", "agreement", "failure")
_ASKED = ("true_label", "reviewer")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet runs a cell that begins so


def written(asked: Sequence[Asked], classes: Sequence[str]) -> Mapping[str, bytes]:
    """Write reviews.csv, whose last two columns are to be filled in, and classes.txt.

    Names that a spreadsheet would run as a formula have an apostrophe before them.
    """
    text = io.StringIO()
    table = csv.writer(text)  # with CRLF, or it would not quote a name that holds CR
    table.writerow([*_GIVEN, *_ASKED])
    for one in asked:
        values = [getattr(one, name) for name in _GIVEN]
        table.writerow([_shown(value) for value in values] + ["", ""])
    return {
        "reviews.csv": text.getvalue().encode(),
        "classes.txt": "".join(f"{name}\n" for name in (*classes, NONE_OF_THESE)).encode(),
    }


def answers(data: bytes, place: str) -> list[Answer]:
    """Read rows whose true_label is filled in; the others were not decided about.

    Whatever separator a spreadsheet saves, in UTF-8 or UTF-16. Raises DataError if the columns
    `key` and `true_label` are missing, or quotes do not match.
    """
    try:
        lines = io.StringIO(data.decode(encoding_of(data)), newline="")
        header = text_header(lines, ",")
        names = () if header is None else header.names
        missing = {"key", "true_label"} - set(names)
        if missing:
            raise DataError(
                f"{place}: lacks the columns {sorted(missing)}, it has {list(names)}; keep those "
                "that went out"
            )
        separator, n_above = (",", 0) if header is None else (header.separator, header.n_lines)
        below = list(lines)
        if torn := torn_quote(below, separator, n_above):
            raise DataError(f"{place}: {torn}")
        rows = list(csv.DictReader(below, names, delimiter=separator))
    except (ValueError, csv.Error) as err:
        raise DataError(f"{place}: is no CSV in UTF-8 ({err}); save it as CSV UTF-8") from err
    found = []
    for row in rows:
        label, who = clean_text(_meant(row["true_label"])), clean_text(row.get("reviewer") or "")
        if label:
            found.append(Answer(clean_text(_meant(row["key"])), label, who or "csv", ""))
    return found


def _shown(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value


def _meant(cell: str | None) -> str:
    """Take away the apostrophe that `_shown` put there; a spreadsheet may have done so itself."""
    text = cell or ""
    return text[1:] if text.startswith(tuple(f"'{sign}" for sign in _FORMULA)) else text
