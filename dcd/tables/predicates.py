"""`where`: which rows of a labels table a user's SQL predicate keeps.

Only the columns that the predicate names reach DuckDB, as plain types. The columns of a text table
are text; for the predicate alone, one whose every value is written as a number, a date or true and
false is taken for what it says, so that `fold < 3` works and 007 stays text.
"""

import re
from collections.abc import Sequence

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.errors import ConfigError
from dcd.tables.labels import Names, clean_text, cleaned, id_column
from dcd.tables.sql import connect

_ROW = "__row"
_WHERE = re.compile(r"^where\s+", re.IGNORECASE)
_DRAWS = re.compile(r"\b(random|uuid|uuidv4|uuidv7|gen_random_uuid|nextval)\s*\(", re.IGNORECASE)
_TEXT = re.compile(r"'(?:[^']|'')*'")

# What the text of a whole column must look like to be taken for another type. Zeros in front and
# long digits are ids: these stay text.
_TYPES: tuple[tuple[str, pa.DataType], ...] = (
    (r"^(-?[1-9][0-9]{0,17}|0)$", pa.int64()),
    (r"^-?(0|[1-9][0-9]{0,9})(\.[0-9]{1,6})?([eE][-+]?[0-9]{1,2})?$", pa.float64()),
    (r"^(true|false|True|False|TRUE|FALSE)$", pa.bool_()),
    (r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", pa.date32()),
    (r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}$", pa.timestamp("s")),
)


def named_columns(where: str | None, names: Sequence[str]) -> list[str]:
    """Return the columns that a predicate may name; one too many does no harm."""
    text = (where or "").casefold()
    return [
        name
        for name in names
        if name and (name.casefold() in text or name.casefold().replace('"', '""') in text)
    ]


def as_seen(
    column: pa.ChunkedArray, names: Names | None = None, *, is_text_table: bool = False
) -> pa.Array | pa.ChunkedArray:
    """Turn a column into what a predicate sees: text cleaned as labels are, codes by their names.

    Small floats, views, large types and dictionaries become plain types.
    """
    kind = column.type
    if isinstance(kind, pa.DictionaryType):
        column, kind = column.cast(kind.value_type), kind.value_type
    if names is not None:
        return cleaned(column, names).column()
    if isinstance(kind, pa.BaseExtensionType):
        return id_column(column)
    if pa.types.is_float16(kind):
        return column.cast(pa.float32())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        text = cleaned(column)
        return _typed(text.labels, text.codes) if is_text_table else text.column()
    return column


def rows_where(
    columns: pa.Table, n_rows: int, where: str, name: str, names: Sequence[str]
) -> pa.Array:
    """Return the numbers of the rows for which `where` holds, ascending.

    columns: those that the predicate names, as `as_seen` gives them. It runs where neither files
    nor network can be reached. Raises ConfigError naming `name`, the predicate and all the columns
    of the table, `names`.
    """
    if drawn := _DRAWS.search(_TEXT.sub("''", where)):
        raise ConfigError(
            [
                f"{name}: where {where!r} draws anew whenever the table is read ({drawn[1]}); take "
                "what stays, such as hash(image_id) % 10 < 8"
            ]
        )
    rows = pa.array(np.arange(n_rows))
    numbered = pa.table({**{n: columns[n] for n in columns.column_names}, _ROW: rows})
    with connect() as connection:
        try:
            kept = connection.from_arrow(numbered).filter(_condition(where)).project(_ROW)
            numbers = kept.fetchnumpy()[_ROW]
        except duckdb.Error as err:
            raise ConfigError(
                [
                    f"{name}: where {where!r} is no SQL predicate over the columns "
                    f"{list(names)}: {_said(err)}; {_mend(where, err)}"
                ]
            ) from err
    numbers.sort()
    return pa.array(numbers)


def _condition(where: str) -> str:
    """A predicate as people write it: without the word WHERE, and what would end a statement."""
    return _WHERE.sub("", clean_text(where).rstrip("; \t\n"))


def _mend(where: str, err: duckdb.Error) -> str:
    if '"' in where and "Referenced column" in str(err):
        return "text stands in single quotes, names of columns in double ones"
    return "mend the predicate"


def _said(err: duckdb.Error) -> str:
    """DuckDB's words in a line, without columns that it was given under names of its own."""
    return " ".join(str(err).partition("Candidate bindings:")[0].split())


def _typed(values: Sequence[str | None], codes: np.ndarray) -> pa.Array:
    """Distinct values of a text column as what they all say they are, for every row."""
    distinct = pa.array(values, pa.string())
    rows = pa.array(codes, mask=codes < 0)
    for pattern, kind in _TYPES:
        fits = pc.match_substring_regex(distinct, pattern)
        if pc.all(fits, min_count=1).as_py():  # missing values fit anything
            try:
                return distinct.cast(kind).take(rows)
            except pa.ArrowInvalid:  # the 45th of a month
                continue
    return distinct.take(rows)
