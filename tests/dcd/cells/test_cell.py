import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from dcd.cells.cell import CellInfo, run_cell
from dcd.cells.networks import starting_head
from dcd.cells.train import failing_head
from dcd.config import PoolStageConfig
from dcd.config.training import AUTO_VAL_SHARE
from dcd.errors import DataError
from dcd.store import keys
from dcd.training.checkpoints import Checkpoint
from dcd.training.data import Progress
from dcd.training.head import hold_out, train_head
from dcd.training.robust_head import fit_head
from dcd.training.saved_models import load_model, save_model
from tests.case import LABELS
from tests.dcd.cells.cell_case import CellCase

FULL: dict[str, Any] = {
    "mode": "full",
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 3e-3,
    "val_share": 0.2,
    "patience": 3,
    "ema_decay": 0.9,
    "ensemble_alpha": "choose",
    "checkpoint_every_s": 0.0,
    "pool_stage": None,
}
FULL_FILES = {
    "picks.parquet",
    "curve.parquet",
    "predictions.parquet",
    "model.safetensors",
    "config.json",
}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> CellCase:
    torch.set_num_threads(1)
    return CellCase(tmp_path_factory.mktemp("cells"))


def files_of(case: CellCase, cell: CellInfo) -> dict[str, bytes]:
    """The model and the tables of a cell."""
    return {
        key.rpartition("/")[2]: case.store.read_bytes(key)
        for key in case.store.keys_under(keys.cell(cell.id))
    }


def forget(case: CellCase, cell: CellInfo) -> None:
    for key in case.store.keys_under(keys.cell(cell.id)):
        case.store.delete(key)


@pytest.mark.parametrize("method", ["none", "error_sample", "filtered_pool", "uncertainty"])
def test_every_kind_of_method_trains_a_head(case: CellCase, method: str):
    cell = run_cell(case.store, case.plan(method))
    found = case.store.read_table(keys.cell_predictions(cell.id))
    assert set(found["split"].to_pylist()) == {"test", "error_sample", "debug_val", "debug_heldout"}
    assert run_cell(case.store, case.plan(method)).reused


def test_new_failures_train_nothing_that_they_have_no_part_in(case: CellCase, monkeypatch):
    fitted: list[int] = []

    def fit(features, *rest):
        fitted.append(len(features))
        return fit_head(features, *rest)

    monkeypatch.setattr("dcd.cells.train.fit_head", fit)
    sample = case.store.read_table(keys.split(case.splits["error_sample"].id))
    case.store.write_table(keys.split("fewer"), sample.slice(1))

    def after_more(method: str) -> tuple[CellInfo, CellInfo]:
        plan = case.plan(method, l2=0.07)
        fewer = replace(plan.splits["error_sample"], id="fewer", n_images=sample.num_rows - 1)
        earlier = replace(plan, splits={**plan.splits, "error_sample": fewer})
        return run_cell(case.store, earlier), run_cell(case.store, plan)

    earlier, later = after_more("whole_pool")
    assert len(fitted) == 1
    before, after = (
        case.store.read_table(keys.cell_predictions(cell.id)) for cell in (earlier, later)
    )
    assert after.num_rows == before.num_rows + 1

    def others(table: pa.Table) -> pa.Table:
        return table.filter(pc.not_equal(table["split"], "error_sample"))

    assert others(before).equals(others(after))
    after_more("error_sample")
    assert len(fitted) == 3


def test_the_head_of_train_that_others_start_from_is_kept_and_changes_nothing(
    case: CellCase, monkeypatch: pytest.MonkeyPatch
):
    fitted: list[int] = []

    def fit(data, *rest):
        fitted.append(len(data))
        return train_head(data, *rest)

    monkeypatch.setattr("dcd.cells.train.train_head", fit)
    plan = case.plan("random_in_label", l2=0.0123, loss="forward")
    before = files_of(case, cell := run_cell(case.store, plan))
    forget(case, cell)
    assert files_of(case, run_cell(case.store, plan)) == before
    assert len(fitted) == 1
    for key in case.store.keys_under("heads"):
        case.store.delete(key)
    forget(case, cell)
    monkeypatch.setattr("dcd.cells.train._kept_start", lambda *_: None)
    assert files_of(case, run_cell(case.store, plan)) == before


def test_the_weight_of_picks_counts_in_a_head_too(case: CellCase):
    def confidence(weight: float) -> np.ndarray:
        cell = run_cell(case.store, case.plan("error_sample", debug_train_weight=weight))
        found = case.store.read_table(keys.cell_predictions(cell.id))
        return found["confidence"].to_numpy()

    assert np.abs(confidence(1.0) - confidence(5.0)).max() > 1e-3


PLAIN = {"loss": "cross_entropy"}
NOISE_OPTIONS = [
    {"loss": "forward"},
    {"loss": "gce"},
    PLAIN | {"drop_high_loss": 0.5},
    PLAIN | {"soft_labels": "agreement"},
]


@pytest.mark.parametrize("option", NOISE_OPTIONS, ids=str)
def test_options_against_label_noise_change_what_pool_images_teach(
    case: CellCase, option: dict[str, Any]
):
    def confidence(method: str, **training: Any) -> np.ndarray:
        cell = run_cell(case.store, case.plan(method, **training))
        found = case.store.read_table(keys.cell_predictions(cell.id))
        return found["confidence"].to_numpy()

    changes = confidence("whole_pool", **option) - confidence("whole_pool", **PLAIN)
    assert np.abs(changes).max() > 1e-3
    of_true_labels = confidence("error_sample", **option) - confidence("error_sample", **PLAIN)
    assert (np.abs(of_true_labels).max() > 1e-3) == (option["loss"] == "gce")


def test_val_is_new_to_the_model_that_full_training_starts_from(case: CellCase):
    plan = case.plan(**FULL)
    train = case.store.read_table(keys.split(plan.splits["train"].id))
    found = starting_head(train, plan.training, seed=3)
    is_val = hold_out(train["label"].to_pylist(), FULL["val_share"], 3)
    assert 0 < is_val.sum() < train.num_rows
    expected = failing_head(train.filter(pa.array(~is_val)), plan.training)
    assert found.weight.tobytes() == expected.weight.tobytes()
    assert found.weight.tobytes() != failing_head(train, plan.training).weight.tobytes()


def test_full_training_leaves_a_model_and_its_curve_and_no_checkpoint(case: CellCase):
    told: list[Progress] = []
    cell = run_cell(case.store, case.plan(**FULL), told.append)
    assert set(files_of(case, cell)) == FULL_FILES
    assert told[-1].remaining_s == pytest.approx(0)
    assert told[-1].score is not None
    curve = case.store.read_table(keys.cell_curve(cell.id))
    assert set(curve["split"].to_pylist()) == {"val", "debug_val", "debug_heldout", "test"}
    assert len(set(curve.filter(curve["chosen"])["alpha"].to_pylist())) == 1
    predictions = case.store.read_table(keys.cell_predictions(cell.id))
    test = predictions.filter(pc.equal(predictions["split"], "test"))
    right = pc.mean(pc.equal(test["label"], test["predicted"]).cast("float64")).as_py()
    of_curve = curve.filter(pc.and_(curve["chosen"], pc.equal(curve["split"], "test")))
    assert of_curve["accuracy"].to_pylist() == [pytest.approx(right)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="bits are promised on the CPU only")
def test_an_interrupted_cell_goes_on_to_the_same_bits(
    case: CellCase, monkeypatch: pytest.MonkeyPatch
):
    plan = case.plan(**FULL, loss="gce", drop_high_loss=0.3, soft_labels="agreement")
    whole = files_of(case, run_cell(case.store, plan))
    forget(case, run_cell(case.store, plan))

    def interrupt(at: Progress) -> None:
        if at.step >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cell(case.store, plan, interrupt)
    state = Checkpoint(case.store, keys.checkpoint(plan.id)).load()
    assert state is not None
    assert state["step"] > 0
    resumed: list[Progress] = []
    assert files_of(case, run_cell(case.store, plan, resumed.append)) == whole
    assert resumed[0].step > state["step"]


_KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from dcd.training.checkpoints import Checkpoint
from dcd.cells.cell import CellPlan, run_cell
from tests.dcd.cells.cell_case import CellCase
from tests.dcd.cells.test_cell import FULL

plain = Checkpoint.save
def save_and_die(self, state):
    plain(self, state)
    if state["step"] == 7:
        os.kill(os.getpid(), signal.SIGKILL)
Checkpoint.save = save_and_die
import torch
torch.set_num_threads(1)
case = CellCase(Path({folder!r}))
run_cell(case.store, case.plan(**FULL))
"""


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="bits are promised on the CPU only")
def test_a_cell_killed_in_training_goes_on_to_the_same_bits(tmp_path: Path):
    torch.set_num_threads(1)
    root = str(Path(__file__).parents[3])
    script = _KILLED.format(root=root, folder=str(tmp_path / "killed"))
    killed = subprocess.run([sys.executable, "-c", script], check=False, env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    killed_case, calm_case = CellCase(tmp_path / "killed"), CellCase(tmp_path / "calm")
    plan = killed_case.plan(**FULL)
    assert killed_case.store.exists(keys.checkpoint(plan.id))
    resumed = run_cell(killed_case.store, plan)
    whole = run_cell(calm_case.store, calm_case.plan(**FULL))
    found, expected = files_of(killed_case, resumed), files_of(calm_case, whole)
    assert found["model.safetensors"] == expected["model.safetensors"]
    assert found.keys() == expected.keys()


def read_model(case: CellCase, cell: CellInfo, folder: Path) -> Any:
    folder.mkdir()
    for name in ("model.safetensors", "config.json"):
        (folder / name).write_bytes(case.store.read_bytes(keys.cell_model(cell.id, name)))
    return load_model(folder)


def test_training_starts_from_the_users_model_with_classes_mapped_by_name(
    case: CellCase, tmp_path: Path
):
    theirs = read_model(case, run_cell(case.store, case.plan("none")), tmp_path / "theirs")
    expected = {name: tensor.clone() for name, tensor in theirs.network.state_dict().items()}
    order = [2, 0, 1]  # theirs has the classes in another order
    layer = theirs.network.get_classifier()
    with torch.no_grad():
        layer.weight.copy_(layer.weight[order])
        layer.bias.copy_(layer.bias[order])
    names = [sorted(LABELS)[i] for i in order]
    save_model(tmp_path / "theirs", theirs.network, names, theirs.preprocess, "test_resnet")

    still = {"mode": "full", "epochs": 1, "learning_rate": 1e-12, "weight_decay": 0}
    plan = case.plan("none", start={"model": str(tmp_path / "theirs")}, **still)
    trained = read_model(case, run_cell(case.store, plan), tmp_path / "trained")
    assert trained.classes == tuple(sorted(LABELS))
    weights = {n for n, t in expected.items() if t.is_floating_point() and "running" not in n}
    found = trained.network.state_dict()
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in weights)


def test_images_that_are_gone_are_named(case: CellCase, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dcd.cells.networks.fetch_each", lambda *_: iter(()))
    with pytest.raises(DataError, match="train: 36 of 36 images are no longer where they were"):
        run_cell(case.store, case.plan("none", **FULL | {"epochs": 2}))


def test_the_data_choose_the_model_unless_a_selection_is_asked_for_as_it_is(case: CellCase):
    plan = case.plan("selected")
    assert plan.objective == "failures_first"
    assert replace(plan, method=replace(plan.method, objective="fixed")).objective == "fixed"


def test_a_recipe_leaves_its_line_its_reason_and_a_model(case: CellCase):
    plan = case.plan("selected")
    assert plan.objective == "failures_first"
    cell = run_cell(case.store, plan)
    prefix = keys.cell(cell.id)
    curve = case.store.read_table(f"{prefix}/curve.parquet")
    decides, shown = {"val", "error_sample"}, {"debug_val", "debug_heldout", "test"}
    assert set(curve["split"].to_pylist()) == decides | shown
    assert pc.sum(curve["chosen"]).as_py() == 5  # one point, once a split
    assert case.store.read_metadata(f"{prefix}/predictions.parquet")["chosen"]
    assert "model.safetensors" in files_of(case, cell)


def test_heads_that_saw_no_failure_are_kept_and_change_nothing(case: CellCase):
    plan = case.plan("selected")
    first = run_cell(case.store, plan)
    expected = case.store.read_table(keys.cell_predictions(first.id))
    heads = {found.key for found in case.store.objects_under("heads")}
    case.store.delete(keys.cell_predictions(first.id))
    again = run_cell(case.store, plan)
    assert not again.reused
    assert {found.key for found in case.store.objects_under("heads")} == heads
    assert case.store.read_table(keys.cell_predictions(again.id)).equals(expected)


def test_objectives_share_picks_but_not_cells(case: CellCase):
    plan = case.plan("selected")
    other = replace(plan, method=replace(plan.method, objective="both"))
    assert other.selection == plan.selection
    assert other.id != plan.id


def test_debug_val_does_not_choose(case: CellCase):
    """The gate judges on it: a recipe that had seen it would flatter its model there."""
    plan = case.plan("selected")
    splits = {split: info for split, info in plan.splits.items() if split != "debug_val"}
    with_it, without = (run_cell(case.store, p) for p in (plan, replace(plan, splits=splits)))
    chosen = [
        case.store.read_metadata(keys.cell_predictions(cell.id))["chosen"]
        for cell in (with_it, without)
    ]
    assert chosen[0] == chosen[1]


def test_without_failures_to_train_on_a_selection_is_taken_as_it_is(case: CellCase):
    plan = case.plan("selected")
    assert replace(plan, method=replace(plan.method, with_error_sample=False)).objective == "fixed"


STAGED = FULL | {"pool_stage": {"epochs": 2, "learning_rate": 3e-3}, "patience": None}


def test_only_what_is_learnt_in_stages_depends_on_them(case: CellCase):
    def same(method: str) -> bool:
        return case.plan(method, **FULL).id == case.plan(method, **STAGED | {"patience": 3}).id

    assert same("none")
    assert same("whole_pool")
    assert not same("selected")
    plan = case.plan("selected", **STAGED)
    bare = case.config.selection.model_copy(update={"general_images": 0})
    assert replace(plan, method=replace(plan.method, selection=bare)).own_training.stage is None


def test_stages_are_the_default_where_they_can_be_judged(case: CellCase):
    asked = {name: value for name, value in FULL.items() if name != "pool_stage"}
    plan = case.plan("selected", **asked)
    assert plan.own_training.stage == PoolStageConfig()
    assert plan.own_training.val_share == 0.2
    assert plan.objective == plan.method.objective != "fixed"
    assert plan.id != case.plan("selected", **FULL).id
    needs_no_val = {"val_share": 0.0, "patience": None, "ensemble_alpha": None}
    plan = case.plan("selected", **asked | needs_no_val)
    assert plan.own_training.val_share == AUTO_VAL_SHARE  # stages need one
    unjudged = {split: of for split, of in plan.splits.items() if split != "debug_val"}
    for other in (
        replace(plan, splits=unjudged),
        replace(plan, method=replace(plan.method, objective="fixed")),
        case.plan("whole_pool", **asked | needs_no_val),
        case.plan("selected"),
    ):
        assert other.own_training.stage is None
        assert other.own_training.val_share == 0


def test_a_selection_is_learnt_in_two_stages_and_chosen_between_them(case: CellCase):
    plan = case.plan("selected", **STAGED)
    plan = replace(plan, method=replace(plan.method, objective="both"))
    assert plan.objective == "both"
    told: list[Progress] = []
    cell = run_cell(case.store, plan, told.append)
    assert {at.n_epochs for at in told} == {2, 3}  # both stages, one after the other
    curve = case.store.read_table(keys.cell_curve(cell.id))
    assert curve["line"][0].as_py() in ("none – whole_pool", "whole_pool – targeted")
    assert set(curve["split"].to_pylist()) == {"val", "debug_val", "debug_heldout", "test"}
    described = case.store.read_metadata(keys.cell_predictions(cell.id))
    assert "debug_val" in described["chosen"]
    assert set(files_of(case, cell)) == FULL_FILES  # no checkpoint of either stage is left
