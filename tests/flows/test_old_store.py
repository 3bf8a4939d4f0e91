"""Stores that earlier versions wrote open, are served, and save a rerun its work."""

import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from dcd.config import load_config
from dcd.encoders import encoder, openvino_backend
from dcd.serve.app import create_app
from dcd.store import Store, keys
from flows.debug_model import debug_model
from tests.old_store import OLD_STORES, OldStore, unpack

KEPT = ("embeddings", "index", "selections", "splits")


@pytest.fixture(params=OLD_STORES, ids=lambda old: old.commit)
def old(request: pytest.FixtureRequest) -> OldStore:
    return request.param


@pytest.fixture
def case(old: OldStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # the store knows its images by relative paths
    # Nor had the machine that wrote them bf16: an encoder of another precision is another one.
    monkeypatch.setattr(openvino_backend, "has_bf16", lambda: False)
    monkeypatch.setattr(encoder, "_loaded", {})
    return unpack(old, tmp_path)


def test_a_rerun_embeds_nothing_and_trains_what_lacks_its_model(
    old: OldStore, case: Path, prefect_home: str
):
    config = load_config(case)
    store = Store(config.store)
    before = {folder: store.keys_under(folder) for folder in KEPT}
    run = debug_model(config)
    stages = json.loads(store.read_bytes(keys.run_card(run.run_id)))["stages"]
    made = {stage["stage"]: (stage["n"], stage["n_reused"]) for stage in stages}
    assert made["embed colours"] == (0, 72)
    assert sum(n for stage, (n, _) in made.items() if stage.startswith("embed ")) == 0
    assert made["gather and select"] == ((0, 1) if old.selects_the_same else (1, 0))
    # The archive leaves the weights of models out; the cell that is asked for them is made again.
    assert made["train and evaluate"] == ((1, 3) if old.selects_the_same else (4, 0))
    for folder in KEPT:
        now = store.keys_under(folder)
        assert set(before[folder]) <= set(now)
        if old.selects_the_same:
            # Label agreement is asked for since the data choose the model; the index is as it was.
            new = [key for key in now if key not in before[folder]]
            assert all(
                key.split("/")[4].startswith(("agreement-", "reference-", "votes-")) for key in new
            )


def test_its_run_is_served(old: OldStore, case: Path):
    store = Store(load_config(case).store)
    client = TestClient(create_app(store), base_url="http://127.0.0.1")
    assert old.run_id in client.get("/").text
    page = client.get(f"/runs/{old.run_id}/report.html")
    assert page.status_code == 200
    assert "debug_heldout" in page.text
