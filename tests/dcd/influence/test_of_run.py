"""Explanations of a finished run's model: which image, which label, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from dcd.config import load_config
from dcd.errors import DataError, LabelError
from dcd.failures.intake import take_in_folder
from dcd.influence.of_run import as_json, explain_failure
from dcd.influence.page import render
from dcd.runs import loop
from dcd.runs.finished import run_config
from dcd.runs.origins import plan_of_run
from dcd.store import Store, keys
from dcd.training.saved_heads import read_head
from tests.case import png, write_case


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> tuple[Store, str]:
    config = load_config(write_case(tmp_path_factory.mktemp("case"), seeds=(0,)))
    info = loop.run(config)
    return Store(config.store), info.run_id


def test_an_image_of_the_run_is_explained_by_train_pool_and_failures(case):
    store, run_id = case
    found = explain_failure(store, run_id, "debug_heldout-red-0", n_checked=12)
    assert (found.failure.label, found.failure.split) == ("red", "debug_heldout")
    assert set(found.images["source"].to_pylist()) == {"train", "pool", "error_sample"}
    margin = found.images["margin"].to_numpy()
    assert (np.diff(margin) <= 0).all()
    assert found.checked is not None
    assert found.checked.rank_correlation >= 0.9
    head = read_head(store, keys.run_model(run_id, 0))
    assert head is not None
    logits = head.weight @ found.failure.features + head.bias
    red = head.classes.index("red")
    rival = found.effects.answer.rival
    assert found.effects.answer.margin == pytest.approx(logits[red] - logits[rival], abs=1e-3)
    assert len(found.against(5)) + len(found.in_favour(5)) > 5
    assert all(row["margin"] < 0 for row in found.in_favour(5))


def test_the_failing_model_hangs_on_train_alone(case):
    store, run_id = case
    found = explain_failure(store, run_id, "debug_heldout-red-0", method="none")
    assert set(found.images["source"].to_pylist()) == {"train"}
    assert found.model == "none"


def test_the_page_and_the_json_show_text_as_text(case):
    store, run_id = case
    found = explain_failure(store, run_id, "error_sample-red-0")
    page = render(store, found, 8)
    assert page.count("<img") >= 9
    assert "<script" not in page
    told = json.loads(json.dumps(as_json(found, 3)))
    assert told["image_id"] == "error_sample-red-0"
    assert 0 < len(told["against"]) <= 3


def test_a_picture_file_needs_a_label_unless_the_store_knows_it(case, tmp_path):
    store, run_id = case
    file = tmp_path / "new.png"
    file.write_bytes(png(np.random.default_rng(9), "green", dark=True))
    with pytest.raises(LabelError, match="--label"):
        explain_failure(store, run_id, str(file))
    with pytest.raises(LabelError, match="none of train's"):
        explain_failure(store, run_id, str(file), "purple")
    found = explain_failure(store, run_id, str(file), "green")
    assert found.failure.split is None
    inbox = Path(store.root) / keys.FAILURES_INBOX / "green" / "new.png"
    inbox.parent.mkdir(parents=True)
    inbox.write_bytes(file.read_bytes())
    take_in_folder(store, run_config(store, run_id))
    again = explain_failure(store, run_id, str(file))
    assert again.failure.label == "green"
    np.testing.assert_array_equal(again.effects.margin, found.effects.margin)


def test_what_cannot_be_explained_says_why(case):
    store, run_id = case
    with pytest.raises(DataError, match="no registered failure"):
        explain_failure(store, run_id, "nothing-of-that-name")
    noted = store.read_json(keys.run_parts(run_id))
    store.write_json(keys.run_parts(run_id), {"parts": noted["parts"]})
    with pytest.raises(DataError, match="older version"):
        plan_of_run(store, run_id)
    other = json.loads(json.dumps(noted))
    other["seeds"]["0"]["selection"]["id"] = "0" * 12
    store.write_json(keys.run_parts(run_id), other)
    with pytest.raises(DataError, match="another version"):
        plan_of_run(store, run_id)
    store.write_json(keys.run_parts(run_id), noted)
    assert plan_of_run(store, run_id).seed == 0


def test_a_whole_network_is_refused(tmp_path):
    training = {"mode": "full", "epochs": 1, "batch_size": 16}
    written = write_case(tmp_path, seeds=(0,), training=training, compare={"baselines": []})
    config = load_config(written)
    info = loop.run(config)
    with pytest.raises(DataError, match="whole network"):
        explain_failure(Store(config.store), info.run_id, "debug_heldout-red-0")
