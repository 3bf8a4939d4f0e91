"""What people decided counts in the next selection, and in what is trained on it."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from dcd.cells.cell import gather_data, run_cell
from dcd.cells.train import by_source, doubt_of
from dcd.cells.train_recipe import fit_ends
from dcd.config import Split, load_config, parse_config
from dcd.errors import DataError
from dcd.failures.intake import take_in_folder
from dcd.failures.registry import SOURCE_ID, corrections_of_failures, read_registry
from dcd.index.read import pool_sample
from dcd.reviews.decisions import Decision, Verb, record
from dcd.runs import loop
from dcd.runs.run import RunInfo
from dcd.selection.review_plan import plan_review, planned_failures
from dcd.selection.reviewed import (
    REJECTED,
    confirmed,
    like_failures,
    match_reviews,
    refuse_reviewed,
)
from dcd.selection.rules import PickRules
from dcd.selection.select import select
from dcd.splits.split import split_table
from dcd.store import Store, keys
from dcd.tables import schemas
from tasks.result_keys import cell_key
from tests.case import LABELS, write_case
from tests.dcd.cells.cell_case import CellCase
from tests.dcd.failures.failing_images import case_with_registry, inbox, write_failures
from tests.dcd.reviews.said import content

LOSSES = [{"loss": "forward"}, {"loss": "cross_entropy", "soft_labels": "agreement"}]


def decide(store: Store, pick: dict, verb: Verb, to: str | None = None) -> None:
    content = pick["content_hash"]
    number = f"{pick['image_id']}-{verb}"
    record(
        store,
        [Decision(number, "ann", "colours", pick["image_id"], content, pick["label"], verb, to)],
    )


def picks_of(store: Store, run: RunInfo) -> list[dict]:
    return store.read_table(keys.run_table(run.run_id, "debug_train")).to_pylist()


def with_content(store: Store, picks: list[dict]) -> list[dict]:
    """Targeted picks with their content, by image_id."""
    hashes = {}
    for key in store.keys_under("embeddings"):
        rows = store.read_table(key, ["image_id", "content_hash"]).to_pylist()
        hashes |= {row["image_id"]: row["content_hash"] for row in rows}
    targeted = [pick for pick in picks if pick["role"] == "targeted"]
    return [{**pick, "content_hash": hashes[pick["image_id"]]} for pick in targeted]


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory) -> tuple[Store, RunInfo, RunInfo, list[dict], str]:
    """A run, three decisions, and a run after them."""
    config = load_config(write_case(tmp_path_factory.mktemp("case"), seeds=(0,)))
    store = Store(config.store)
    before = loop.run(config)
    accepted, relabelled, rejected = with_content(store, picks_of(store, before))[:3]
    other = next(label for label in LABELS if label != relabelled["label"])
    decide(store, accepted, "accept")
    decide(store, relabelled, "relabel", other)
    decide(store, rejected, "reject")
    return store, before, loop.run(config), [accepted, relabelled, rejected], other


def test_accepted_and_relabelled_images_are_added_with_a_full_weight(reviewed):
    store, _, after, (accepted, relabelled, _), other = reviewed
    found = {(p["image_id"], p["label"]): p for p in picks_of(store, after)}
    assert found[accepted["image_id"], accepted["label"]]["weight"] >= 1
    assert found[relabelled["image_id"], other]["weight"] >= 1
    assert found[relabelled["image_id"], other]["role"] in ("reviewed", "failing")
    assert (relabelled["image_id"], relabelled["label"]) not in found


def test_rejected_images_are_never_picked_again_and_the_reason_is_told(reviewed):
    store, _, after, (_, _, rejected), _ = reviewed
    ids = {p["image_id"] for p in picks_of(store, after)}
    assert rejected["image_id"] not in ids
    neighbors = store.read_table(keys.run_table(after.run_id, "neighbors")).to_pylist()
    reasons = {n["reason"] for n in neighbors if n["image_id"] == rejected["image_id"]}
    assert reasons == {REJECTED}


def test_the_run_without_reviews_stands_beside_and_costs_nothing(reviewed):
    store, before, after, _, _ = reviewed
    assert "unreviewed" not in [row.method for row in before.rows]
    assert "unreviewed" in [row.method for row in after.rows]
    parts = [set(store.read_json(keys.run_parts(run.run_id))["parts"]) for run in (before, after)]
    cells = [{part for part in of if part.startswith("cells/")} for of in parts]
    assert len(cells[1] - cells[0]) == 1 + 2, "selected, and the two baselines that draw like it"
    assert len(cells[0] - cells[1]) == 2, "those baselines: the cell that was selected stays"


def test_the_report_and_the_card_say_what_review_changed(reviewed):
    store, before, after, _, _ = reviewed
    effect = store.read_json(keys.run_card(after.run_id))["review"]
    assert (effect["n_confirmed"], effect["n_relabelled"], effect["n_rejected"]) == (1, 1, 1)
    assert effect["n_verified_picks"] == 2
    roles = [pick["role"] for pick in picks_of(store, after)]
    assert effect["n_used_as_failures"] == roles.count("failing")
    assert effect["n_gone_picks"] >= 2
    page = store.read_bytes(keys.run_report(after.run_id)).decode()
    assert "What people decided" in page
    assert "What people decided" not in store.read_bytes(keys.run_report(before.run_id)).decode()
    assert "review" not in store.read_json(keys.run_card(before.run_id))


def test_a_decision_that_is_taken_back_gives_the_run_before(reviewed):
    store, before, _, images, _ = reviewed
    config = parse_config(store.read_json(keys.run_config(before.run_id)), "the run before")
    for image in images:
        decide(store, image, "undo")
    assert loop.run(config).run_id == before.run_id


@pytest.mark.parametrize("training", LOSSES, ids=["forward", "soft"])
def test_a_verified_label_is_not_doubted(tmp_path, training):
    case = CellCase(tmp_path)
    picks = case.store.read_table(keys.selection_picks(case.selection.id)).to_pylist()
    accepted, relabelled = with_content(case.store, picks)[:2]
    other = next(label for label in LABELS if label != relabelled["label"])
    decide(case.store, accepted, "accept")
    decide(case.store, relabelled, "relabel", other)
    reviewed = match_reviews(case.store, case.index)
    selection = select(
        case.store, case.pool, case.index, case.splits, case.config.selection, reviewed
    )
    plain = case.plan(**training)
    plan = replace(plain, selection=selection)
    assert plan.id != plain.id
    assert cell_key(plan, predictions_stand=True) != cell_key(plain, predictions_stand=True)

    data = gather_data(case.store, plan)
    doubt = doubt_of(case.store, data, plan.training)
    from_pool, from_errors = by_source(data.picks)
    ids = from_pool["image_id"].to_pylist()
    sure = {accepted["image_id"], relabelled["image_id"]}
    assert doubt.weak.tolist() == [i not in sure for i in ids] + [False] * from_errors.num_rows

    before = gather_data(case.store, plain)
    every = doubt_of(case.store, before, plain.training)
    ids_before = by_source(before.picks)[0]["image_id"].to_pylist()
    assert every.weak[: len(ids_before)].all()
    for place, image_id in enumerate(ids_before):
        if image_id in ids and image_id not in sure:
            assert doubt.votes[ids.index(image_id)].tolist() == every.votes[place].tolist()
    run_cell(case.store, plan)


def like_a_failure(case: CellCase, n: int) -> list[dict]:
    """Pool images that people call what the failure beside them is: plan_review's order."""
    plan = plan_review(case.store, case.index, case.splits, case.selection, n)
    rows = case.store.read_table(keys.selection_neighbors(plan.id)).to_pylist()
    of = planned_failures(case.store, plan.id)
    assert of is not None
    content = {
        row["image_id"]: row["content_hash"]
        for key in case.store.keys_under("embeddings/colours")
        for row in case.store.read_table(key, ["image_id", "content_hash"]).to_pylist()
    }
    return [
        {**row, "content_hash": content[row["image_id"]], "true": of[row["error_image_id"]]}
        for row in rows
    ]


def test_a_verified_image_that_is_like_a_failure_is_used_as_one(tmp_path):
    case = CellCase(tmp_path)
    for row in like_a_failure(case, 4):
        verb: Verb = "accept" if row["label"] == row["true"] else "relabel"
        decide(case.store, row, verb, None if verb == "accept" else row["true"])
    reviewed = match_reviews(case.store, case.index)
    config = case.config.selection
    selection = select(case.store, case.pool, case.index, case.splits, config, reviewed)
    assert 0 < selection.n_failing <= selection.n_reviewed <= 4
    picks = case.store.read_table(keys.selection_picks(selection.id)).to_pylist()
    failing = [pick for pick in picks if pick["role"] == "failing"]
    assert {pick["weight"] for pick in failing} == {
        np.float32(max(1, selection.error_sample_weight))
    }
    assert len({pick["image_id"] for pick in picks}) == len(picks)
    neighbors = case.store.read_table(keys.selection_neighbors(selection.id))
    kept = set(neighbors.filter(neighbors["kept"])["image_id"].to_pylist())
    assert not kept & {pick["image_id"] for pick in failing}

    plan = replace(case.plan(), selection=selection)
    data = gather_data(case.store, plan)
    found = fit_ends(case.store, data, plan.own_training, selection.id, ["whole_pool", "targeted"])
    of = found.candidates
    assert of.n_verified == selection.n_failing
    ids = by_source(found.picks)[0]["image_id"].to_pylist()
    verified = slice(len(of.agreement), len(of.agreement) + of.n_verified)
    assert set(ids[verified]) == {pick["image_id"] for pick in failing}
    assert not of.doubt.weak[of.n_train :][verified].any()
    assert (of.weights("whole_pool")[verified] == 1).all()
    assert (of.asked[:, 1] >= of.n_verified).all()
    cell = run_cell(case.store, plan)
    assert case.store.read_table(keys.cell_picks(cell.id)).num_rows == cell.n_picks


def test_verified_failures_share_the_weight_of_the_error_sample(tmp_path):
    case = CellCase(tmp_path)
    for row in like_a_failure(case, 2):
        decide(case.store, row, "relabel", row["true"])
    config = case.config.selection.model_copy(update={"max_targeted_share": 1.0})
    reviewed = match_reviews(case.store, case.index)
    found = select(case.store, case.pool, case.index, case.splits, config, reviewed)
    n_errors = case.splits["error_sample"].n_images
    assert found.n_failing > 0
    together = (n_errors + found.n_failing) * found.error_sample_weight
    assert together == pytest.approx(n_errors * config.error_sample_weight)


def test_what_is_drawn_is_drawn_as_without_reviews(tmp_path):
    """So that the models with and without them differ by what people said alone."""
    case = CellCase(tmp_path)
    config = case.config.selection.model_copy(update={"general_images": 12})
    before = select(case.store, case.pool, case.index, case.splits, config)
    for row in like_a_failure(case, 4):
        decide(case.store, row, "relabel", row["true"])
    reviewed = match_reviews(case.store, case.index)
    after = select(case.store, case.pool, case.index, case.splits, config, reviewed)
    assert after.n_failing > 0
    drawn, roles = [], []
    for found in (before, after):
        picks = case.store.read_table(keys.selection_picks(found.id)).to_pylist()
        roles.append({pick["image_id"]: pick["role"] for pick in picks})
        drawn.append({image_id for image_id, role in roles[-1].items() if role == "general"})
    assert {roles[0].get(image_id) for image_id in drawn[1]} <= {"general", "targeted"}
    assert all(
        roles[1].get(image_id) in ("targeted", "failing") for image_id in drawn[0] - drawn[1]
    )


def test_without_reviews_everything_is_what_it_was_to_the_bit(tmp_path):
    case = CellCase(tmp_path)
    folders = ("selections", "neighbors", "heads", "cells")

    def made() -> dict[str, bytes]:
        """Select and train with what stands, from nothing; the objects of that."""
        for key in [key for folder in folders for key in case.store.keys_under(folder)]:
            case.store.delete(key)
        reviewed = match_reviews(case.store, case.index)
        config = case.config.selection
        selection = select(case.store, case.pool, case.index, case.splits, config, reviewed)
        run_cell(case.store, replace(case.plan(), selection=selection))
        return {
            key: case.store.read_bytes(key)
            for folder in folders
            for key in case.store.keys_under(folder)
        }

    before = made()
    rows = like_a_failure(case, 4)
    for row in rows:
        decide(case.store, row, "relabel", row["true"])
    assert made().keys() != before.keys()
    for row in rows:
        decide(case.store, row, "undo")
    assert made() == before


def test_verified_images_are_no_failures_where_failures_do_not_weigh(tmp_path):
    case = CellCase(tmp_path)
    for row in like_a_failure(case, 4):
        decide(case.store, row, "relabel", row["true"])
    reviewed = match_reviews(case.store, case.index)
    config = case.config.selection.model_copy(update={"error_sample_weight": 0})
    found = select(case.store, case.pool, case.index, case.splits, config, reviewed)
    assert found.n_failing == 0


def test_like_a_failure_is_what_is_near_and_of_its_class():
    def rows(points: np.ndarray, labels: list[str]) -> pa.Table:
        schema = schemas.labelled_features(2).field("embedding").type
        return pa.table({"label": labels, "embedding": pa.array(points.tolist(), schema)})

    grid = np.stack(np.meshgrid(np.arange(40), np.arange(40)), -1).reshape(-1, 2) / 8
    sample = rows(grid, ["cat"] * len(grid))
    failures = rows(np.array([[1.0, 1.0], [4.0, 4.0]]), ["cat", "dog"])
    asked = rows(np.array([[1.1, 1.0], [1.1, 1.0], [2.5, 1.0], [4.0, 4.1]]),
                 ["cat", "dog", "cat", "dog"])  # fmt: skip
    assert like_failures(asked, failures, sample).tolist() == [True, False, False, True]


def test_an_image_that_judges_the_model_is_not_added_whatever_people_say(tmp_path):
    judging = {
        "images": str(tmp_path / "pool-*.parquet"),
        "labels": str(tmp_path / "truth.parquet"),
        "where": "image_id in ('p000', 'p001', 'p002', 'p003', 'p004', 'p005')",
    }
    config = load_config(write_case(tmp_path, seeds=(0,), test=judging))
    store = Store(config.store)
    before = loop.run(config)
    rows = [
        row
        for key in store.keys_under("embeddings/colours")
        for row in store.read_table(key).to_pylist()
    ]
    for row in rows:
        if row["image_id"] in ("p000", "p009"):
            decide(store, {**row, "label": row["weak_label"]}, "accept")
    after = loop.run(config)
    assert "p009" in {pick["image_id"] for pick in picks_of(store, after)}
    assert "p000" not in {pick["image_id"] for pick in picks_of(store, after)}
    assert before.run_id != after.run_id


def test_registered_failures_are_corrected_too(tmp_path):
    config = case_with_registry(tmp_path)
    store = Store(config.store)
    write_failures(inbox(config), 2, seed=1)
    take_in_folder(store, config)
    rejected, relabelled, *_ = read_registry(store).failures.to_pylist()
    other = next(label for label in LABELS if label != relabelled["label"])
    said: list[tuple[dict, Verb, str | None]] = [
        (rejected, "reject", None),
        (relabelled, "relabel", other),
    ]
    for row, verb, to in said:
        decision = Decision(
            row["image_id"], "ann", SOURCE_ID, row["image_id"], row["content_hash"],
            row["label"], verb, to,
        )  # fmt: skip
        record(store, [decision])
    assert len(corrections_of_failures(store)) == 2
    run = loop.run(config)
    found = {
        row["image_id"]: row["label"]
        for row in store.read_table(keys.run_table(run.run_id, "error_sample")).to_pylist()
    }
    assert rejected["image_id"] not in found
    assert found[relabelled["image_id"]] == other


@pytest.mark.parametrize("registered", [0, 1])
def test_without_any_failure_a_run_says_so(tmp_path, registered):
    config = load_config(write_case(tmp_path, seeds=(0,), failures=True, error_sample=None))
    store = Store(config.store)
    write_failures(inbox(config), registered, seed=1)
    take_in_folder(store, config)
    for row in read_registry(store).failures.to_pylist():
        record(
            store,
            [
                Decision(
                    row["image_id"], "ann", SOURCE_ID, row["image_id"], row["content_hash"],
                    row["label"], "reject", None,
                )
            ],
        )  # fmt: skip
    with pytest.raises(DataError, match="error_sample: no failure is registered in "):
        loop.run(config)


def test_an_image_under_several_labels_is_what_people_say_in_all_of_them():
    def rows(*of: tuple[str, str, str | None]) -> pa.Table:
        columns = zip(*of, strict=True)
        ids, labels, truth = map(list, columns)
        table = {
            "image_id": ids,
            "label": labels,
            "shard": ["s"] * len(ids),
            "content_hash": pa.array([content(i) for i in ids], schemas.CONTENT_HASH),
            "true_label": pa.array(truth, pa.string()),
        }
        return pa.table(table, schema=schemas.REVIEWED)

    reviewed = rows(("x", "cat", "dog"), ("x", "dog", "dog"), ("y", "cat", None))
    asked = rows(
        ("x", "cat", None), ("x", "dog", None), ("x", "fox", None), ("y", "cat", None),
        ("y", "dog", None), ("z", "cat", None),
    )  # fmt: skip
    assert refuse_reviewed(asked, reviewed).reasons == [
        "is dog, as reviewed", None, "is dog, as reviewed", REJECTED, None, None
    ]  # fmt: skip
    assert confirmed(asked, reviewed).tolist() == [False, True, False, False, False, False]


def test_neighbours_and_the_classifier_learn_from_what_people_said(tmp_path):
    case = CellCase(tmp_path)
    rows = pool_sample(case.store, case.index)
    of_red = rows.filter(pc.equal(rows["weak_label"], "red")).rename_columns(
        ["label", *rows.column_names[1:]]
    )
    some = of_red.slice(0, 1)
    for row in of_red.slice(1).select(["image_id", "label", "content_hash"]).to_pylist():
        decide(case.store, row, "relabel", "blue")
    reviewed = match_reviews(case.store, case.index)
    tables: dict[Split, pa.Table] = {
        split: split_table(case.store, info) for split, info in case.splits.items()
    }
    config = case.config.selection.model_copy(update={"min_agreement": 0.01, "min_trust": 0.01})
    found = []
    for said in (None, reviewed):
        rules = PickRules(case.store, case.index, case.splits, tables, config, said)
        found.append(rules._label_judge(some))  # what a rule asks
    before, after = found
    assert before.agreement[0] > 0
    assert after.agreement[0] == 0, "no neighbour is red any more"
    assert after.probability[0] < before.probability[0]
