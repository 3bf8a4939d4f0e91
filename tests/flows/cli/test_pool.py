import json
import logging
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner, Result

from dcd.store import Store, keys
from flows.cli.app import app
from tests.case import N_SHARDS, write_case
from tests.s3_server import SECRET_KEY


def dcd(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, prefect_home: str) -> Path:
    """The config of a run whose third pool shard is damaged, embedded as far as that goes."""
    folder = tmp_path_factory.mktemp("pool")
    config = write_case(folder)
    whole = pq.read_table(folder / "pool-2.parquet")
    pq.write_table(whole.drop_columns("image"), folder / "pool-2.parquet")
    result = dcd("embed", config)
    assert result.exit_code == 1
    assert "1 of 3 shards could not be embedded" in result.output
    assert "pool-2: DataError" in result.output
    assert "has no image column" in result.output
    return config


def test_the_status_counts_shards_and_names_the_failed(config: Path, tmp_path: Path):
    result = dcd("pool", "status", config, "--json", tmp_path / "status.json")
    assert result.exit_code == 0, result.output
    assert "2 of 3 done, 1 failed, 0 missing" in result.output
    assert "48 embedded, 0 rejected" in result.output
    assert "pool-2: DataError" in result.output
    assert json.loads((tmp_path / "status.json").read_text())["n_failed"] == 1


def test_verify_counts_what_is_published(config: Path):
    result = dcd("pool", "verify", config, "--sources")
    assert result.exit_code == 0, result.output
    assert "2 of 3 shards checked, 48 images; 0 faults" in result.output


def test_verify_exits_with_1_on_a_fault(config: Path, tmp_path: Path):
    document = yaml.safe_load(config.read_text())
    store = Store(document["store"])
    key = next(key for key in store.keys_under("embeddings/colours") if "pool-0" in key)
    original, metadata = store.read_table(key), store.read_metadata(key)
    store.write_table(key, original.slice(1), metadata=metadata)
    try:
        result = dcd("pool", "verify", config)
        assert result.exit_code == 1
        assert "pool-0: 23 embeddings + 0 rejects, but 24 images" in result.output
    finally:
        store.write_table(key, original, metadata=metadata)


def test_a_config_of_the_pool_alone_redoes_exactly_what_failed(config: Path, tmp_path: Path):
    document = yaml.safe_load(config.read_text())
    other = write_case(tmp_path / "whole")
    (config.parent / "pool-2.parquet").write_bytes(other.with_name("pool-2.parquet").read_bytes())
    store = Store(document["store"])
    before = store.published_at("embeddings")
    alone = tmp_path / "embed.yaml"
    alone.write_text(yaml.safe_dump({k: document[k] for k in ("store", "pool", "encoder")}))
    result = dcd("embed", alone, "--json", tmp_path / "embed.json")
    assert result.exit_code == 0, result.output
    assert "1 of 3 shards new" in result.output
    counts = json.loads((tmp_path / "embed.json").read_text())
    assert counts["n_images"] == counts["n_embedded"] == 24 * N_SHARDS
    after = store.published_at("embeddings")
    assert {key: after[key] for key in before} == before
    assert [key.rpartition("/")[2] for key in after.keys() - before.keys()] == ["pool-2.parquet"]
    encoder_id = counts["encoder_id"]
    assert store.read_json(keys.failed_shards("colours", encoder_id)) == {"failed": []}


def test_a_typo_in_a_config_of_the_pool_alone_is_explained(tmp_path: Path):
    config = tmp_path / "embed.yaml"
    config.write_text("store: x\npool:\n  images: y\nencodr: {}\n")
    result = dcd("embed", config)
    assert result.exit_code == 2
    assert "encodr: unknown key; did you mean 'encoder'?" in result.output


def test_no_secret_in_logs_or_in_the_store(
    tmp_path: Path, s3_url: str, prefect_home: str, caplog: pytest.LogCaptureFixture
):
    config = write_case(tmp_path, store=s3_url)
    with caplog.at_level(logging.DEBUG):
        result = dcd("embed", config, "--verbose")
    assert result.exit_code == 0, result.output
    store = Store(s3_url)
    keys_there = store.keys_under("")
    # Beside the shards: what was passed over, which failed, and the store's format.
    assert sum(not key.startswith("results/") for key in keys_there) == 2 * N_SHARDS + 3
    assert len(caplog.text) > 1000
    texts = [caplog.text, result.output, *(str(store.read_bytes(key)) for key in keys_there)]
    assert not any(SECRET_KEY in text for text in texts)
