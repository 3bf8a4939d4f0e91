import json

import pyarrow.compute as pc
import pytest
import torch

import dcd
from dcd.config import RunConfig, load_config
from dcd.runs.run import RunInfo
from dcd.store import Store, keys
from tests.case import write_case

GOAL = {"target": 1.0, "budget": 9, "images_per_round": 1, "rounds": 3, "patience": 3}
# Too little to mend every failure in one round; test, being tiny, can prove nothing.
SELECTION = {"k": 2, "min_agreement": 0, "general_images": 0, "leak_distance": 0}
SELECTION |= {"pick_weight": 1, "error_sample_weight": 0, "objective": "fixed"}


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> tuple[RunConfig, RunInfo]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("case")
    written = write_case(
        folder,
        goal=GOAL,
        selection=SELECTION,
        compare={"baselines": ["random"]},
        gate={"policy": "off"},
    )
    config = load_config(written)
    return config, dcd.run(config)


def test_rounds_go_on_until_they_stop_and_say_why(ran):
    _, info = ran
    assert info.rounds is not None
    none, *rounds = info.rounds.figures
    assert (none.number, none.n_taken) == (0, 0)
    assert len(rounds) >= 2
    taken = [of.n_taken for of in rounds]
    assert taken == sorted(taken)
    assert all(of.n_new <= 1 for of in rounds)
    assert taken[-1] <= 3
    assert rounds[0].n_asked == 9
    assert rounds[1].n_asked < 9
    assert info.rounds.sentences[0].startswith(f"Stopped after {len(rounds)} rounds")


def test_selected_is_the_model_of_the_chosen_round(ran):
    config, info = ran
    assert info.rounds is not None
    metrics = Store(config.store).read_table(keys.run_table(info.run_id, "metrics"))
    overall = metrics.filter(pc.and_(pc.equal(metrics["model"], "selected"),
                                     pc.is_null(metrics["mode"])))  # fmt: skip
    chosen = info.rounds.figures[info.rounds.chosen]
    for split in ("debug_val", "debug_heldout", "test"):
        values = overall.filter(pc.equal(overall["split"], split))["value"].to_pylist()
        assert sum(values) / len(values) == pytest.approx(getattr(chosen, split))


def test_report_card_and_ledger_hold_the_rounds(ran):
    config, info = ran
    store = Store(config.store)
    card = json.loads(store.read_bytes(keys.run_card(info.run_id)))
    assert [of["number"] for of in card["rounds"]["figures"]] == [
        of.number for of in info.rounds.figures
    ]
    assert card["rounds"]["stopped"] == info.rounds.stopped
    page = store.read_bytes(keys.run_report(info.run_id)).decode()
    assert 'id="rounds"' in page
    assert "Stopped after" in page
    assert "## Rounds" in store.read_bytes(keys.run_card_text(info.run_id)).decode()
    ledger = store.read_table(keys.run_table(info.run_id, "ledger"))
    assert set(ledger["seed"].to_pylist()) == set(config.seeds)
    for seed in config.seeds:
        of_seed = ledger.filter(pc.equal(ledger["seed"], seed))
        first_round: dict[bytes, int] = {}
        for row in of_seed.to_pylist():
            assert first_round.setdefault(row["content_hash"], row["round"]) == row["round"]


def test_a_rerun_makes_no_round_again_and_another_target_reuses_them(ran):
    config, info = ran
    store = Store(config.store)
    parts = ("cells/", "selections/")
    before = {key for key in store.keys_under("") if key.startswith(parts)}
    assert dcd.run(config).rounds == info.rounds
    higher = config.goal.model_copy(update={"patience": 2})
    dcd.run(config.model_copy(update={"goal": higher}))
    assert {key for key in store.keys_under("") if key.startswith(parts)} == before


def test_what_is_lost_of_a_round_is_made_again_as_it_was(ran):
    config, info = ran
    store = Store(config.store)
    lost = [key for key in store.keys_under("") if key.endswith(("ledger.parquet",
            "out_of_fold.parquet")) and not key.startswith("runs/")]  # fmt: skip
    assert len(lost) >= 4
    for key in lost:
        store.delete(key)
    again = dcd.run(config)
    assert again.rounds == info.rounds
    assert again.run_id == info.run_id
    # What nothing asked for is not: the last round's answers about failures.
    assert all(store.exists(key) for key in lost if key.endswith("ledger.parquet"))


def test_the_runs_of_a_goal_need_the_cells_of_every_round(ran):
    config, info = ran
    parts = json.loads(Store(config.store).read_bytes(keys.run_parts(info.run_id)))["parts"]
    cells = {part for part in parts if part.startswith("cells/")}
    # none, random and selected at one split of data; and every round's model
    assert len(cells) >= len(info.rounds.figures) - 1 + 2
