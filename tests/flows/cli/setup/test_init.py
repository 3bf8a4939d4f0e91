"""`dcd init` on folders as people have them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from dcd.config import load_config
from flows.cli.app import app
from tests.case import LABELS, png

_PARTS = {"crawl": 8, "training": 4, "val": 4, "errors": 6}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for part, n in _PARTS.items():
        for label in LABELS:
            (tmp_path / part / label).mkdir(parents=True)
            for i in range(n):
                picture = png(rng, label, dark=part == "errors")
                (tmp_path / part / label / f"{i}.png").write_bytes(picture)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def init(*arguments):
    return CliRunner().invoke(app, ["init", *arguments])


def test_folders_of_usual_names_become_a_config_that_validates(folder):
    done = init()
    assert done.exit_code == 0, done.output
    assert "pool: crawl" in done.output
    assert "9 error_sample" not in done.output  # six of a label: two in each role
    assert "6 error_sample, 6 debug_heldout, 6 debug_val" in done.output
    config = load_config(folder / "config.yaml")
    assert config.pool.images == "crawl"
    assert config.encoder.input_size == 96  # of pictures of 16 pixels
    assert all(len(line) <= 100 for line in (folder / "config.yaml").read_text().splitlines())


def test_folders_in_capitals_are_found(folder):
    (folder / "training").rename(folder / "Train")
    (folder / "val").rename(folder / "TEST")
    done = init()
    assert done.exit_code == 0, done.output
    config = load_config(folder / "config.yaml")
    assert (config.train.images, config.test.images) == ("Train", "TEST")


def test_what_is_missing_is_named_and_nothing_is_written(folder):
    (folder / "errors").rename(folder / "something")
    (folder / "val").rename(folder / "another")
    done = init()
    assert done.exit_code == 2
    assert "--test: is missing" in done.output
    assert "--failures: is missing" in done.output
    assert "dcd errors MODEL FOLDER" in done.output
    assert "--pool" not in done.output
    assert not list(folder.glob("config*"))


def test_a_flag_goes_before_what_is_found_and_names_are_quoted(folder):
    (folder / "errors").rename(folder / 'odd: "name" #1')
    done = init("--failures", 'odd: "name" #1', "--output", "mine.yaml", "--store", "s: x")
    assert done.exit_code == 0, done.output
    config = load_config(folder / "mine.yaml")
    assert config.error_sample is not None
    assert config.error_sample.images == 'odd: "name" #1'
    assert config.error_sample.labels == "mine-failures.csv"
    assert config.store == "s: x"


def test_a_config_is_never_replaced_unasked(folder):
    (folder / "config.yaml").write_text("mine")
    done = init()
    assert done.exit_code == 2
    assert "is there already" in done.output
    assert (folder / "config.yaml").read_text() == "mine"
    assert init("--force").exit_code == 0


def test_the_output_of_dcd_errors_is_taken_as_it_was_cut(folder):
    rng = np.random.default_rng(1)
    rows = [
        {
            "image_id": f"{role}-{label}",
            "label": label,
            "role": role,
            "image": png(rng, label, True),
        }
        for role in ("error_sample", "debug_val", "debug_heldout")
        for label in LABELS
    ]
    table = pa.Table.from_pylist(rows)
    (folder / "found").mkdir()
    pq.write_table(table.select(["image_id", "image", "label"]), folder / "found/images.parquet")
    pq.write_table(table.select(["image_id", "label", "role"]), folder / "found/roles.parquet")
    done = init("--failures", "found")
    assert done.exit_code == 0, done.output
    config = load_config(folder / "config.yaml")
    assert config.debug_val is not None
    assert config.debug_val.labels == "found/roles.parquet"
    assert not list(folder.glob("*failures.csv"))


def test_what_the_data_is_wrong_with_is_told_with_its_place(folder):
    for path in (folder / "training").rglob("*.png"):
        path.unlink()
    done = init()
    assert done.exit_code == 2
    assert "train" in done.output
