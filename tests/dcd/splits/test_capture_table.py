from pathlib import Path

import pyarrow.parquet as pq

from dcd.config import DataConfig
from dcd.splits.capture_table import capture_table
from dcd.splits.label_table import read_labels
from tests.dcd.images.test_exif import WINTER, photo


def test_images_are_chosen_by_camera_time_and_place(tmp_path: Path):
    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
        (tmp_path / "images" / label / "winter.jpg").write_bytes(photo(**WINTER))
        (tmp_path / "images" / label / "plain.jpg").write_bytes(photo())
    (tmp_path / "images" / "dog" / "drawing.svg").write_text("<svg/>")
    images = DataConfig(images=str(tmp_path / "images"))
    found = capture_table(images, "train")
    assert found.words() == (
        "of 4 images 2 a time, 2 a camera, 2 a position; 1 images could not be read"
    )
    pq.write_table(found.rows, tmp_path / "t.parquet")
    for where in (
        "captured < TIMESTAMP '2026-02-01'",
        "camera = 'Canon EOS R6'",
        "latitude < 0 and longitude > 100",
    ):
        chosen = images.model_copy(update={"labels": str(tmp_path / "t.parquet"), "where": where})
        labels = read_labels(chosen, "train")
        assert labels is not None
        assert labels.select(["image_id", "label"]).to_pylist() == [
            {"image_id": "cat/winter.jpg", "label": "cat"},
            {"image_id": "dog/winter.jpg", "label": "dog"},
        ]
    again = capture_table(
        images.model_copy(update={"labels": str(tmp_path / "t.parquet"), "where": where}), "train"
    )
    assert again.rows.num_rows == 2
