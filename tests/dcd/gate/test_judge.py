import json
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from dcd.config import DataConfig, EncoderConfig, RunConfig, Split, parse_config
from dcd.encoders.network import load_network, preprocess_of
from dcd.errors import DataError
from dcd.gate.champions import current, rollback
from dcd.gate.judge import champion_predictions, judge, settle
from dcd.gate.record import GateRecord
from dcd.sources.source import Source, list_source
from dcd.splits.split import SplitInfo
from dcd.store import Store, keys
from dcd.tables import schemas
from dcd.tables.vectors import embedding_matrix
from dcd.training.finetune import predict_images
from dcd.training.head import LinearHead, predict
from dcd.training.saved_models import linear_classifier, save_model
from tests.case import LABELS, png
from tests.dcd.gate.model_runs import CLASSES, promoted, write_run

N_TEST, N_VAL = 2000, 60


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


def config(seeds: Sequence[int] = (0,), debug_val: bool = True, **gate: object) -> RunConfig:
    splits = ("train", "test", "error_sample", "debug_heldout", *(["debug_val"] * debug_val))
    document: dict[str, object] = {split: {"images": f"{split}/*.tar"} for split in splits}
    document |= {"store": "s", "pool": {"images": "pool/*.tar"}, "seeds": list(seeds)}
    return parse_config(document | {"gate": gate}, "toy.yaml")


def answers(model: str, seed: int, n_right_test: int, n_right_val: int) -> pa.Table:
    """Predictions that are right for the first images of each split."""
    rows = [
        {
            "model": model,
            "seed": seed,
            "split": split,
            "image_id": f"{split}-{i:04d}",
            "label": "cat",
            "predicted": "cat" if i < n_right else "dog",
            "confidence": 0.5,
            "mode": None,
        }
        for split, n, n_right in (
            ("test", N_TEST, n_right_test),
            ("debug_val", N_VAL, n_right_val),
        )
        for i in range(n)
    ]
    return pa.Table.from_pylist(rows, schemas.PREDICTIONS)


def judged(store: Store, run: RunConfig, predictions: Sequence[pa.Table], run_id: str = "run"):
    for seed in run.seeds:
        write_run(store, run_id, seed)
    record = judge(store, run, run_id, pa.concat_tables(predictions), {}, "encoder")
    data = record.model_dump_json().encode()
    store.write_bytes(keys.run(run_id, "gate.json"), data)
    return record


NONE, GOOD, BAD = (1600, 20), (1602, 50), (1500, 50)


def test_what_is_better_becomes_the_champion(store: Store):
    record = judged(store, config(), [answers("none", 0, *NONE), answers("selected", 0, *GOOD)])
    assert record.outcome == "passed"
    gated = settle(store, config(), "run", record)
    assert gated.status == "promoted"
    now = current(store)
    assert now is not None
    assert (now.run_id, now.reasons) == ("run", record.reasons)


def test_what_loses_on_test_is_refused_with_the_reasons(store: Store):
    record = judged(store, config(), [answers("none", 0, *NONE), answers("selected", 0, *BAD)])
    gated = settle(store, config(), "run", record)
    assert gated.status == "refused"
    assert "lost on test" in gated.headline
    assert "debug_val" not in gated.headline
    assert "cat" in " ".join(gated.sentences)
    assert current(store) is None


def test_without_debug_val_nothing_is_promoted_and_it_says_so(store: Store):
    run = config(debug_val=False)
    gated = settle(store, run, "run", judged(store, run, [answers("none", 0, *NONE)]))
    assert gated.status == "not_judged"
    assert "names no debug_val, so nothing can be promoted" in gated.sentences[1]


def test_policy_decide_only_says_it(store: Store):
    run = config(policy="decide")
    record = judged(store, run, [answers("none", 0, *NONE), answers("selected", 0, *GOOD)])
    gated = settle(store, run, "run", record)
    assert gated.status == "passed"
    assert "not promoted" in gated.headline
    assert current(store) is None


def test_a_guard_holds_a_better_candidate_back(store: Store):
    guards = [{"metric": "class_recall", "min_recall": 1.0}]
    run = config(guards=guards)
    record = judged(store, run, [answers("none", 0, *NONE), answers("selected", 0, *GOOD)])
    gated = settle(store, run, "run", record)
    assert gated.status == "refused"
    assert "held back by the guard of recall on test" in gated.headline
    assert current(store) is None
    assert GateRecord.model_validate_json(record.model_dump_json()) == record


def test_by_default_the_first_seed_is_the_candidate_whatever_the_others_do(store: Store):
    run = config(seeds=(3, 1))
    tables = [answers("none", seed, *NONE) for seed in run.seeds]
    tables += [answers("selected", 3, *BAD), answers("selected", 1, *GOOD)]
    record = judged(store, run, tables)
    assert (record.outcome, record.seed, record.level) == ("refused", 3, 0.05)


def test_the_best_of_several_seeds_is_tested_more_strictly(store: Store):
    run = config(seeds=(0, 1, 2), candidate="best_seed")
    # On debug_val 6 newly right of 6: p = 1/64, enough for one seed, and for one of three not.
    gains = {0: (1600, 20), 1: (1600, 26), 2: (1600, 25)}
    tables = [answers("none", seed, *NONE) for seed in run.seeds]
    tables += [answers("selected", seed, *gain) for seed, gain in gains.items()]
    record = judged(store, run, tables)
    assert record.seed == 1
    assert record.level == pytest.approx(0.05 / 3)
    assert record.outcome == ("passed" if 1 / 64 <= 0.05 / 3 else "refused")
    fewer = [t for t in tables if t["model"][0].as_py() == "none"]
    fewer += [answers("selected", seed, 1600, 25) for seed in run.seeds]
    assert judged(store, run, fewer, "other").outcome == "refused"


def test_a_null_candidate_passes_in_at_most_5_percent_even_as_the_best_of_three(store: Store):
    """100 trials of three models that are as good as the one that fails, with other mistakes."""
    run = config(seeds=(0, 1, 2), candidate="best_seed", margin_points=5)
    for seed in run.seeds:
        write_run(store, "run", seed)
    passed = 0
    for trial in range(100):
        rng = np.random.default_rng(trial)
        tables = [_random("none", s, np.random.default_rng(trial)) for s in run.seeds]
        tables += [_random("selected", s, rng) for s in run.seeds]
        record = judge(store, run, "run", pa.concat_tables(tables), {}, "encoder")
        passed += record.outcome == "passed"
    assert passed <= 5


def _random(model: str, seed: int, rng: np.random.Generator) -> pa.Table:
    """A model that gets 80 % of the images right, at random."""
    parts = []
    for split, n in (("test", 400), ("debug_val", N_VAL)):
        right = rng.random(n) < 0.8
        columns = {
            "model": pa.repeat(model, n),
            "seed": pa.repeat(pa.scalar(seed, pa.int64()), n),
            "split": pa.repeat(split, n),
            "image_id": pa.array([f"{i:04d}" for i in range(n)]),
            "label": pa.repeat("cat", n),
            "predicted": pa.array(np.where(right, "cat", "dog").tolist()),
        }
        parts.append(pa.table(columns))
    return pa.concat_tables(parts)


def test_a_champion_of_other_classes_is_not_replaced_by_itself(store: Store):
    before = promoted(store, write_run(store, "old", classes=(*CLASSES, "emu")))
    record = judged(store, config(), [answers("none", 0, *NONE), answers("selected", 0, *GOOD)])
    gated = settle(store, config(), "run", record)
    assert gated.status == "passed"
    assert "other classes (emu)" in gated.headline
    assert current(store) == before


def test_a_champion_that_changed_meanwhile_is_not_overrun(store: Store):
    record = judged(store, config(), [answers("none", 0, *NONE), answers("selected", 0, *GOOD)])
    other = promoted(store, write_run(store, "faster"))
    gated = settle(store, config(), "run", record)
    assert gated.status == "passed"
    assert "changed meanwhile" in gated.headline
    assert current(store) == other


def test_running_the_champions_run_again_repeats_what_was_said(store: Store):
    tables = [answers("none", 0, *NONE), answers("selected", 0, *GOOD)]
    record = judged(store, config(), tables)
    settle(store, config(), "run", record)
    again = judged(store, config(), tables)
    assert again == record
    assert settle(store, config(), "run", again).status == "promoted"


def test_what_was_rolled_back_does_not_come_back_by_itself(store: Store):
    promoted(store, write_run(store, "old"))
    champion = current(store)
    assert champion is not None
    record = GateRecord(outcome="passed", reasons=(), seed=0, champion=champion.id)
    write_run(store, "run")
    assert settle(store, config(), "run", record).status == "promoted"
    back = rollback(store)
    gated = settle(store, config(), "run", record.model_copy(update={"champion": back.id}))
    assert gated.status == "passed"
    assert "rolled back" in gated.headline
    assert current(store) == back


ENCODER = EncoderConfig(model="test_resnet", weights="random", input_size=32)


@pytest.fixture
def splits(store: Store, tmp_path) -> Mapping[Split, SplitInfo]:
    """test and debug_val with images and features that have nothing to do with each other."""
    rng = np.random.default_rng(0)
    dim = load_network(ENCODER)(torch.zeros(1, 3, 32, 32)).shape[1]
    found: dict[Split, SplitInfo] = {}
    names: tuple[Split, Split] = ("test", "debug_val")
    for split in names:
        labels = [LABELS[i % 3] for i in range(12)]
        images = [png(rng, label, dark=False) for label in labels]
        ids = [f"{split}-{i:02d}" for i in range(12)]
        path = tmp_path / f"{split}.parquet"
        pq.write_table(pa.table({"image_id": ids, "image": images, "weak_label": labels}), path)
        source = Source(split, DataConfig(images=str(path)))
        (shard,) = list_source(store, source)
        vectors = pa.array(rng.normal(size=12 * dim).astype(np.float16))
        table = pa.table(
            {
                "image_id": ids,
                "label": labels,
                "mode": pa.nulls(12, pa.string()),
                "content_hash": pa.array([bytes(16)] * 12, schemas.CONTENT_HASH),
                "embedding": pa.FixedSizeListArray.from_arrays(vectors, dim),
            }
        )
        table = schemas.conform(table, schemas.labelled_features(dim), split)
        shards = pa.repeat(shard.name, 12)
        store.write_table(keys.split(split), table.append_column("shard", shards))
        found[split] = SplitInfo(split, split, source, 12, 12, False)
    return found


@pytest.mark.parametrize(("mode", "encoder_id"), [("head", "e"), ("head", "other"), ("full", "e")])
def test_a_champion_answers_from_features_only_if_it_is_a_head_on_them(
    store: Store, splits: Mapping[Split, SplitInfo], tmp_path, mode: str, encoder_id: str
):
    torch.manual_seed(0)
    network = load_network(ENCODER, 3)
    save_model(tmp_path / "m", network, LABELS, preprocess_of(ENCODER), "test_resnet")
    for file in (tmp_path / "m").iterdir():
        store.publish_file(file, keys.run("run", f"model/seed0/{file.name}"))
    card = {"config": {"training": {"mode": mode}}, "lineage": {"encoder_id": "e"}}
    store.write_bytes(keys.run("run", "card.json"), json.dumps(card).encode())
    champion = promoted(store, "run")
    found = champion_predictions(store, champion, splits, encoder_id)
    assert found.num_rows == 24
    test = store.read_table(keys.split("test"))
    if mode == "head" and encoder_id == "e":
        layer = linear_classifier(network)
        head = LinearHead(LABELS, layer.weight.detach().numpy(), layer.bias.detach().numpy())
        expected = predict(head, embedding_matrix(test)).labels
    else:
        images = pq.read_table(tmp_path / "test.parquet")["image"].to_pylist()
        expected = predict_images(network, images, LABELS, preprocess_of(ENCODER)).labels
    assert found.slice(0, 12)["predicted"].to_pylist() == expected
    for key in store.keys_under("runs/run/model"):
        store.delete(key)
    assert champion_predictions(store, champion, splits, encoder_id).equals(found)


def test_a_champion_whose_run_was_deleted_is_named_with_what_to_do(
    store: Store, splits: Mapping[Split, SplitInfo]
):
    champion = promoted(store, write_run(store, "gone"))
    for key in store.keys_under("runs/gone"):
        store.delete(key)
    with pytest.raises(DataError, match=r"gone is the champion; .*promote RUN --force"):
        champion_predictions(store, champion, splits, "e")


def test_the_rounds_of_a_goal_share_the_gates_level(store: Store):
    """7 of 60 newly right: p = 0.8 %, enough for one of five looks; 6 (1.6 %) for one alone."""
    goal: dict[str, object] = {"target": 0.9, "budget": 100, "rounds": 5}
    document: dict[str, object] = config().model_dump(mode="json")
    in_rounds = parse_config({**document, "goal": goal}, "toy.yaml")
    for n_gained, once, of_five in ((6, "passed", "refused"), (7, "passed", "passed")):
        tables = [answers("none", 0, 1600, 20), answers("selected", 0, 1650, 20 + n_gained)]
        assert judged(store, config(), tables).outcome == once
        record = judged(store, in_rounds, tables)
        assert (record.outcome, record.level) == (of_five, 0.01)
        assert "best on debug_val of up to 5 rounds" in record.reasons[-1]


def test_a_network_that_debug_val_chose_must_prove_more_on_it(store: Store):
    """8 of 60 newly right: p = 0.4 %, enough for a model alone, not for one of 21; 9 are enough."""
    document: dict[str, object] = config().model_dump(mode="json")
    full = parse_config({**document, "training": {"mode": "full"}}, "toy.yaml")
    for n_gained, of_many in ((8, "refused"), (9, "passed")):
        tables = [answers("none", 0, 1600, 20), answers("selected", 0, 1650, 20 + n_gained)]
        assert judged(store, config(), tables).outcome == "passed"
        record = judged(store, full, tables)
        assert (record.outcome, record.level) == (of_many, 0.05)
        assert "among up to 21 models" in record.reasons[-1]
        assert "at 0.24 %" in record.reasons[-1]
