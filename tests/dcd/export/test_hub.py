"""The folder for the Hub, read by timm and by huggingface_hub's own parser of cards."""

import json
from typing import Any

import huggingface_hub
import pytest
import timm
import torch

from dcd.errors import ConfigError, DataError
from dcd.export.champion import open_champion
from dcd.export.hub import HubEntry, write_hub_folder
from dcd.gate.champions import current
from dcd.store import Store

ENTRY = HubEntry("somebody/winter-roads", "mit", ("somebody/failures",))


@pytest.fixture(scope="module")
def folder(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    write_hub_folder(store, ENTRY, folder)
    return folder


def test_timm_loads_the_folder_with_the_champions_weights(folder, store):
    network: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    trusted = open_champion(store)
    assert network.pretrained_cfg["label_names"] == list(trusted.model.classes)
    images = torch.rand(4, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(network(images), trusted.model.network(images))


def test_the_card_has_what_the_hub_reads(folder, store):
    data = huggingface_hub.ModelCard.load(folder / "README.md").data
    assert data.license == "mit"
    assert data.library_name == "timm"
    assert data.pipeline_tag == "image-classification"
    assert data.datasets == ["somebody/failures"]
    champion = current(store)
    assert champion is not None
    card = json.loads(store.read_bytes(champion.card))
    expected = {
        f"tiny, {row['split']}": row["accuracy"]
        for row in card["metrics"]
        if (row["method"], row["seed"], row["mode"]) == ("selected", champion.seed, None)
    }
    found = {result.dataset_name: result.metric_value for result in data.eval_results or ()}
    assert set(found) == {"tiny, test", "tiny, debug_heldout"}
    assert all(found[name] == expected[name] for name in found)


def test_the_card_says_how_to_load_it_and_keeps_the_lineage(folder):
    text = (folder / "README.md").read_text()
    assert 'timm.create_model("hf-hub:somebody/winter-roads", pretrained=True)' in text
    assert "## Data and licences" in text


def test_without_licence_and_data_sets_the_head_names_none(store, tmp_path):
    write_hub_folder(store, HubEntry("somebody/x"), tmp_path)
    data = huggingface_hub.ModelCard.load(tmp_path / "README.md").data
    assert data.license is None
    assert data.datasets is None


@pytest.mark.parametrize("name", ["winter", "a/b/c", "some body/x", "-a/b"])
def test_a_name_that_the_hub_does_not_take_is_refused(store, tmp_path, name):
    with pytest.raises(ConfigError, match=name):
        write_hub_folder(store, HubEntry(name), tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_no_champion_is_told(tmp_path):
    with pytest.raises(DataError, match="no champion to publish"):
        write_hub_folder(Store(str(tmp_path / "empty")), ENTRY, tmp_path / "folder")
