import numpy as np
import pyarrow as pa

from dcd.index.sample import BottomK
from dcd.tables import schemas
from tests.dcd.index.vector_pools import as_column, content


def rows(ids: list[str]) -> pa.Table:
    columns = [
        pa.array(["a" if i.endswith("0") else "b" for i in ids], pa.string()),
        pa.array(ids, pa.string()),
        pa.array(["s"] * len(ids), pa.string()),
        pa.array([content(i) for i in ids], schemas.CONTENT_HASH),
        as_column(np.array([[float(i[1:])] for i in ids]).reshape(-1, 1)),
    ]
    return pa.table(columns, schema=schemas.clustered(1))


def sampled(ids: list[str], n_rows: int, batch: int) -> pa.Table:
    sample = BottomK(n_rows, schemas.clustered(1))
    for start in range(0, len(ids), batch):
        sample.take(rows(ids[start : start + batch]))
    return sample.table()


IDS = [f"i{n:04d}" for n in range(2000)]


def test_the_same_rows_give_the_same_sample_in_any_order_and_batches():
    first = sampled(IDS, 100, 64)
    assert first.num_rows == 100
    assert first.equals(sampled(IDS[::-1], 100, 999))
    assert set(first["image_id"].to_pylist()) == set(sorted(IDS, key=content)[:100])
    assert first.sort_by([("weak_label", "ascending"), ("image_id", "ascending")]).equals(first)


def test_every_row_belongs_to_the_sample_of_few_rows():
    assert sampled(IDS[:50], 100, 7)["image_id"].to_pylist() == sorted(
        IDS[:50], key=lambda i: (not i.endswith("0"), i)
    )
    assert sampled([], 100, 1).num_rows == 0


def test_samples_of_parts_merge_into_the_sample_of_the_whole():
    merged = BottomK(100, schemas.clustered(1))
    merged.take(sampled(IDS[:1300], 100, 500))
    merged.take(sampled(IDS[1300:], 100, 500))
    assert merged.table().equals(sampled(IDS, 100, 300))


def test_the_sample_is_uniform():
    drawn = np.array(sampled(IDS, 500, 100)["image_id"].to_pylist())
    low = np.mean([int(i[1:]) < 1000 for i in drawn])
    assert 0.42 < low < 0.58  # 5 standard deviations of a draw without replacement are 0.1


def test_repeated_contents_are_cut_by_image_id():
    ids = [f"i{n:03d}" for n in range(300)]
    same = rows(ids)
    at = same.schema.get_field_index("content_hash")
    same = same.set_column(
        at, same.schema.field(at), pa.array([content("x")] * 300, schemas.CONTENT_HASH)
    )
    sample = BottomK(10, schemas.clustered(1))
    for start in (200, 0, 100):
        sample.take(same.slice(start, 100))
    assert sorted(sample.table()["image_id"].to_pylist()) == ids[:10]


def test_rows_that_were_all_seen_before_give_the_same_sample():
    twice = [*IDS, *IDS[500:900]]
    tables = [rows(twice[start : start + 64]) for start in range(0, len(twice), 64)]
    sample = BottomK(100, schemas.clustered(1))
    assert list(sample.seeing(iter(tables))) == tables
    n_taken = 0
    for start in range(0, len(IDS), 50):  # the second ones have dropped out
        sample.take(rows(IDS[start : start + 50]))
        n_taken = max(n_taken, sample.n_held)
    assert n_taken == 100
    assert sample.table().equals(sampled(IDS, 100, 64))
    few = BottomK(100, schemas.clustered(1))
    assert sum(table.num_rows for table in few.seeing(iter(tables[:1]))) == 64
    few.take(tables[0])
    assert few.table().equals(sampled(IDS[:64], 100, 64))
