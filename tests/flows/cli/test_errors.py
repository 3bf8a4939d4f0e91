from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import save_file
from typer.testing import CliRunner

from dcd.config import EncoderConfig, parse_config
from dcd.encoders.network import load_network, preprocess_of
from dcd.sources.listing import list_shards
from dcd.sources.shards import list_images
from dcd.splits.label_table import read_labels
from dcd.training.saved_models import save_model
from flows.cli.app import app
from tests.case import LABELS, png

ENCODER = EncoderConfig(model="test_resnet", weights="random", input_size=32)
CLASSES = (*LABELS, "violet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """120 images in class folders, and files that are none."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for label in (*LABELS, "mauve"):
        (root / label).mkdir()
        for i in range(40):
            shown = "blue" if label == "mauve" else label
            (root / label / f"{i:02d}.png").write_bytes(png(rng, shown, dark=i % 2 == 0))
    (root / "red" / "broken.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return load_network(ENCODER, len(CLASSES))


@pytest.fixture(scope="module")
def model(tmp_path_factory, network) -> Path:
    path = tmp_path_factory.mktemp("model")
    save_model(path, network, CLASSES, preprocess_of(ENCODER), "test_resnet")
    return path


def dcd(*arguments: object):
    return CliRunner().invoke(app, ["errors", *map(str, arguments)])


def test_failures_and_debug_splits_are_collected(folder: Path, model: Path, tmp_path: Path):
    result = dcd(model, folder, "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "1 broken" in result.output
    assert "40 with a label that the model does not know" in " ".join(result.output.split())
    rows = pq.read_table(tmp_path / "out" / "roles.parquet").to_pylist()
    failures = [row for row in rows if row["role"] == "error_sample"]
    assert failures
    assert all(row["label"] != row["predicted"] for row in failures)
    assert all(row["mode"] for row in failures)
    images = pq.read_table(tmp_path / "out" / "images.parquet").to_pylist()
    assert {row["image_id"] for row in images} == {row["image_id"] for row in rows}
    path = folder / failures[0]["image_id"]
    byte_of = {row["image_id"]: row["image"] for row in images}
    assert byte_of[failures[0]["image_id"]] == path.read_bytes()
    page = (tmp_path / "out" / "errors.html").read_text()
    assert "data:image/webp" in page
    assert "<script" not in page


def test_the_printed_config_reads_back(folder: Path, model: Path, tmp_path: Path):
    result = dcd(model, folder, "--output", tmp_path / "out")
    snippet = yaml.safe_load(result.output.partition("For your config:")[2])
    assert snippet["encoder"]["model"] == "test_resnet"
    others = {name: {"images": "x.parquet"} for name in ("train", "test", "pool")}
    config = parse_config({"store": "store", **others, **snippet}, "snippet")
    for split in ("error_sample", "debug_val", "debug_heldout"):
        data = config.dataset(split, 0)
        assert data is not None
        labels = read_labels(data, split)
        assert labels is not None
        shards = list_shards(data)
        ids = {image.image_id for shard in shards for image in list_images(shard, data)}
        assert set(labels["image_id"].to_pylist()) <= ids


def test_a_checkpoint_answers_as_the_saved_model(
    folder: Path, model: Path, network: torch.nn.Module, tmp_path: Path
):
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    arguments = ("--architecture", "test_resnet", "--classes", tmp_path / "classes.txt")
    result = dcd(tmp_path / "weights.safetensors", folder, "--output", tmp_path / "a", *arguments)
    assert result.exit_code == 0, result.output
    without = dcd(tmp_path / "weights.safetensors", folder)
    assert without.exit_code == 1
    assert "--architecture" in without.output
    (tmp_path / "classes.txt").write_text("\n".join(LABELS))
    result = dcd(tmp_path / "weights.safetensors", folder, *arguments)
    assert result.exit_code == 1
    assert "does not fit" in result.output


def test_what_cannot_be_asked_is_named(folder: Path, model: Path, tmp_path: Path):
    unknown = dcd("no-run", folder, "--store", tmp_path).output
    assert "no-run: is no folder of a saved model, and" in unknown
    assert "no champion" in dcd("champion", folder, "--store", tmp_path).output
    (tmp_path / "other" / "mauve").mkdir(parents=True)
    (tmp_path / "other" / "mauve" / "1.png").write_bytes((folder / "red" / "01.png").read_bytes())
    assert "no image has a label that the model knows" in dcd(model, tmp_path / "other").output
