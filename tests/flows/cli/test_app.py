import json

import pytest
import yaml
from typer.testing import CliRunner

from flows.cli.app import app
from tests.case import write_case


@pytest.fixture
def dcd():
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


def test_run_writes_the_metrics_and_names_the_report(dcd, tmp_path, prefect_home):
    config = write_case(tmp_path, seeds=(0,), compare={"baselines": ["none"]})
    result = dcd("run", config, "--json", tmp_path / "metrics.json")
    assert result.exit_code == 0, result.output
    assert "report.html" in result.output
    assert "selected" in result.output
    rows = json.loads((tmp_path / "metrics.json").read_text())
    assert set(rows[0]) == {
        "method",
        "seed",
        "split",
        "mode",
        "accuracy",
        "ci_low",
        "ci_high",
        "n",
        "n_picks",
        "label_precision",
    }
    selected = [r for r in rows if r["method"] == "selected" and r["mode"] is None]
    assert {r["split"] for r in selected} >= {"test", "debug_heldout"}
    assert all(0 <= r["ci_low"] <= r["accuracy"] <= r["ci_high"] <= 1 for r in rows)
    none = next(r for r in rows if r["method"] == "none")
    assert none["n_picks"] == 0
    assert none["label_precision"] is None


def test_a_config_typo_is_explained_before_work_starts(dcd, tmp_path):
    config = write_case(tmp_path, selection={"kk": 3})
    result = dcd("run", config)
    assert result.exit_code == 2
    assert "selection" in result.output
    assert "kk" in result.output
    assert not (tmp_path / "store").exists()


def test_a_missing_pool_stops_the_run_before_work_starts(dcd, tmp_path):
    config = write_case(tmp_path, pool={"images": str(tmp_path / "nowhere-*.parquet")})
    result = dcd("run", config)
    assert result.exit_code == 2
    assert "nowhere" in result.output
    assert not (tmp_path / "store" / "embeddings").exists()


def test_validate_says_that_a_good_config_is_good(dcd, tmp_path):
    result = dcd("validate", write_case(tmp_path))
    assert result.exit_code == 0, result.output
    assert "no problem" in result.output


def test_validate_names_every_problem(dcd, tmp_path):
    config = write_case(tmp_path)
    document = yaml.safe_load(config.read_text())
    document["test"]["where"] = "roll = 'test'"
    document["debug_val"]["labels"] = str(tmp_path / "absent.parquet")
    config.write_text(yaml.safe_dump(document))
    result = dcd("validate", config)
    assert result.exit_code == 2
    assert "test.where" in result.output
    assert "absent.parquet" in result.output


def test_a_demonstration_without_its_images_names_the_line_that_brings_them(dcd, tmp_path):
    result = dcd("demo", "--case", "clothes", "--images", tmp_path, "--folder", tmp_path / "demo")
    assert result.exit_code == 1
    assert "apt-get install dataset-fashion-mnist" in result.output
    assert not (tmp_path / "demo").exists()


def test_a_demonstration_that_there_is_not_is_refused(dcd, tmp_path):
    result = dcd("demo", "--case", "shoes", "--folder", tmp_path / "demo")
    assert result.exit_code == 2
    assert "digits, clothes" in result.output
    assert not (tmp_path / "demo").exists()
