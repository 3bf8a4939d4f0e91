import io
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from dcd.config import LpipsConfig, load_comparison
from dcd.errors import ConfigError
from dcd.runs.pruning import plan_pruning
from dcd.store import Store
from flows.cli.app import app
from flows.compare import compare
from tests.case import write_case
from tests.dcd.selection.lpips_weights import write_alexnet


def write_comparison_config(folder: Path, **overrides: object) -> Path:
    write_case(folder, seeds=(0,))
    document = {
        "name": "grid",
        "base": "config.yaml",
        "baselines": ["none", "random"],
        "encoders": {
            "pixels": {"model": "pixels", "input_size": 16},
            "own": {"model": "test_resnet", "weights": "random", "input_size": 32},
        },
        "k": [1, 3],
    }
    path = folder / "comparison.yaml"
    path.write_text(yaml.safe_dump(document | overrides, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory):
    config = load_comparison(write_comparison_config(tmp_path_factory.mktemp("grid")))
    return config, compare(config)


@pytest.mark.slow
def test_every_cell_of_the_grid_is_in_the_tables(done):
    config, info = done
    store = Store(config.base.store)
    summary = store.read_table(f"comparisons/{info.comparison_id}/summary.parquet").to_pylist()
    grid = [f"{e}_selection_k{k}" for e in ("pixels", "own") for k in (1, 3)]
    assert [row["method"] for row in summary] == ["none", "random", "selected", *grid]
    assert [row["encoder"] for row in summary[3:]] == ["pixels", "pixels", "own", "own"]
    assert summary[0]["p_holm"] is None
    for row in summary[1:]:
        assert row["debug_heldout_gain_low"] <= row["debug_heldout_gain"]
        assert 0 < row["p_value"] <= row["p_holm"] <= 1
    assert all(f"| {name} | {name[-1]} |" in info.table for name in grid)


@pytest.mark.slow
def test_figures_show_every_arm_and_what_each_encoder_finds(done):
    config, info = done
    store = Store(config.base.store)
    prefix = f"comparisons/{info.comparison_id}"
    plane = store.read_bytes(f"{prefix}/trade_off.svg").decode()
    assert plane.startswith("<svg")
    assert "own_selection_k3" in plane
    assert b"pixels selection" in store.read_bytes(f"{prefix}/label_precision.svg")
    for encoder in config.encoders:
        sheet = Image.open(io.BytesIO(store.read_bytes(f"{prefix}/retrieval-{encoder}.png")))
        assert len(np.unique(np.asarray(sheet))) > 100


@pytest.mark.slow
def test_a_second_comparison_trains_nothing_again(done):
    config, info = done
    store = Store(config.base.store)
    cells = set(store.keys_under("cells"))
    wider = config.model_copy(update={"k": (1,), "name": "narrow"})
    assert compare(wider).comparison_id != info.comparison_id
    assert set(store.keys_under("cells")) == cells


@pytest.mark.slow
def test_pruning_leaves_what_a_comparison_is_a_view_of(done):
    config, info = done
    store = Store(config.base.store)
    unneeded = plan_pruning(store, 1, datetime.now(UTC)).unneeded
    assert not [part.key for part in unneeded if part.kind in ("cells", "index", "selections")]
    store.delete(f"comparisons/{info.comparison_id}/parts.json")
    pruning = plan_pruning(store, 1, datetime.now(UTC))
    assert pruning.n_silent == 1
    assert {"cells", "selections"} <= {part.kind for part in pruning.unneeded}


@pytest.mark.slow
def test_lpips_is_a_strategy_and_an_encoder_without_it_another(tmp_path: Path):
    lpips = {"backbone": write_alexnet(tmp_path / "alexnet.safetensors"), "candidates": 6}
    plain = {"min_agreement": 0, "general_images": 0, "leak_distance": 0}
    path = write_comparison_config(
        tmp_path,
        encoders={"pixels": {"model": "pixels", "input_size": 16}},
        strategies={"encoder": plain, "perceptual": plain | {"lpips": lpips}},
        k=[2],
        reference="pixels_encoder_k2",
    )
    config = load_comparison(path)
    info = compare(config)
    store = Store(config.base.store)
    rows = store.read_table(f"comparisons/{info.comparison_id}/summary.parquet").to_pylist()
    arms = [row["method"] for row in rows]
    assert arms == ["none", "random", "selected", "pixels_encoder_k2", "pixels_perceptual_k2"]
    neighbors = [store.read_table(k) for k in store.keys_under("selections") if "neighbors" in k]
    (by_lpips,) = [table for table in neighbors if "lpips" in table.column_names]
    n_failures = 9
    assert by_lpips.num_rows - by_lpips["lpips"].null_count == 6 * n_failures
    assert pc.sum(by_lpips["kept"]).as_py() == 2 * n_failures


def test_lpips_that_cannot_be_had_stops_a_comparison_before_any_work(tmp_path: Path):
    lpips = {"backbone": str(tmp_path / "absent.pth")}
    path = write_comparison_config(tmp_path, strategies={"perceptual": {"lpips": lpips}})
    found = CliRunner().invoke(app, ["compare", str(path)])
    assert found.exit_code == 2
    assert "strategies.perceptual.lpips: " in found.output
    assert "absent.pth: weights cannot be read" in found.output
    assert not (tmp_path / "store").exists()
    few = {"perceptual": {"lpips": lpips | {"candidates": 2}}}
    with pytest.raises(
        ConfigError, match=r"strategies\.perceptual\.lpips\.candidates: 2 are fewer"
    ):
        load_comparison(write_comparison_config(tmp_path, strategies=few))


def test_the_example_is_a_valid_comparison():
    config = load_comparison(Path(__file__).parents[2] / "examples" / "comparison.yaml")
    assert config.base.name == "winter-roads"
    lpips = config.strategies["perceptual"].lpips
    assert lpips is not None
    assert LpipsConfig(backbone=lpips.backbone) == lpips


def test_faults_of_a_comparison_are_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="own_selection_k9"):
        load_comparison(write_comparison_config(tmp_path, reference="own_selection_k9"))
    (tmp_path / "empty.yaml").write_text("name: x")
    with pytest.raises(ConfigError, match=r"empty\.yaml.*base: is missing"):
        load_comparison(tmp_path / "empty.yaml")
    (tmp_path / "list.yaml").write_text("- x")
    with pytest.raises(ConfigError, match="expected a mapping with"):
        load_comparison(tmp_path / "list.yaml")
