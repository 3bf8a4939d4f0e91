"""A failing label without a single candidate is named before any work, wherever labels can be told.

The pool has no image of blue, and there are blue failures.
"""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from dcd.config import load_config
from dcd.validation import inventory
from dcd.validation.run import examine
from tests.case import png, write_case
from tests.mds import write_mds

IMAGES = [(f"q{n}", ("red", "green")[n % 2]) for n in range(6)]


def rows() -> list[dict]:
    rng = np.random.default_rng(0)
    return [
        {"image_id": image_id, "image": png(rng, label, dark=False), "weak_label": label}
        for image_id, label in IMAGES
    ]


def as_parquet(folder: Path) -> dict[str, object]:
    pq.write_table(pa.Table.from_pylist(rows()), folder / "few.parquet")
    return {"images": str(folder / "few.parquet")}


def as_lance(folder: Path) -> dict[str, object]:
    lance.write_dataset(pa.Table.from_pylist(rows()), str(folder / "few.lance"))
    return {"images": str(folder / "few.lance")}


def as_mds(folder: Path) -> dict[str, object]:
    columns = {"image": "png", "image_id": "str", "weak_label": "str"}
    samples = [[r["image"], r["image_id"].encode(), r["weak_label"].encode()] for r in rows()]
    write_mds(folder / "mds", columns, [samples])
    return {"images": str(folder / "mds")}


def as_tar(folder: Path) -> dict[str, object]:
    with tarfile.open(folder / "few.tar", "w") as tar:
        for row in rows():
            for suffix, data in (("png", row["image"]), ("cls", row["weak_label"].encode())):
                member = tarfile.TarInfo(f"{row['image_id']}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return {"images": str(folder / "few.tar")}


def as_folders(folder: Path) -> dict[str, object]:
    for row in rows():
        place = folder / "few" / row["weak_label"]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{row['image_id']}.png").write_bytes(row["image"])
    return {"images": str(folder / "few")}


def as_manifest(folder: Path) -> dict[str, object]:
    as_folders(folder)
    lines = [f"few/{label}/{image_id}.png,{label}" for image_id, label in IMAGES]
    (folder / "few.csv").write_text("\n".join(["uri,label", *lines]))
    return {"images": str(folder / "few.csv")}


def as_labels(folder: Path) -> dict[str, object]:
    """The labels beside the images say blue; the table, which counts, does not."""
    blue = [{**row, "weak_label": "blue"} for row in rows()]
    pq.write_table(pa.Table.from_pylist(blue), folder / "few.parquet")
    lines = [f"{image_id},{label}" for image_id, label in IMAGES]
    (folder / "labels.csv").write_text("\n".join(["image_id,label", *lines]))
    return {"images": str(folder / "few.parquet"), "labels": str(folder / "labels.csv")}


def as_queries(folder: Path) -> dict[str, object]:
    """Blue is a query that the map does not name."""
    every = [*rows(), {**rows()[0], "image_id": "q9", "weak_label": "blue"}]
    pq.write_table(pa.Table.from_pylist(every), folder / "few.parquet")
    (folder / "map.csv").write_text("weak_label,label\nred,red\ngreen,green\n")
    return {"images": str(folder / "few.parquet"), "label_map": str(folder / "map.csv")}


DOORS: dict[str, Callable[[Path], dict[str, object]]] = {
    "parquet": as_parquet,
    "lance": as_lance,
    "mds": as_mds,
    "tar": as_tar,
    "class folders": as_folders,
    "manifest": as_manifest,
    "labels table": as_labels,
    "label map": as_queries,
}


@pytest.fixture
def case(tmp_path: Path) -> Path:
    return write_case(tmp_path, seeds=(0,))


def said(config: Path, pool: dict[str, object]) -> str:
    document = yaml.safe_load(config.read_text())
    document["pool"] = {"name": "few", **pool}
    config.write_text(yaml.safe_dump(document))
    return "\n".join(f"{p.place}: {p.message}" for p in examine(load_config(config)).problems)


UNMET = "error_sample: label 'blue' is carried by no pool image"


@pytest.mark.parametrize("door", DOORS)
def test_it_is_named_at_every_door(door: str, case: Path, tmp_path: Path):
    assert UNMET in said(case, DOORS[door](tmp_path))


@pytest.mark.parametrize("door", ["parquet", "tar", "class folders"])
def test_it_is_named_on_an_object_store(door: str, case: Path, tmp_path: Path, s3_url: str):
    place = Path(str(DOORS[door](tmp_path)["images"]))
    fs, _ = fsspec.core.url_to_fs(s3_url)
    there = f"{s3_url}/{place.name}"
    fs.put(str(place), there, recursive=place.is_dir())
    assert UNMET in said(case, {"images": there})


@pytest.mark.parametrize("door", ["labels table", "label map"])
def test_a_table_tells_it_where_the_images_are_too_many_to_look_at(
    door: str, case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pool = DOORS[door](tmp_path)
    monkeypatch.setattr(inventory, "MAX_IMAGES", 3)
    assert UNMET in said(case, pool)


def test_nothing_is_claimed_of_images_that_were_not_looked_at(
    case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pool = as_parquet(tmp_path)
    monkeypatch.setattr(inventory, "MAX_IMAGES", 3)
    assert "no pool image" not in said(case, pool)
