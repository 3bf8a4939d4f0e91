"""`dcd estimate` beside what the real run then does."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner, Result

from dcd.store import Store
from flows.cli.app import app
from tests.case import N_SHARDS, write_case


def dcd(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "160"})


def estimated(config: Path) -> dict[str, Any]:
    """The figures, with the stages by name."""
    json_file = config.with_name("estimate.json")
    result = dcd("estimate", config, "--json", json_file)
    assert result.exit_code == 0, result.output
    found = json.loads(json_file.read_text())
    return {**found, **{stage["stage"]: stage for stage in found["stages"]}}


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
    assert before["n_shards_left"] == before["embed"]["n_tasks"] == N_SHARDS
    for stage in before["stages"]:
        assert (stage["pool_requests"], stage["store_requests"]) == (None, None), "folders"

    assert dcd("index", "build", config).exit_code == 0
    written = stored_bytes(store, "embeddings") + stored_bytes(store, "rejects")
    assert before["embed"]["bytes_written"] == pytest.approx(written, rel=0.05)
    assert before["index"]["bytes_written"] == pytest.approx(stored_bytes(store, "index"), rel=0.05)

    after = estimated(config)
    assert (after["n_shards_left"], after["n_images_done"]) == (0, n_images)
    for stage in ("embed", "index"):
        costs = [after[stage][name] for name in ("n_rows", "bytes_read", "bytes_written")]
        assert costs == [0, 0, 0]
    assert after["embed"]["hours"] == 0
    # All three labels fail: the select stage reads every row, for each of two seeds.
    assert after["select"]["n_rows"] == before["select"]["n_rows"] == n_images
    output = dcd("estimate", config).output
    assert "all shards are embedded" in output
    assert "none: a folder" in output


def test_an_embed_config_has_no_select_row(config: Path, prefect_home: str):
    document = yaml.safe_load(config.read_text())
    alone = {key: document[key] for key in ("store", "pool", "encoder")}
    config.write_text(yaml.safe_dump(alone))
    assert [stage["stage"] for stage in estimated(config)["stages"]] == ["embed", "index"]


def test_too_few_images_for_a_batch_are_said_to_tell_no_speed(config: Path, prefect_home: str):
    document = yaml.safe_load(config.read_text())
    document["encoder"]["batch_size"] = 1000
    config.write_text(yaml.safe_dump(document))
    found = estimated(config)
    assert found["images_per_s"] is None
    assert found["embed"]["hours"] is None
    assert "fewer images than a batch" in dcd("estimate", config).output
    given = dcd("estimate", config, "--images-per-s", "10")
    assert "7 seconds" in given.output, given.output


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
    assert found["embed"]["bytes_read"] == sum(
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
