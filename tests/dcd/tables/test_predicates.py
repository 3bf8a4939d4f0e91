import uuid

import numpy as np
import pyarrow as pa
import pytest

from dcd.errors import ConfigError
from dcd.tables.predicates import as_seen, named_columns, rows_where


def kept(table: pa.Table, where: str, *, text: bool = False) -> list[int]:
    """The numbers of the rows that a predicate keeps."""
    names = named_columns(where, table.column_names)
    seen = pa.table({name: as_seen(table[name], is_text_table=text) for name in names})
    return rows_where(seen, table.num_rows, where, "train.where", table.column_names).to_pylist()


@pytest.fixture
def labels() -> pa.Table:
    return pa.table(
        {
            "image_id": ["b", "a", "d", "c"],
            "role": ["train", "test ", "train", None],
            "mode": pa.array([0, 1, 2, 3], pa.int32()),
        }
    )


def test_rows_are_kept_in_their_order(labels):
    assert kept(labels, "role = 'train' AND mode < 9") == [0, 2]
    assert kept(labels, "role = 'nobody'") == []
    assert kept(labels, "role IS NULL") == [3]
    assert kept(labels, "1 = 1") == [0, 1, 2, 3]


def test_order_survives_many_rows():
    many = pa.table({"n": range(300_000)})
    assert kept(many, "n % 3 = 0") == list(range(0, 300_000, 3))


@pytest.mark.parametrize(
    "where",
    [
        "rol = 'train'",
        "role =",
        "",
        "role",
        "1); DROP TABLE x; --",
        "TRUE; SELECT 1",
        "EXISTS (SELECT * FROM read_text('/etc/hostname'))",
        "EXISTS (FROM 'labels.parquet')",
        "image_id IN (SELECT image_id FROM labels)",
    ],
)
def test_bad_or_reaching_predicates_are_refused_with_the_columns(labels, where):
    with pytest.raises(ConfigError) as caught:
        kept(labels, where)
    (problem,) = caught.value.problems
    assert problem.startswith(f"train.where: where {where!r}")
    assert "['image_id', 'role', 'mode']" in problem
    assert "\n" not in problem


def test_a_predicate_sees_text_as_labels_are_cleaned():
    table = pa.table({"role": ["train", "cafe\u0301", " "], "Köln": ["x", "y", "z"]})
    assert kept(table, "role = 'caf\u00e9'") == [1]
    assert kept(table, "role IS NULL") == [2]
    assert kept(table, "köln = 'z'") == [2]


def test_columns_that_the_predicate_does_not_name_do_not_matter():
    """DuckDB 2.0 cannot scan halffloats; Arrow 26 cannot take string views."""
    table = pa.table(
        {
            "role": pa.array(["train", "test"], pa.string_view()),
            "score": pa.array(np.array([0.5, 1], np.float16)),
            "many": pa.array([[1], [2]], pa.list_view(pa.int8())),
            "id": pa.array([uuid.UUID(int=n).bytes for n in (1, 2)], pa.uuid()),
            "kind": pa.array(["a", "b"]).dictionary_encode(),
        }
    )
    assert kept(table, "role = 'test'") == [1]
    assert kept(table, "score > 0.7 AND kind = 'b'") == [1]
    assert kept(table, f"id = '{uuid.UUID(int=1)}'") == [0]


@pytest.mark.parametrize(
    ("values", "where", "rows"),
    [
        (["1", "3", ""], "x < 3", [0]),
        (["1", "03", ""], "x = '03'", [1]),
        (["0.5", "1e3", "2"], "x > 1", [1, 2]),
        (["true", "False", ""], "x", [0]),
        (["2026-01-31", "2025-12-01", ""], "year(x) = 2026", [0]),
        (["2026-01-45", "2025-12-01", ""], "x LIKE '2026%'", [0]),
        (["null", "NaN", "1"], "x = 'NaN'", [1]),
        (["12345678901234567890", "12345678901234567891"], "x = '12345678901234567890'", [0]),
    ],
)
def test_columns_of_text_tables_are_taken_for_what_all_their_values_say(values, where, rows):
    assert kept(pa.table({"x": values}), where, text=True) == rows


@pytest.mark.parametrize("where", ["WHERE mode < 1", "mode < 1;", " where\n mode < 1 ; "])
def test_the_word_where_and_the_end_of_a_statement_may_stand_there(labels, where):
    assert kept(labels, where) == [0]


def test_text_in_double_quotes_is_told(labels):
    with pytest.raises(ConfigError, match="text stands in single quotes"):
        kept(labels, 'role = "train"')


@pytest.mark.parametrize("where", ["random() < 0.5", "role = 'a' and hash(UUID ()) % 2 = 0"])
def test_a_draw_is_no_predicate(labels, where):
    """A table is read again for every stage: each would have other rows."""
    with pytest.raises(ConfigError, match="draws anew whenever the table is read"):
        kept(labels, where)
    assert kept(labels, "role <> 'random() '") == [0, 1, 2]
