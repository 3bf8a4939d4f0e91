"""`dcd estimate` beside what the real run then does."""

import io
import json
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner, Result

from dcd.store import Store
from flows.cli import app
from tests.case import N_SHARDS, write_case


def dcd(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def estimated(config: Path) -> dict[str, float]:
    json_file = config.with_name("estimate.json")
    result = dcd("estimate", config, "--json", json_file)
    assert result.exit_code == 0, result.output
    return json.loads(json_file.read_text())


def stored_bytes(store: Store, prefix: str) -> int:
    return sum(Path(store.path(key)).stat().st_size for key in store.keys_under(prefix))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_case(tmp_path)


def test_the_estimate_is_what_embedding_then_takes(config: Path, prefect_home: str):
    before = estimated(config)
    store = Store(yaml.safe_load(config.read_text())["store"])
    assert store.keys_under("") == [], "an estimate must write nothing"
    n_images = sum(pq.read_metadata(path).num_rows for path in config.parent.glob("pool-*.parquet"))
    assert before["n_images_left"] == before["n_counted"] == n_images
    assert before["n_shards_left"] == before["n_tasks"] == N_SHARDS

    assert dcd("embed", config).exit_code == 0
    # A table has a fixed part, which three tiny shards pay three times.
    written = stored_bytes(store, "embeddings") - (N_SHARDS - 1) * 2500
    assert before["embedding_bytes"] == pytest.approx(written, rel=0.3)

    after = estimated(config)
    assert (after["n_shards_left"], after["n_images_done"]) == (0, n_images)
    assert (after["hours"], after["bytes_read"]) == (0, 0)
    assert "all shards are embedded" in dcd("estimate", config).output


def test_images_of_tars_are_told_by_their_bytes(config: Path, prefect_home: str):
    rows = pq.read_table(config.parent / "pool-0.parquet").to_pylist()
    (config.parent / "tars").mkdir()
    for n in range(2):
        with tarfile.open(config.parent / f"tars/pool-{n}.tar", "w") as tar:
            for row in rows:
                member = tarfile.TarInfo(f"{row['image_id']}.png")
                member.size = len(row["image"])
                tar.addfile(member, io.BytesIO(row["image"]))
    document = yaml.safe_load(config.read_text())
    document["pool"] = {"name": "tars", "images": str(config.parent / "tars/*.tar")}
    config.write_text(yaml.safe_dump(document))
    found = estimated(config)
    assert found["n_counted"] == 0
    assert found["n_images_left"] == pytest.approx(2 * len(rows), rel=0.35)
    assert found["bytes_read"] == sum(
        path.stat().st_size for path in (config.parent / "tars").iterdir()
    )


def test_a_pool_without_one_readable_image_is_an_error(config: Path, prefect_home: str):
    bad = config.parent / "bad" / "dog"
    bad.mkdir(parents=True)
    (bad / "a.jpg").write_bytes(b"<html>")
    document = yaml.safe_load(config.read_text())
    document["pool"] = {"name": "bad", "images": str(bad.parent)}
    config.write_text(yaml.safe_dump(document))
    result = dcd("estimate", config)
    assert result.exit_code == 1
    assert "nothing to estimate from" in result.output
