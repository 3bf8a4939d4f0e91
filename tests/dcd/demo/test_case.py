"""A demonstration case is what it says: hidden kinds, wrong labels, files that are no images."""

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dcd.config import load_config
from dcd.demo.case import CASES, SEEDS, write_demo
from dcd.errors import ConfigError
from dcd.sources.listing import list_shards
from dcd.sources.records import RawImage
from dcd.sources.shards import read_shard
from tests.dcd.demo.test_clothes import drawn_clothes

ROLES = {"train", "test", "error_sample", "debug_val", "debug_heldout"}


def write(folder: Path, case: str) -> None:
    """Write the case; the clothes are drawn ones, for the real ones are no package of Python."""
    if case == "digits":
        write_demo(folder)
    else:
        images = folder.parent / "images"
        images.mkdir(exist_ok=True)
        drawn_clothes(images)
        write_demo(folder, case, images)


@pytest.fixture(scope="module", params=[pytest.param("digits", marks=pytest.mark.slow), "clothes"])
def case(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(case: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "case"
    write(folder, case)
    return folder


@pytest.fixture(scope="module")
def weak_labels(folder: Path) -> dict[str, str]:
    """What the pool says of its images; files that are no images are not among them."""
    pool = load_config(folder / "config.yaml").pool
    images = [image for shard in list_shards(pool) for image in read_shard(shard, pool)]
    return {i.image_id: i.weak_label for i in images if isinstance(i, RawImage) and i.weak_label}


def test_two_in_five_pool_labels_are_wrong(folder: Path, weak_labels: dict[str, str], case: str):
    table = pq.read_table(folder / "truth.parquet").to_pydict()
    truth = dict(zip(table["image_id"], table["label"], strict=True))
    wrong = np.mean([truth[image_id] != label for image_id, label in weak_labels.items()])
    assert 0.37 < wrong < 0.43
    assert len(weak_labels) == {"digits": 3000, "clothes": 4002}[case]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_model_never_saw_the_failing_kinds(
    folder: Path, weak_labels: dict[str, str], seed: int
):
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


def test_writing_it_again_gives_the_same_files(folder: Path, case: str, tmp_path: Path):
    again = tmp_path / "case"
    write(again, case)
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "config.yaml":
            assert path.read_bytes() == (again / path.relative_to(folder)).read_bytes(), path


def test_a_case_that_there_is_not_is_refused_with_those_that_there_are(tmp_path: Path):
    with pytest.raises(ConfigError, match="'shoes'; there are: digits, clothes"):
        write_demo(tmp_path, "shoes")
    assert len(CASES) == 2


def test_the_digits_take_no_folder_of_images(tmp_path: Path):
    with pytest.raises(ConfigError, match="--case clothes"):
        write_demo(tmp_path, "digits", tmp_path)
    assert not list(tmp_path.iterdir())
