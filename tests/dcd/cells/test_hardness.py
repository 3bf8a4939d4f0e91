from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dcd.cells.hardness import hardest, hardness
from dcd.index.build import build_index
from dcd.index.read import pool_sample
from dcd.store import Store
from dcd.tables import schemas
from dcd.training.head import LinearHead
from tests.dcd.index.vector_pools import ENCODER, POOL, content, put_shard

HEAD = LinearHead(
    ("cat", "dog"), np.array([[-1.0, 0], [1, 0]], np.float32), np.zeros(2, np.float32)
)
NOTHING = pa.table({"content_hash": pa.array([], schemas.CONTENT_HASH)})


@pytest.fixture
def pool(tmp_path: Path) -> pa.Table:
    """The first number of an image is half its logit for dog; `?` has a label the head lacks."""
    store = Store(str(tmp_path))
    sure_dog, unsure, sure_cat = [2, 9], [0.1, 9], [-3, 9]
    put_shard(
        store,
        "a",
        ["sure", "unsure", "wrong"],
        ["dog", "dog", "dog"],
        np.array([sure_dog, unsure, sure_cat]),
    )
    put_shard(
        store,
        "b",
        ["again", "other", "half", "unlabelled"],
        ["dog", "?", "cat", None],
        np.array([unsure, unsure, [0.5, 9], unsure]),
        [content("unsure"), content("other"), content("half"), content("unlabelled")],
    )
    return pool_sample(store, build_index(store, POOL, ENCODER, ["a", "b"], None))


def test_the_least_sure_come_first_and_content_counts_once(pool: pa.Table):
    found = hardest(pool, HEAD, NOTHING, "confidence", 3)
    assert found["image_id"].to_pylist() == ["again", "half", "sure"]
    assert found["label"].to_pylist() == ["dog", "cat", "dog"]
    assert found["shard"].to_pylist() == ["b", "b", "a"]


def test_the_highest_loss_is_that_of_a_wrong_label(pool: pa.Table):
    assert hardest(pool, HEAD, NOTHING, "loss", 1)["image_id"].to_pylist() == ["wrong"]


def test_blocked_content_is_not_drawn_and_a_small_pool_gives_what_it_has(
    pool: pa.Table,
):
    blocked = pa.table({"content_hash": pa.array([content("unsure")], schemas.CONTENT_HASH)})
    found = hardest(pool, HEAD, blocked, "margin", 99)
    assert found["image_id"].to_pylist() == ["half", "sure", "wrong"]


def test_hardness_by_hand():
    probability = np.array([[0.5, 0.3, 0.2], [1, 0, 0]], np.float32)
    target = np.array([1, 0])
    assert hardness(probability, target, "confidence") == pytest.approx([-0.5, -1])
    assert hardness(probability, target, "margin") == pytest.approx([-0.2, -1])
    assert hardness(probability, target, "loss") == pytest.approx([-np.log(0.3), 0])
    entropy = -(0.5 * np.log(0.5) + 0.3 * np.log(0.3) + 0.2 * np.log(0.2))
    assert hardness(probability, target, "entropy") == pytest.approx([entropy, 0])


def test_a_certain_mistake_has_a_finite_loss():
    assert np.isfinite(hardness(np.array([[1, 0]], np.float32), np.array([1]), "loss")).all()
