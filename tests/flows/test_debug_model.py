import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dcd.config import BASELINES, load_config
from dcd.failures.intake import take_in_folder
from dcd.failures.registry import read_registry
from dcd.runs.pruning import plan_pruning, prune
from dcd.store import Store, keys
from dcd.store.parts import CACHES
from flows.debug_model import debug_model
from tests.case import LABELS, N_SHARDS, write_case
from tests.dcd.failures.failing_images import write_failures


@pytest.fixture(scope="module")
def first(tmp_path_factory, prefect_home):
    """The tiny case, run once."""
    every = {"baselines": list(BASELINES)}
    config = load_config(write_case(tmp_path_factory.mktemp("case"), compare=every))
    return config, debug_model(config)


def test_every_method_is_evaluated_at_every_seed(first):
    config, info = first
    metrics = Store(config.store).read_table(f"runs/{info.run_id}/metrics.parquet")
    overall = metrics.filter(pc.is_null(metrics["mode"])).to_pylist()
    found = {(row["model"], row["seed"], row["split"]) for row in overall}
    methods = (*BASELINES, "selected")
    splits = ("test", "debug_heldout")
    assert {(m, s, split) for m in methods for s in (0, 1) for split in splits} <= found
    modes = {row["mode"] for row in metrics.to_pylist() if row["split"] == "debug_heldout"}
    assert modes == {None, *(f"dark {label}" for label in LABELS)}


def test_the_report_and_a_model_are_written(first):
    config, info = first
    store = Store(config.store)
    assert b"<html" in store.read_bytes(f"runs/{info.run_id}/report.html")[:200]
    assert store.exists(f"runs/{info.run_id}/model/seed0/model.safetensors")
    card = json.loads(store.read_bytes(f"runs/{info.run_id}/card.json"))
    assert card["run_id"] == info.run_id
    assert card["config"]["selection"]["k"] == 2


def test_every_pick_has_its_failure_rank_and_distance(first):
    config, info = first
    neighbors = Store(config.store).read_table(f"runs/{info.run_id}/neighbors.parquet")
    kept = neighbors.filter(neighbors["kept"]).to_pylist()
    assert len(kept) == 2 * 3 * len(LABELS)  # k for every failure
    assert all(row["label"] in row["error_image_id"] for row in kept)
    assert all(row["distance"] >= 0 for row in kept)


def test_a_second_run_redoes_nothing(first):
    config, info = first
    store = Store(config.store)
    before = modified(store)
    again = debug_model(config)
    assert again.run_id == info.run_id
    changed = {key for key, time in modified(store).items() if before.get(key) != time}
    assert {key.split("/")[0] for key in changed} <= {"runs", "pools", "results"}


def test_another_k_redoes_selection_and_training_only(first):
    config, info = first
    store = Store(config.store)
    before = modified(store)
    selection = config.selection.model_copy(update={"k": 3})
    again = debug_model(config.model_copy(update={"selection": selection}))
    assert again.run_id != info.run_id
    new = {key.split("/")[0] for key in modified(store) if key not in before}
    assert new - {"neighbors"} == {"selections", "cells", "heads", "maps", "runs", "results"}
    baselines = [key for key in modified(store) if key.startswith("cells/") and key not in before]
    cells = {key.split("/")[1] for key in baselines}
    # These do not draw as many as selected picked.
    unchanged = {"none", "error_sample", "whole_pool", "filtered_pool"}
    assert len(cells) == (len(BASELINES) + 1 - len(unchanged)) * len(config.seeds)


def test_embeddings_reconcile_with_the_pool(first):
    config, _ = first
    store = Store(config.store)
    keys = [k for k in store.keys_under("embeddings/colours") if k.endswith(".parquet")]
    assert len(keys) == N_SHARDS
    assert sum(store.read_table(key, ["image_id"]).num_rows for key in keys) == 72


@pytest.mark.slow
def test_what_pruning_takes_is_made_again(first):
    config, info = first
    store = Store(config.store)
    metrics = store.read_table(f"runs/{info.run_id}/metrics.parquet")
    latest = config.model_copy(update={"selection": config.selection.model_copy(update={"k": 4})})
    last = debug_model(latest)
    pruning = plan_pruning(store, 1, datetime.now(UTC))
    assert {part.kind for part in pruning.unneeded} - set(CACHES) == {"cells", "maps", "selections"}
    prune(store, pruning.unneeded)

    before = modified(store)
    assert debug_model(latest).run_id == last.run_id
    changed = {key for key, time in modified(store).items() if before.get(key) != time}
    # What tells a far failure is a cache: pruning takes it, and the report asks for it again.
    assert {key.split("/")[0] for key in changed} <= {"runs", "pools", "results", "neighbors"}

    assert debug_model(config).run_id == info.run_id
    made = {key.split("/")[0] for key in modified(store) if key not in before}
    assert {"cells", "maps", "selections"} <= made
    assert store.read_table(f"runs/{info.run_id}/metrics.parquet").equals(metrics)


@pytest.mark.slow
def test_registered_failures_join_the_error_sample(tmp_path, prefect_home):
    config = load_config(
        write_case(tmp_path, seeds=(0,), compare={"baselines": ["none"]}, failures=True)
    )
    store = Store(config.store)
    write_failures(Path(store.path(keys.FAILURES_INBOX)), 2, seed=5)
    take_in_folder(store, config)
    n_failures = read_registry(store).failures.num_rows
    info = debug_model(config)
    sample = store.read_table(keys.run_table(info.run_id, "error_sample"))
    assert n_failures > 0
    assert sample.num_rows == n_failures + 3 * len(LABELS)


@pytest.mark.slow
def test_failures_that_name_no_mode_get_some(tmp_path, prefect_home):
    """One a label, as three failures are too few to tell kinds apart; and only once."""
    path = write_case(tmp_path, seeds=(0,), compare={"baselines": []})
    labels = tmp_path / "seed0.parquet"
    pq.write_table(pq.read_table(labels).drop_columns("mode"), labels)
    config = load_config(path)
    store = Store(config.store)

    info = debug_model(config)
    metrics = store.read_table(f"runs/{info.run_id}/metrics.parquet").to_pylist()
    found = {(row["split"], row["mode"]) for row in metrics if row["mode"]}
    proposed = {f"{i} (proposed)" for i in (1, 2, 3)}
    named = ("error_sample", "debug_val", "debug_heldout")
    assert found == {(split, mode) for split in named for mode in proposed}
    page = store.read_bytes(f"runs/{info.run_id}/report.html").decode()
    assert "None of the 3 failure modes" in page or "of 3 failure modes" in page

    before = modified(store)
    unneeded = plan_pruning(store, 1, datetime.now(UTC)).unneeded
    assert [part.key for part in unneeded if part.kind not in CACHES] == []
    assert debug_model(config).run_id == info.run_id
    changed = {key for key, time in modified(store).items() if before.get(key) != time}
    assert {key.split("/")[0] for key in changed} <= {"runs", "pools", "results"}


def modified(store: Store) -> dict[str, float]:
    return {key: store.fs.info(store.path(key))["mtime"] for key in store.keys_under("")}
