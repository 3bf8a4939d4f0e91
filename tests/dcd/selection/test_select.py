from copy import copy
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from dcd.config import SelectionConfig
from dcd.errors import ConfigError
from dcd.selection import select as selecting
from dcd.selection.picks import targeted_picks
from dcd.selection.select import SelectionInfo, select
from dcd.store import keys
from dcd.tables import schemas
from tests.case import LABELS
from tests.dcd.cells.cell_case import CellCase

N_FAILURES = 3 * len(LABELS)


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> CellCase:
    torch.set_num_threads(1)
    return CellCase(tmp_path_factory.mktemp("selecting"))


def run(case: CellCase, **settings: object) -> SelectionInfo:
    plain = {"k": 2, "min_agreement": 0, "general_images": 0, "leak_distance": 0}
    plain |= {"max_targeted_share": 1}
    config = SelectionConfig.model_validate(plain | settings)
    return select(case.store, case.pool, case.index, case.splits, config)


def tables(case: CellCase, info: SelectionInfo):
    prefix = keys.selection(info.id)
    return [case.store.read_table(f"{prefix}/{t}.parquet") for t in ("neighbors", "debug_train")]


def test_the_papers_selection_judges_nothing(case):
    info = run(case, pick_weight=1)
    neighbors, picks = tables(case, info)
    assert neighbors["label_agreement"].null_count == neighbors.num_rows
    assert set(picks["role"].to_pylist()) == {"targeted"}
    assert set(picks["weight"].to_pylist()) == {1}
    assert (info.n_general, info.fill_rate, info.reused) == (0, 1, False)
    assert run(case, pick_weight=1).reused


def test_picks_and_general_sample_carry_weights_and_agreement(case):
    info = run(case, general_images=12, general_min_trust=0.01, pick_weight=3, min_agreement=0.01)
    neighbors, picks = tables(case, info)
    picks = schemas.conform(picks, schemas.DEBUG_TRAIN, "picks")
    assert info.n_picks == picks.num_rows
    assert info.n_general == picks.num_rows - targeted_picks(picks).num_rows > 0
    assert picks["label_agreement"].null_count == 0
    assert pc.count_distinct(picks["image_id"]).as_py() == picks.num_rows
    weights = {(row["role"], row["weight"]) for row in picks.to_pylist()}
    assert weights == {("targeted", 3), ("general", 1)}
    kept = neighbors.filter(neighbors["kept"])
    assert pc.min(kept["label_agreement"]).as_py() >= 0.01


def test_the_failures_outweigh_what_keeps_test_no_more_than_allowed(case):
    free = run(case, general_images=12, pick_weight=3, error_sample_weight=20)
    limited = run(
        case, general_images=12, pick_weight=3, error_sample_weight=20, max_targeted_share=0.25
    )
    (_, before), (_, after) = tables(case, free), tables(case, limited)
    assert before["image_id"] == after["image_id"]
    scale = limited.error_sample_weight / free.error_sample_weight
    assert free.error_sample_weight == 20
    assert scale < 1
    targeted, general = targeted_picks(after), after.num_rows - targeted_picks(after).num_rows
    assert set(np.round(targeted["weight"].to_numpy(), 5)) == {np.float32(np.round(3 * scale, 5))}
    aimed = pc.sum(targeted["weight"]).as_py() + N_FAILURES * limited.error_sample_weight
    n_train = case.splits["train"].n_images
    assert aimed / (aimed + n_train + general) == pytest.approx(0.25, rel=1e-4)


def test_an_impossible_demand_is_reported_not_hidden(case):
    info = run(case, min_agreement=1, max_depth=1)
    neighbors, _ = tables(case, info)
    kept = pc.sum(neighbors["kept"]).as_py() or 0
    assert info.fill_rate == pytest.approx(kept / (2 * N_FAILURES))
    assert info.fill_rate < 1


def test_near_copies_of_judging_images_are_refused_with_a_reason(case):
    neighbors, picks = tables(case, run(case, leak_distance=2))
    assert picks.num_rows == 0
    reasons = neighbors.filter(pc.invert(neighbors["kept"]))["reason"].to_pylist()
    assert any("nearly an image of" in reason for reason in reasons)


def test_switches_reach_the_selection(case):
    info = run(case, max_per_mode=1)
    assert info.n_picks <= len(LABELS)


def test_k_is_chosen_among_candidates_on_debug_val(case):
    info = run(case, k_candidates=(1, 3))
    prefix = keys.selection(info.id)
    described = case.store.read_metadata(f"{prefix}/debug_train.parquet")["config"]
    chosen = SelectionConfig.model_validate_json(described)
    assert chosen.k in (1, 3)
    assert chosen.k_candidates == ()
    alone = tables(case, run(case, k=chosen.k))
    assert [t.equals(o) for t, o in zip(tables(case, info), alone, strict=True)] == [True, True]
    assert info.fill_rate == 1


def test_choosing_k_needs_debug_val(case):
    config = SelectionConfig(k_candidates=(1, 3))
    splits = {split: info for split, info in case.splits.items() if split != "debug_val"}
    with pytest.raises(ConfigError, match="debug_val"):
        select(case.store, case.pool, case.index, splits, config)


@pytest.mark.parametrize("settings", [{}, {"min_agreement": 0.01, "leak_distance": 0.05}])
def test_new_failures_cost_their_own_search_and_the_result_is_that_of_one_search(
    case, monkeypatch, settings
):
    settings |= {"k": 3, "general_images": 12}
    table = case.store.read_table(keys.split(case.splits["error_sample"].id))
    later = np.arange(table.num_rows) >= table.num_rows - 2
    shard = pa.array(np.where(later, "later", "first"))
    at = table.schema.get_field_index("shard")
    table = table.set_column(at, table.schema.field("shard"), shard)
    asked = []

    def noting(search):
        def found(store, index, failures, **rest):
            asked.append(failures.num_rows)
            return search(store, index, failures, **rest)

        return found

    for name in ("in_label_neighbors", "trusted_neighbors"):
        monkeypatch.setattr(selecting, name, noting(getattr(selecting, name)))

    def with_failures(failures: pa.Table) -> CellCase:
        split_id = keys.digest("test", keys.table_digest(failures))
        case.store.write_table(keys.split(split_id), failures)
        changed = replace(case.splits["error_sample"], id=split_id, n_images=failures.num_rows)
        other = copy(case)
        other.splits = case.splits | {"error_sample": changed}
        return other

    of_first = run(with_failures(table.filter(pa.array(~later))), **settings)
    grown = with_failures(table)
    of_all = tables(grown, run(grown, **settings))
    assert asked == [table.num_rows - 2, 2]
    for key in case.store.keys_under("neighbors"):
        case.store.delete(key)
    prefix = keys.selection(run(grown, **settings).id)
    case.store.delete(f"{prefix}/debug_train.parquet")
    whole = tables(grown, run(grown, **settings))
    assert asked == [table.num_rows - 2, 2, table.num_rows]
    assert of_first.n_failures == table.num_rows - 2
    for one, other in zip(of_all, whole, strict=True):
        assert one.equals(other)
