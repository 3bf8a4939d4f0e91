from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from dcd.cells.cell import run_cell
from dcd.config import SelectionConfig
from dcd.rounds.picks import RoundPicks, RoundPlan, pick_round, read_ledger
from dcd.selection.select import select
from dcd.store import keys
from dcd.tables import schemas
from tests.dcd.cells.cell_case import CellCase

# Nothing but the picks themselves, so that a few images cannot mend every failure.
SELECTION = SelectionConfig(
    k=3,
    min_agreement=0,
    general_images=0,
    leak_distance=0,
    pick_weight=1,
    error_sample_weight=0,
    max_targeted_share=1,
)


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> CellCase:
    torch.set_num_threads(1)
    return CellCase(tmp_path_factory.mktemp("rounds"))


def picked(case: CellCase, plan: RoundPlan, config: SelectionConfig = SELECTION) -> RoundPicks:
    return pick_round(case.store, case.pool, case.index, case.splits, config, plan)


def trained(case: CellCase, picks: RoundPicks) -> str:
    plan = replace(case.plan(), selection=picks.info, keeps_out_of_fold=True)
    method = replace(plan.method, selection=SELECTION, with_error_sample=False, objective="fixed")
    return run_cell(case.store, replace(plan, method=method)).id


@pytest.fixture(scope="module")
def two_rounds(case) -> tuple[RoundPicks, str, RoundPicks]:
    first = picked(case, RoundPlan(1, 1, "nearest"))
    cell = trained(case, first)
    return first, cell, picked(case, RoundPlan(2, 4, "nearest", first.info.id, cell))


def test_the_first_round_asks_for_every_failure_and_keeps_to_its_budget(case, two_rounds):
    first, _, _ = two_rounds
    assert (first.n_asked, first.n_new, first.n_taken) == (9, 1, 1)
    picks = case.store.read_table(keys.selection_picks(first.info.id))
    schemas.conform(picks, schemas.DEBUG_TRAIN, "picks")
    assert set(picks["role"].to_pylist()) == {"targeted"}


def test_a_round_without_a_limit_takes_what_one_selection_takes(case):
    every = picked(case, RoundPlan(1, 1000, "nearest"))
    at_once = select(case.store, case.pool, case.index, case.splits, SELECTION)
    found, expected = (
        case.store.read_table(keys.selection_picks(info.id)) for info in (every.info, at_once)
    )
    assert found.equals(expected.replace_schema_metadata(found.schema.metadata))


def test_a_further_round_asks_for_what_still_fails_and_takes_nothing_twice(case, two_rounds):
    first, cell, second = two_rounds
    answers = case.store.read_table(keys.cell_out_of_fold(cell))
    wrong = set(answers.filter(pc.invert(answers["right"]))["image_id"].to_pylist())
    assert 0 < len(wrong) < 9
    assert second.n_asked == len(wrong)
    ledger = read_ledger(case.store, second.info.id)
    assert ledger.schema.equals(schemas.LEDGER)
    by_round = {number: ledger.filter(pc.equal(ledger["round"], number)) for number in (1, 2)}
    assert by_round[1].equals(read_ledger(case.store, first.info.id))
    contents = [set(by_round[n]["content_hash"].to_pylist()) for n in (1, 2)]
    assert not contents[0] & contents[1]
    assert second.n_new == len(contents[1]) > 0
    assert second.n_taken == len(contents[0] | contents[1])
    assert set(by_round[2]["error_image_id"].to_pylist()) <= wrong


def test_a_rounds_selection_holds_all_picks_so_far_each_with_its_failures(case, two_rounds):
    _, _, second = two_rounds
    ledger = read_ledger(case.store, second.info.id)
    picks = case.store.read_table(keys.selection_picks(second.info.id))
    assert set(picks["image_id"].to_pylist()) == set(ledger["image_id"].to_pylist())
    neighbors = case.store.read_table(keys.selection_neighbors(second.info.id))
    kept = neighbors.filter(neighbors["kept"])
    pairs = ["error_image_id", "image_id"]
    assert sorted(kept.select(pairs).to_pylist(), key=str) == sorted(
        ledger.select(pairs).to_pylist(), key=str
    )
    every = neighbors.select(pairs).to_pylist()
    assert len({tuple(pair.values()) for pair in every}) == len(every)
    reasons = set(neighbors.filter(pc.invert(neighbors["kept"]))["reason"].to_pylist())
    assert reasons <= {"left for a later round", "taken in round 1", "too far down"}


def test_rounds_end_where_the_pool_does(case):
    small = SELECTION.model_copy(update={"k": 1, "max_depth": 1})
    first = picked(case, RoundPlan(1, 1000, "nearest"), small)
    cell = trained(case, first)
    nothing = pa.table(
        [["error_sample-red-0"], [False]], schema=schemas.OUT_OF_FOLD
    )  # one failure is wrong, whose only neighbour within the depth is taken
    case.store.write_table(keys.cell_out_of_fold(cell), nothing)
    second = picked(case, RoundPlan(2, 1000, "nearest", first.info.id, cell), small)
    assert (second.n_asked, second.n_new) == (1, 0)
    assert second.n_taken == first.n_taken


def test_a_round_is_a_function_of_its_key_and_survives_a_kill(case, two_rounds):
    first, cell, second = two_rounds
    plan = RoundPlan(2, 4, "nearest", first.info.id, cell)
    assert picked(case, plan) == replace(second, info=replace(second.info, reused=True))
    key = keys.selection_picks(second.info.id)
    before = case.store.read_table(key)
    case.store.delete(key)  # as if killed before the last object
    assert picked(case, plan) == second
    assert case.store.read_table(key).equals(before)
    assert picked(case, replace(plan, sharing="by_class")).info.id != second.info.id
    assert picked(case, replace(plan, n_images=5)).info.id != second.info.id
