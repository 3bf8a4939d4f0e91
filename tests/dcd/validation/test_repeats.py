"""A picture that stands under two ids of a split is told before a run."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from dcd.config import load_config
from dcd.validation import repeats
from dcd.validation.run import examine
from tests.case import write_case


def notes(config: Path) -> str:
    return "\n".join(f"{note.place}: {note.message}" for note in examine(load_config(config)).notes)


def with_copies(folder: Path, n: int, label: str | None = None) -> Path:
    """A case whose first n failures stand there once more; label: of the copies."""
    config = write_case(folder, seeds=(0,))
    own, labels = (pq.read_table(folder / name) for name in ("own.parquet", "seed0.parquet"))
    rows = [row for row in labels.to_pylist() if row["role"] == "error_sample"][:n]
    image_of = {row["image_id"]: row["image"] for row in own.to_pylist()}
    changed = {} if label is None else {"label": label}
    ids = [f"copy-{row['image_id']}" for row in rows]
    copies = [row | {"image_id": i} | changed for row, i in zip(rows, ids, strict=True)]
    images = [
        {"image_id": i, "image": image_of[row["image_id"]]}
        for row, i in zip(rows, ids, strict=True)
    ]
    for table, more, name in ((own, images, "own.parquet"), (labels, copies, "seed0.parquet")):
        added = pa.Table.from_pylist(more, schema=table.schema)
        pq.write_table(pa.concat_tables([table, added]), folder / name)
    return config


def test_copies_among_failures_are_told_with_counts(tmp_path: Path):
    told = notes(with_copies(tmp_path, 2))
    assert "error_sample: 4 of 11 images are 2 pictures" in told
    assert "such as 'copy-" in told
    assert "different labels" not in told


def test_copies_with_another_label_are_named_so(tmp_path: Path):
    config = with_copies(tmp_path, 2, label="blue")
    assert "2 of them with different labels" in notes(config)


def test_without_copies_nothing_is_told(tmp_path: Path):
    assert "several ids" not in notes(write_case(tmp_path, seeds=(0,)))


def test_what_was_not_looked_at_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = with_copies(tmp_path, 2)
    monkeypatch.setattr(repeats, "MAX_PICTURES", 10)
    assert "4 of 11 images of the 10 that were looked at are 2 pictures" in notes(config)
    monkeypatch.setattr(repeats, "MAX_BYTES", 1)
    assert "several ids" not in notes(config)


def test_pictures_of_the_error_sample_that_judge_too_are_told(tmp_path: Path):
    """Copied from one folder of failures to another: the gate would be shown what was learnt."""
    config = write_case(tmp_path, seeds=(0, 1))
    document = yaml.safe_load(config.read_text())
    images = pq.read_table(tmp_path / "own.parquet").to_pylist()
    own = {row["image_id"]: row["image"] for row in images}
    labels = pq.read_table(tmp_path / "seed0.parquet").to_pylist()
    rows = [row for row in labels if row["role"] == "error_sample"][:2]
    (tmp_path / "val").mkdir()
    for number, row in enumerate(rows):
        (tmp_path / "val" / row["label"]).mkdir(exist_ok=True)
        (tmp_path / "val" / row["label"] / f"{number}.png").write_bytes(own[row["image_id"]])
    document["debug_val"] = {"images": str(tmp_path / "val")}
    config.write_text(yaml.safe_dump(document))
    told = notes(config)
    assert "debug_val: 2 pictures of 2 that were looked at are in error_sample too" in told
    assert "prove nothing" not in notes(write_case(tmp_path / "other", seeds=(0,)))


@pytest.mark.parametrize(
    ("one", "other"),
    [("train", "test"), ("train", "debug_heldout"), ("test", "debug_val"), ("train", "debug_val")],
)
def test_a_picture_of_train_or_test_in_another_split_is_told(tmp_path: Path, one: str, other: str):
    config = write_case(tmp_path, seeds=(0,))
    rows = pq.read_table(tmp_path / "own.parquet").to_pylist()
    image_of = {row["image_id"]: row["image"] for row in rows}
    for row in rows:
        if row["image_id"] == f"{other}-red-0":
            row["image"] = image_of[f"{one}-red-0"]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "own.parquet")
    told = notes(config)
    assert f"{other}: 1 pictures of " in told
    assert f"are in {one} too, such as '{other}-red-0', which is '{one}-red-0' there" in told
