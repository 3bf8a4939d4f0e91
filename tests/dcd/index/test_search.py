import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dcd.errors import DataError, EncoderMismatch, LabelError
from dcd.index import search, sort
from dcd.index.build import build_index
from dcd.index.search import in_label_neighbors
from dcd.store import Store
from dcd.tables import schemas
from tests.dcd.index.vector_pools import (
    ENCODER,
    POOL,
    blocked_table,
    failures_table,
    line_pool,
    put_shard,
)

NOTHING_BLOCKED = blocked_table({})


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


def brute_force(pool, failures, blocked, k):
    """NEIGHBORS rows by the definition: sort all images of the label by (distance, image_id)."""
    expected = []
    for failure in failures.to_pylist():
        query = np.float64(failure["embedding"])
        ranked = sorted(
            (np.float32(np.sqrt(((np.float64(vector) - query) ** 2).sum())), image_id)
            for image_id, label, vector in pool
            if label == failure["label"]
        )
        n_kept = 0
        for rank, (distance, image_id) in enumerate(ranked, 1):
            if n_kept == k:
                break
            reason = blocked.get(image_id)
            n_kept += reason is None
            expected.append((failure["image_id"], image_id, distance, rank, reason))
    return sorted(expected, key=lambda row: (row[0], row[3]))


def found_rows(neighbors):
    assert neighbors.schema.equals(schemas.NEIGHBORS)
    assert all(row["kept"] == (row["reason"] is None) for row in neighbors.to_pylist())
    return [
        (r["error_image_id"], r["image_id"], np.float32(r["distance"]), r["rank"], r["reason"])
        for r in neighbors.to_pylist()
    ]


# Few distinct numbers: ties, duplicates and images on top of a failure are the rule.
NUMBERS = st.sampled_from([0.0, 1.0, -1.0, 0.333, 2.5, 1000.0, 60000.0, 6e-8])


@st.composite
def cases(draw):
    dim = draw(st.integers(1, 4))
    vector = st.lists(NUMBERS, min_size=dim, max_size=dim)
    labels = draw(st.lists(st.sampled_from("ab"), min_size=1, max_size=4))
    queries = [draw(vector) for _ in labels]
    n_pool = draw(st.integers(0, 40))
    pool = [("a", draw(vector)), ("b", draw(vector))]  # one row a label at least
    pool += [(draw(st.sampled_from("abc")), draw(vector)) for _ in range(n_pool)]
    blocked = draw(st.sets(st.integers(0, len(pool) - 1), max_size=8))
    return labels, np.array(queries), pool, blocked, draw(st.integers(1, 12))


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=cases())
def test_equals_brute_force_with_ties_and_duplicates(case, tmp_path_factory, monkeypatch):
    labels, queries, pool, blocked, k = case
    dim = queries.shape[1]
    monkeypatch.setattr(sort, "MAX_GROUP_BYTES", 2 * dim * 7)
    monkeypatch.setattr(sort, "MIN_GROUP_BYTES", 2 * dim * 3)
    monkeypatch.setattr(search, "_QUERY_BLOCK", 2)
    store = Store(str(tmp_path_factory.mktemp("store")))
    order = np.random.default_rng(0).permutation(len(pool))
    ids = [f"i{n:02d}" for n in order]
    vectors = np.array([vector for _, vector in pool])
    half = len(pool) // 2
    put_shard(store, "s0", ids[:half], [label for label, _ in pool[:half]], vectors[:half])
    put_shard(store, "s1", ids[half:], [label for label, _ in pool[half:]], vectors[half:])
    index = build_index(store, POOL, ENCODER, ["s0", "s1"], None)
    failures = failures_table(labels, queries)
    reasons = {ids[n]: "in test" for n in blocked}
    neighbors = in_label_neighbors(store, index, failures, blocked_table(reasons), k)
    images = [
        (i, label, np.float16(vector))
        for i, (label, _), vector in zip(ids, pool, vectors, strict=True)
    ]
    assert found_rows(neighbors) == brute_force(images, failures, reasons, k)


def test_equals_brute_force_in_many_dimensions_far_from_the_origin(store):
    rng = np.random.default_rng(0)
    vectors = (rng.standard_normal((3000, 96)) * 0.05 + 100).astype(
        np.float16
    )  # cancellation's worst case
    ids = [f"i{n:04d}" for n in range(3000)]
    labels = rng.choice(["a", "b"], 3000).tolist()
    put_shard(store, "s", ids, labels, vectors)
    index = build_index(store, POOL, ENCODER, ["s"], None)
    failures = failures_table(["a", "b", "a"], rng.standard_normal((3, 96)) * 0.05 + 100)
    neighbors = in_label_neighbors(store, index, failures, NOTHING_BLOCKED, 20)
    pool = list(zip(ids, labels, vectors, strict=True))
    assert found_rows(neighbors) == brute_force(pool, failures, {}, 20)


def test_blocked_images_are_listed_and_do_not_count(store):
    index = line_pool(store)
    blocked = blocked_table({"i1": "in test", "i4": "in train"})
    both = pa.concat_tables([blocked, blocked_table({"i1": "in debug_val"})])
    neighbors = in_label_neighbors(store, index, failures_table(["a"], np.zeros((1, 1))), both, 3)
    assert found_rows(neighbors) == [
        ("e000", "i0", 0, 1, None),
        ("e000", "i1", 1, 2, "in debug_val, in test"),
        ("e000", "i2", 2, 3, None),
        ("e000", "i3", 3, 4, None),
    ]


def test_a_label_with_too_few_images_gives_all_it_has(store):
    index = line_pool(store, n=2)
    blocked = blocked_table({"i1": "in test"})
    failures = failures_table(["a", "b"], np.zeros((2, 1)))
    neighbors = in_label_neighbors(store, index, failures, blocked, 50)
    assert neighbors["image_id"].to_pylist() == ["i0", "i1", "z"]
    assert neighbors["kept"].to_pylist() == [True, False, True]


def test_bad_queries_are_refused(store):
    index = line_pool(store)
    with pytest.raises(LabelError, match=r"no image of the labels \['c', 'd'\]"):
        in_label_neighbors(
            store, index, failures_table(["d", "a", "c"], np.zeros((3, 1))), NOTHING_BLOCKED, 1
        )
    with pytest.raises(EncoderMismatch, match=r"vectors of 2 numbers.*has 1"):
        in_label_neighbors(
            store, index, failures_table(["a"], np.zeros((1, 2))), NOTHING_BLOCKED, 1
        )
    foreign = failures_table(["a"], np.zeros((1, 1))).replace_schema_metadata(
        {"encoder_id": "another"}
    )
    with pytest.raises(EncoderMismatch, match="embedded by another"):
        in_label_neighbors(store, index, foreign, NOTHING_BLOCKED, 1)
    with pytest.raises(DataError, match=r"NaN.*'e001'"):
        in_label_neighbors(
            store, index, failures_table(["a", "a"], np.array([[0], [np.nan]])), NOTHING_BLOCKED, 1
        )


def test_no_failures_give_no_neighbors(store):
    index = line_pool(store)
    neighbors = in_label_neighbors(
        store, index, failures_table([], np.zeros((0, 1))), NOTHING_BLOCKED, 3
    )
    assert neighbors.num_rows == 0


def test_on_an_object_store(s3_url):
    index = line_pool(Store(s3_url))
    neighbors = in_label_neighbors(
        Store(s3_url), index, failures_table(["a"], np.zeros((1, 1))), NOTHING_BLOCKED, 2
    )
    assert neighbors["image_id"].to_pylist() == ["i0", "i1"]
