from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from dcd.config import load_config
from dcd.validation.labels import code_hint, look_alikes
from dcd.validation.run import examine
from tests.case import png, write_case


@pytest.fixture
def case(tmp_path: Path) -> Path:
    return write_case(tmp_path, seeds=(0,))


def told(config: Path, section: str, **changes: object) -> tuple[str, str]:
    """The problems and the notes of a case with a section changed."""
    document = yaml.safe_load(config.read_text())
    document[section].update(changes)
    config.write_text(yaml.safe_dump(document))
    found = examine(load_config(config))
    return tuple(
        "\n".join(f"{one.place}: {one.message}" for one in part)
        for part in (found.problems, found.notes)
    )  # pyright: ignore


def test_what_is_merged_in_a_table_is_told_with_counts(case: Path, tmp_path: Path):
    rows = pq.read_table(tmp_path / "seed0.parquet").to_pylist()
    train = [row for row in rows if row["role"] == "train"]
    lines = [f"{r['image_id']},{' red' if n < 3 else r['label']}" for n, r in enumerate(train)]
    (tmp_path / "t.csv").write_text("\n".join(["image_id;label".replace(";", ","), *lines]))
    problems, notes = told(case, "train", labels=str(tmp_path / "t.csv"), where=None)
    assert problems == ""
    assert "' red' (3), 'red' (9) are one label 'red'" in notes


def test_true_labels_of_any_type_are_read_before_a_run(case: Path, tmp_path: Path):
    ids = [f"p{n:03d}" for n in range(72)]
    pq.write_table(pa.table({"image_id": ids, "label": [[1]] * 72}), tmp_path / "t.parquet")
    problems, _ = told(case, "pool", true_labels=str(tmp_path / "t.parquet"))
    assert "pool.true_labels" in problems
    assert "the label is a list" in problems
    pq.write_table(pa.table({"image_id": ids[:70], "label": range(70)}), tmp_path / "t.parquet")
    problems, notes = told(case, "pool", true_labels=str(tmp_path / "t.parquet"))
    assert problems == ""
    assert "2 of 72 pool images have no true label" in notes


@pytest.mark.parametrize("same", [True, False])
def test_ids_in_two_shards_are_a_fault_if_their_pictures_differ(
    case: Path, tmp_path: Path, same: bool
):
    rows = pq.read_table(tmp_path / "pool-0.parquet").slice(0, 2).to_pylist()
    if not same:
        rows[1]["image"] = png(np.random.default_rng(9), "blue", dark=True)
        rows[1]["weak_label"] = "blue"
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pool-9.parquet")
    problems, notes = told(case, "pool")
    where = f"{tmp_path / 'pool-0.parquet'} and another in {tmp_path / 'pool-9.parquet'}"
    assert (where in problems) == (not same)
    assert ("2 image ids stand in two places" in notes) == same


def test_labels_that_look_alike_stay_two_and_are_told():
    counts = {"cat": 5, "Cat": 2, "1": 1, "01": 3, "dog": 1, "polar bear": 1, "polar\u00a0bear": 4}
    found = "\n".join(note.message for note in look_alikes("pool.images", counts))
    assert "'Cat' (2 images), 'cat' (5 images) are different labels" in found
    assert "'01' (3 images), '1' (1 images)" in found
    assert r"'polar bear' (1 images), 'polar\xa0bear' (4 images)" in found
    assert "dog" not in found


def test_codes_beside_names_are_called_so():
    assert "these labels are numbers, those are names" in code_hint({"0", "1"}, {"cat"})
    assert "these labels are names" in code_hint({"cat"}, {"0", "1"})
    assert code_hint({"cat"}, {"dog"}) == ""
