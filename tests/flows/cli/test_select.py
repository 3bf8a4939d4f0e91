import json

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from tests.case import LABELS, write_case


@pytest.fixture
def dcd(prefect_home):
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_case(tmp_path_factory.mktemp("select"), seeds=(0,))


def test_select_writes_the_tables_and_trains_nothing(dcd, config, tmp_path):
    result = dcd("select", config, "--json", tmp_path / "selections.json")
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "selections.json").read_text())
    assert [(row["method"], row["seed"]) for row in rows] == [("selected", 0)]
    assert rows[0]["fill_rate"] == 1
    assert pq.read_table(rows[0]["debug_train"]).num_rows == rows[0]["n_picks"]
    assert "100%" in result.output
    assert not (config.parent / "store" / "cells").exists()


def test_neighbors_shows_what_the_pool_has(dcd, config, tmp_path):
    picture = tmp_path / "picture.png"
    own = pq.read_table(config.parent / "pool-0.parquet").to_pylist()[0]
    picture.write_bytes(own["image"])
    page, found = tmp_path / "sheet.html", tmp_path / "found.json"
    result = dcd("neighbors", config, picture, "-k", 3, "--html", page, "--json", found)
    assert result.exit_code == 0, result.output
    rows = json.loads(found.read_text())
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert rows[0]["image_id"] == own["image_id"]
    assert [row["distance"] for row in rows] == sorted(row["distance"] for row in rows)
    html = page.read_text()
    assert html.count("data:image/webp") == 4
    assert "http" not in html


def test_neighbors_of_one_label_only(dcd, config, tmp_path):
    picture = tmp_path / "picture.png"
    own = pq.read_table(config.parent / "pool-0.parquet").to_pylist()[0]
    picture.write_bytes(own["image"])
    other = next(label for label in LABELS if label != own["weak_label"])
    found = tmp_path / "found.json"
    sheet = tmp_path / "sheet.html"
    result = dcd("neighbors", config, picture, "--label", other, "--html", sheet, "--json", found)
    assert result.exit_code == 0, result.output
    assert {row["label"] for row in json.loads(found.read_text())} == {other}


@pytest.mark.parametrize("content", [b"<html>404</html>", None])
def test_a_picture_that_is_none_is_explained(dcd, config, tmp_path, content):
    picture = tmp_path / "page.jpg"
    if content is not None:
        picture.write_bytes(content)
    result = dcd("neighbors", config, picture, "--html", tmp_path / "sheet.html")
    assert result.exit_code == 1
    assert "page.jpg" in result.output
    assert not (tmp_path / "sheet.html").exists()


def test_exif_writes_a_table_for_where(dcd, config, tmp_path):
    table = tmp_path / "taken.parquet"
    result = dcd("exif", config, "--of", "test", "-o", table)
    assert result.exit_code == 0, result.output
    assert "of 24 images 0 a time, 0 a camera, 0 a position" in result.output
    assert pq.read_table(table).column_names[:3] == ["image_id", "label", "captured"]
    result = dcd("exif", config, "--of", "tset", "-o", tmp_path / "none.parquet")
    assert result.exit_code == 2
    assert "'tset' is none of pool, train, test" in result.output
    assert not (tmp_path / "none.parquet").exists()
