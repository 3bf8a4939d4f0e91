import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from dcd.config import load_index_config
from dcd.errors import ConfigError
from dcd.store import Store, keys
from flows.cli.app import app
from tests.case import N_SHARDS, write_case


def dcd(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "160"})


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, prefect_home: str) -> Path:
    """The config of a run whose pool is embedded and indexed."""
    folder = tmp_path_factory.mktemp("indexed")
    config = write_case(folder)
    result = dcd("index", "info", config)
    assert result.exit_code == 1
    assert "build one with dcd index build" in result.output
    result = dcd("index", "build", config, "--json", folder / "index.json")
    assert result.exit_code == 0, result.output
    return config


def test_build_says_what_is_in_the_index_and_does_it_once(config: Path, tmp_path: Path):
    first = json.loads((config.parent / "index.json").read_text())
    assert first["n_images"] == 24 * N_SHARDS
    result = dcd("index", "build", config, "--compact", "--json", tmp_path / "again.json")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "again.json").read_text()) == first


def test_a_store_of_a_newer_version_is_not_written_to(tmp_path: Path, prefect_home: str):
    config = write_case(tmp_path)
    store = Store(yaml.safe_load(config.read_text())["store"])
    newer = {"format": 99, "note": "vectors are kept elsewhere", "written_by": "dcd 9"}
    store.write_json(keys.STORE_FORMAT, newer)
    result = dcd("index", "build", config)
    assert result.exit_code == 1
    assert "has format 99 (vectors are kept elsewhere), written by dcd 9" in " ".join(
        result.output.split()
    )
    assert {found.key for found in store.objects_under()} == {keys.STORE_FORMAT}


def test_info_shows_counts_and_the_reason_of_the_layout(config: Path, tmp_path: Path):
    result = dcd("index", "info", config, "--json", tmp_path / "info.json")
    assert result.exit_code == 0, result.output
    assert "as float16, 1 segments" in result.output
    assert "labels are scanned, exactly" in result.output
    (found,) = json.loads((tmp_path / "info.json").read_text())
    assert found == json.loads((config.parent / "index.json").read_text())


def test_cost_counts_lpips_the_paper_and_the_files(config: Path, tmp_path: Path):
    result = dcd("cost", config, "--json", tmp_path / "cost.json")
    assert result.exit_code == 0, result.output
    assert "484,992" in result.output
    assert "99.58 %" in result.output
    found = json.loads((tmp_path / "cost.json").read_text())
    by_model = {row["model"]: row for row in found["encoders"]}
    assert by_model["resnet50"]["numbers"] == 2048
    assert by_model["resnet50"]["bytes"] == 4096
    assert 8.0e9 < by_model["resnet50"]["flops"] < 8.4e9  # 4.1 G multiply-adds
    own = yaml.safe_load(config.read_text())["encoder"]["model"]
    (files,) = found["files"]
    vector_bytes = by_model[own]["bytes"]
    assert files["index_bytes"] > 2 * vector_bytes  # the rows, and the sample that repeats them
    assert files["embedding_bytes"] > vector_bytes


def test_an_index_config_of_its_own(config: Path, tmp_path: Path):
    document = yaml.safe_load(config.read_text())
    alone = {key: document[key] for key in ("store", "pool", "encoder")}
    path = tmp_path / "index.yaml"
    path.write_text(yaml.safe_dump(alone | {"index": {"storage": "int8"}, "compact": True}))
    loaded = load_index_config(path)
    assert (loaded.index.storage, loaded.compact) == ("int8", True)
    assert load_index_config(config).index.storage == "float16"
    path.write_text(yaml.safe_dump(alone | {"index": {"storage": "int4"}}))
    with pytest.raises(ConfigError, match=r"index\.storage"):
        load_index_config(path)
