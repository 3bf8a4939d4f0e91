import io
import json
import tarfile
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

FILES = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


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
    truth = pa.table({"image_id": [*ids[:70], "gone"], "label": ["red"] * 71})
    pq.write_table(truth, tmp_path / "t.parquet")
    problems, notes = told(case, "pool", true_labels=str(tmp_path / "t.parquet"))
    assert problems == ""
    assert "2 of 72 pool images have no true label" in notes
    assert "1 of its images are not in the pool" in notes


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ({"image_id": ["x", "y"], "label": ["red", "blue"]}, "no image_id in"),
        ({"image_id": ["p000", "p001"], "label": [0, 1]}, "those are names: nothing tells"),
    ],
)
def test_true_labels_that_fit_nothing_are_refused(
    case: Path, tmp_path: Path, truth: dict[str, list[object]], message: str
):
    pq.write_table(pa.table(truth), tmp_path / "t.parquet")
    problems, _ = told(case, "pool", true_labels=str(tmp_path / "t.parquet"))
    assert message in problems


def images_table(path: Path, label: str, rows: list[tuple[object, object]], **more: object) -> None:
    rng = np.random.default_rng(len(path.name))
    ids, labels = zip(*rows, strict=True)
    columns = {"image_id": ids, "image": [png(rng, "red", dark=False) for _ in rows], label: labels}
    pq.write_table(pa.table(columns | more), path)


def test_images_without_label_and_rejects_are_counted(case: Path, tmp_path: Path):
    rows: list[tuple[object, object]] = [("a", None), (None, "red"), ("b", "red")]
    images_table(tmp_path / "pool-8.parquet", "weak_label", rows)
    problems, notes = told(case, "pool")
    assert problems == ""
    assert "1 of 74 images have no label, such as 'a'" in notes
    assert "1 is a reject: 1: no id in column … (such as 'pool-8/1')" in notes


def test_files_with_other_label_columns_are_told(case: Path, tmp_path: Path):
    images_table(tmp_path / "pool-8.parquet", "label", [("a", "red"), ("b", "0")])
    _, notes = told(case, "pool")
    assert "different label columns: " in notes
    assert f"1 label (such as {tmp_path / 'pool-8.parquet'})" in notes
    assert "1 images have numbers for labels (such as '0'), 73 have names" in notes
    images_table(tmp_path / "pool-8.parquet", "label", [("a", "red")], weak_label=["blue"])
    _, notes = told(case, "pool")
    assert "have the columns weak_label and label: weak_label is taken" in notes


def test_codes_that_pandas_made_floats_go_by_their_names(case: Path, tmp_path: Path):
    path = tmp_path / "pool-8.parquet"
    images_table(path, "weak_label", [("a", 0.0), ("b", 1.0), ("c", None)])
    assert "bare numbers, those of" in told(case, "pool")[0]
    names = {
        "info": {"features": {"weak_label": {"names": ["red", "green"], "_type": "ClassLabel"}}}
    }
    table = pq.read_table(path).replace_schema_metadata({"huggingface": json.dumps(names)})
    pq.write_table(table, path)
    problems, notes = told(case, "pool")
    assert problems == ""
    assert "numbers" not in notes


def test_files_that_rows_name_are_looked_for(case: Path, tmp_path: Path):
    (tmp_path / "here.png").write_bytes(png(np.random.default_rng(0), "red", dark=False))
    (tmp_path / "m.csv").write_text("uri,label\nhere.png,red\ngone.png,red\n")
    _, notes = told(case, "pool", images=str(tmp_path / "m.csv"))
    assert "1 is a reject: 1: no such object (such as 'gone.png') (of 2 files looked" in notes
    (tmp_path / "m.csv").write_text("uri,label\ngone.png,red\n")
    problems, _ = told(case, "pool", images=str(tmp_path / "m.csv"))
    assert "of 1 files that its rows name and that were looked for, none can be read" in problems
    image = pa.array([{"bytes": None, "path": "gone.png"}] * 2, FILES)
    pq.write_table(pa.table({"image": image, "label": ["red", "red"]}), tmp_path / "f.parquet")
    problems, notes = told(case, "pool", images=str(tmp_path / "f.parquet"))
    assert "2 of 2 rows hold no image bytes" in notes
    assert "of 2 files that its rows name and that were looked for, none can be read" in problems


def test_of_large_tars_the_first_images_are_looked_into(
    case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "tars").mkdir()
    rng = np.random.default_rng(0)
    for n in range(6):
        with tarfile.open(tmp_path / "tars" / f"{n}.tar", "w") as archive:
            for k, data in enumerate([png(rng, "red", dark=False), b" red"] * 3):
                info = tarfile.TarInfo(f"{k // 2}.{'png' if k % 2 == 0 else 'cls'}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    size = (tmp_path / "tars" / "0.tar").stat().st_size
    monkeypatch.setattr("dcd.validation.inventory.MAX_TAR_BYTES", size)
    monkeypatch.setattr("dcd.validation.inventory.SAMPLED_IMAGES", 2)
    _, notes = told(case, "pool", images=str(tmp_path / "tars"))
    assert "1 of 6 shards were, with 11 images (among them the first 2 of 4 more shards" in notes
    assert "' red' (11) is the label 'red'" in notes


def test_what_a_map_or_a_table_does_not_pair_is_counted(case: Path, tmp_path: Path):
    (tmp_path / "map.csv").write_text("weak_label,label\nred,red\ngreen,green\nrose,red\n")
    _, notes = told(case, "pool", label_map=str(tmp_path / "map.csv"))
    assert "does not name 1 of the pool's 3 weak labels (24 images), such as 'blue'" in notes
    assert "1 of its 3 weak labels stand on no image of the pool, such as 'rose'" in notes
    (tmp_path / "l.csv").write_text("image_id,label\np000,red\nx,red\n")
    _, notes = told(case, "pool", label_map=None, labels=str(tmp_path / "l.csv"))
    assert "1 of 2 image ids in" in notes
    assert "71 of 72 images are not in" in notes


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


def test_images_that_will_get_a_label_are_told_as_such(case: Path, tmp_path: Path):
    for file in tmp_path.glob("pool-*.parquet"):
        table = pq.read_table(file)
        labels = [None if label == "blue" else label for label in table["weak_label"].to_pylist()]
        pq.write_table(table.set_column(2, "weak_label", pa.array(labels, pa.string())), file)
    problems, notes = told(case, "pool")
    assert "label 'blue' is carried by no pool image, so nothing can be selected" in problems
    assert "24 of 72 images have no label" in notes
    assert "embedded, but never selected" in notes
    problems, notes = told(case, "pool", unlabelled="posterior")
    assert problems == ""
    assert "labelled where one class has a probability of at least 0.9" in notes
    assert "label 'blue' is carried by no pool image: only images without a label" in notes


def test_a_pool_whose_labels_are_called_otherwise_is_told_its_columns(tmp_path: Path):
    config = write_case(tmp_path, seeds=(0,))
    for path in tmp_path.glob("pool-*.parquet"):
        names = ["image_id", "image", "Label"]
        pq.write_table(pq.read_table(path).rename_columns(names), path)
    [problem] = examine(load_config(config)).problems
    assert "none of its images has a label (its files have the columns" in problem.message
    assert "'Label'" in problem.message
