import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcd.errors import SchemaMismatch
from dcd.store.parquet import as_parquet
from dcd.tables import schemas
from dcd.tables.vectors import embedding_matrix, stacked_vectors


def table(values: np.ndarray) -> pa.Table:
    """A table with nothing but its embedding column."""
    kind = pa.list_(pa.field("element", pa.float16(), nullable=False), values.shape[1])
    flat = pa.array(values.astype(np.float16).ravel())
    return pa.table({"embedding": pa.FixedSizeListArray.from_arrays(flat, type=kind)})


VALUES = np.arange(24, dtype=np.float32).reshape(8, 3) / 8


def test_vectors_are_float32_rows():
    found = embedding_matrix(table(VALUES))
    assert found.dtype == np.float32
    assert np.array_equal(found, VALUES)


def test_vectors_of_a_slice_and_of_several_chunks():
    parts = pa.concat_tables([table(VALUES[:5]), table(VALUES[5:])])
    assert parts["embedding"].num_chunks == 2
    assert np.array_equal(embedding_matrix(parts.slice(3, 4)), VALUES[3:7])


def test_stacked_vectors_stand_in_the_order_of_the_tables():
    tables = [table(VALUES[4:]), table(VALUES).slice(0, 0), table(VALUES[:2])]
    assert np.array_equal(stacked_vectors(tables), np.vstack([VALUES[4:], VALUES[:2]]))


def test_no_rows_have_no_vectors():
    assert embedding_matrix(table(VALUES).slice(0, 0)).shape == (0, 3)


def test_vectors_are_published_without_a_dictionary():
    names = table(VALUES).append_column("label", pa.array(["cat"] * 8))
    written = pq.ParquetFile(pa.BufferReader(as_parquet(names)))
    encodings = {
        column.path_in_schema: column.encodings
        for column in map(written.metadata.row_group(0).column, range(2))
    }
    assert "RLE_DICTIONARY" in encodings["label"]
    assert "RLE_DICTIONARY" not in encodings["embedding.list.element"]
    assert written.read().equals(names)


def test_conform_names_the_missing_column():
    with pytest.raises(SchemaMismatch, match=r"picks: lacks the columns \['image_id'"):
        schemas.conform(pa.table({"label": ["a"]}), schemas.PICKS, "picks")
