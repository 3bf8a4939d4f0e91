import io
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from dcd.comparison_config import load_comparison
from dcd.errors import ConfigError
from dcd.store import Store
from flows.compare import compare
from tests.case import write_case


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


def test_faults_of_a_comparison_are_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="own_selection_k9"):
        load_comparison(write_comparison_config(tmp_path, reference="own_selection_k9"))
    (tmp_path / "empty.yaml").write_text("name: x")
    with pytest.raises(ConfigError, match="expected a mapping with base"):
        load_comparison(tmp_path / "empty.yaml")
