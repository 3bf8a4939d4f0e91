from dataclasses import replace

import numpy as np
import pyarrow as pa

from dcd.config import DataConfig, Split
from dcd.failures.modes import name_modes, place, propose
from dcd.sources.source import Source
from dcd.splits.split import SplitInfo
from dcd.store import Store, keys
from dcd.tables import schemas

D = 24


def blobs(rng: np.random.Generator, centres: list[int], n: int = 20) -> np.ndarray:
    """n points around each centre, which stands out in the dimension that it names."""
    points = rng.normal(size=(n * len(centres), D))
    for i, dimension in enumerate(centres):
        points[i * n : (i + 1) * n, dimension] += 8
    return points.astype(np.float32)


def test_two_kinds_of_failure_of_one_label_are_told_apart():
    features = np.concatenate([blobs(np.random.default_rng(0), [0, 1]), np.zeros((3, D))])
    labels = ["cat"] * 40 + ["dog"] * 3
    modes = propose(features, labels)
    assert modes["cat"].names == ("1 (proposed)", "2 (proposed)")
    assert modes["dog"].names == ("3 (proposed)",)
    placed = place(modes, features, labels)
    assert len(set(placed.modes[:20])) == len(set(placed.modes[20:40])) == 1
    assert placed.modes[0] != placed.modes[20]


def test_one_kind_is_not_cut_up():
    """One Gaussian, round or long: 5 % of them may be split by chance."""
    n_split = 0
    for trial in range(8):
        rng = np.random.default_rng(trial)
        spread = np.linspace(3, 0.3, D) if trial % 2 else np.ones(D)
        features = (rng.normal(size=(40, D)) * spread).astype(np.float32)
        n_split += len(propose(features, ["cat"] * 40)["cat"].names) > 1
    assert n_split <= 2


def test_the_same_failures_give_the_same_modes():
    features = blobs(np.random.default_rng(1), [0, 1, 2])
    labels = ["cat"] * 60
    one, other = propose(features, labels)["cat"], propose(features, labels)["cat"]
    assert len(one.names) == 3
    assert np.array_equal(one.centres, other.centres)


def test_few_or_equal_failures_are_one_mode():
    assert len(propose(np.ones((30, D), np.float32), ["cat"] * 30)["cat"].names) == 1
    assert len(propose(np.ones((1, D), np.float32), ["cat"])["cat"].names) == 1


def test_an_image_of_a_label_without_failures_has_no_mode():
    modes = propose(np.ones((5, D), np.float32), ["cat"] * 5)
    placed = place(modes, np.zeros((2, D), np.float32), ["cat", "emu"])
    assert placed.modes == ["1 (proposed)", None]
    assert placed.distance[0] > 0
    assert np.isinf(placed.distance[1])


def split(store: Store, name: Split, features: np.ndarray, modes: list[str | None]) -> SplitInfo:
    n = len(features)
    values = pa.array(features.astype(np.float16).ravel())
    table = pa.table(
        {
            "image_id": [f"{name}-{i:03d}" for i in range(n)],
            "label": ["cat"] * n,
            "mode": pa.array(modes, pa.string()),
            "content_hash": pa.array([bytes(16)] * n, schemas.CONTENT_HASH),
            "embedding": pa.FixedSizeListArray.from_arrays(values, D),
        }
    )
    store.write_table(keys.split(name), schemas.conform(table, schemas.labelled_features(D), name))
    return SplitInfo(name, name, Source("s", DataConfig(images="x")), n, n, False)


def test_debug_images_get_the_nearest_proposed_mode(tmp_path):
    store = Store(str(tmp_path))
    rng = np.random.default_rng(0)
    splits: dict[Split, SplitInfo] = {
        "error_sample": split(store, "error_sample", blobs(rng, [0, 1]), [None] * 40),
        "debug_val": split(store, "debug_val", blobs(rng, [1, 0], n=3), [None] * 6),
        "test": split(store, "test", blobs(rng, [1], n=3), [None] * 3),
    }
    named = name_modes(store, splits)
    assert named["test"] == splits["test"]
    errors = store.read_table(keys.split(named["error_sample"].id))["mode"].to_pylist()
    debug = store.read_table(keys.split(named["debug_val"].id))["mode"].to_pylist()
    assert debug == [errors[20]] * 3 + [errors[0]] * 3
    assert errors[0] != errors[20]
    assert name_modes(store, splits) == named


def test_a_named_split_is_the_given_one_but_for_its_modes(tmp_path):
    store = Store(str(tmp_path))
    registry = Source("failures", DataConfig(images="inbox"))
    bare = split(store, "error_sample", blobs(np.random.default_rng(0), [0], n=4), [None] * 4)
    given = replace(bare, added=registry, made_from=("given",), n_labelled=9)
    (named,) = name_modes(store, {"error_sample": given}).values()
    assert named.id != given.id
    assert named.images_id == given.id
    assert named.made_from == ("given", given.id)
    assert named.sources == given.sources
    assert named == replace(
        given, id=named.id, made_from=named.made_from, unnamed_id=named.unnamed_id
    )


def test_modes_that_the_data_names_stay(tmp_path):
    store = Store(str(tmp_path))
    features = blobs(np.random.default_rng(0), [0], n=4)
    splits: dict[Split, SplitInfo] = {
        "error_sample": split(store, "error_sample", features, ["snow", None, None, None])
    }
    assert name_modes(store, splits) == splits
