import numpy as np
import pyarrow as pa
import pytest

from dcd.index.build import build_index
from dcd.index.read import pool_sample
from dcd.index.search import in_label_neighbors
from dcd.label_noise.trust import Trust
from dcd.selection.trusted_search import (
    TOO_DEEP,
    UNTRUSTED,
    Refusals,
    fill_rate,
    general_sample,
    refuse_untrusted,
    trusted_neighbors,
)
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


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


def distrusting(*bad: str):
    """A rule that refuses these images and no others."""

    def rule(rows: pa.Table) -> Refusals:
        good = np.array([i not in bad for i in rows["image_id"].to_pylist()], np.float32)
        return refuse_untrusted(Trust(0.5 * good, good), 0, 0.5)

    return rule


def search(store: Store, bad: tuple[str, ...], k: int = 2, max_depth: int = 10, blocked=None):
    index = line_pool(store)
    failures = failures_table(["a"], np.array([[0.0]]))
    refused = blocked_table(blocked or {})
    return trusted_neighbors(store, index, failures, refused, k, distrusting(*bad), max_depth)


def rows_of(neighbors: pa.Table) -> list[tuple]:
    return [
        (row["image_id"], row["rank"], row["kept"], row["reason"]) for row in neighbors.to_pylist()
    ]


def test_refused_images_are_replaced_by_the_next_nearest(store):
    found = search(store, ("i0", "i1", "i3"), blocked={"i2": "in train"})
    assert found.schema.equals(schemas.NEIGHBORS)
    assert rows_of(found) == [
        ("i0", 1, False, UNTRUSTED),
        ("i1", 2, False, UNTRUSTED),
        ("i2", 3, False, "in train"),
        ("i3", 4, False, UNTRUSTED),
        ("i4", 5, True, None),
        ("i5", 6, True, None),
    ]
    assert found["label_agreement"].to_pylist() == [0.0, 0.0, None, 0.0, 0.5, 0.5]
    assert fill_rate(found, 1, 2) == 1


def test_a_label_that_runs_out_is_reported_as_under_filled(store):
    found = search(store, ("i0", "i1", "i2", "i3", "i4"))
    assert found.filter(found["kept"])["image_id"].to_pylist() == ["i5"]
    assert fill_rate(found, 1, 2) == 0.5


def test_nothing_is_kept_beyond_the_depth(store):
    found = search(store, ("i0", "i1"), max_depth=1)
    assert rows_of(found)[2:] == [("i2", 3, False, TOO_DEEP), ("i3", 4, False, TOO_DEEP)]
    assert fill_rate(found, 1, 2) == 0


def test_trust_in_everything_is_the_plain_search(store):
    found = search(store, ())
    index = line_pool(store)
    plain = in_label_neighbors(
        store, index, failures_table(["a"], np.array([[0.0]])), blocked_table({}), 2
    )
    assert found.drop(["label_agreement"]).equals(plain.drop(["label_agreement"]))


def test_the_general_sample_is_trusted_free_and_of_known_labels(store):
    sample = pool_sample(store, line_pool(store))
    blocked = blocked_table({"i0": "in train"})
    found = general_sample(sample, blocked, ["a"], 100, distrusting("i1"))
    assert found["image_id"].to_pylist() == ["i2", "i3", "i4", "i5"]
    assert found["label_agreement"].to_pylist() == [0.5] * 4
    few = general_sample(sample, blocked, ["a"], 2, distrusting())
    assert few.num_rows == 2
    assert general_sample(sample, blocked, ["a"], 0, distrusting()).num_rows == 0


def test_it_does_not_matter_which_failures_are_asked_together(store):
    """Of a pool whose images have several labels: what allows to keep a group's neighbours."""
    rng = np.random.default_rng(0)
    ids, labels, vectors = [], [], []
    for n in range(150):
        place = rng.normal(size=3)
        for label in rng.choice(list("abc"), rng.integers(1, 3), replace=False):
            ids.append(f"i{n:03d}")
            labels.append(str(label))
            vectors.append(place)
    put_shard(store, "s", ids, labels, np.array(vectors))
    index = build_index(store, POOL, ENCODER, ["s"], None)
    wrong = {(i, label) for i, label in zip(ids, labels, strict=True) if rng.random() < 0.6}

    def rule(rows: pa.Table) -> Refusals:
        pairs = zip(rows["image_id"].to_pylist(), rows["label"].to_pylist(), strict=True)
        good = np.array([pair not in wrong for pair in pairs], np.float32)
        return refuse_untrusted(Trust(good, good), 0, 0.5)

    failures = failures_table(list("abcabcab"), rng.normal(size=(8, 3)))
    blocked = blocked_table(dict.fromkeys(ids[::7], "in test"))

    def ask(some: pa.Table) -> pa.Table:
        every = pa.array(["a", "b", "c"])
        return trusted_neighbors(store, index, some, blocked, 4, rule, 5, every)

    together = ask(failures)
    apart = pa.concat_tables([ask(failures.slice(i, 1)) for i in range(failures.num_rows)])
    assert apart.equals(together)
    assert {UNTRUSTED, "in test", TOO_DEEP, None} == set(together["reason"].to_pylist())
