from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.redraws import (
    BASELINES,
    BENCHMARKS,
    RULES,
    THINNING,
    Draw,
    Ends,
    Outcome,
    judged,
    plan_draws,
    redrawn_splits,
    table,
    thinned_pool,
)
from dcd.cells.candidates import Candidates
from dcd.cells.recipe import judge_points
from dcd.config import TrainingConfig
from dcd.training.losses import LabelDoubt

DRAW = Draw(0, "cifar100", 0, 1, 10, 20, "fifth")


def splits() -> pa.Table:
    rows = [
        {"image_id": f"f{mode}-{i}", "role": "debug_heldout", "label": "a", "mode": str(mode)}
        for mode in range(3)
        for i in range(60)
    ]
    rows += [
        {"image_id": f"{role}{i}", "role": role, "label": "ab"[i % 2], "mode": None}
        for role, n in (("train", 20), ("test", 40))
        for i in range(n)
    ]
    return pa.Table.from_pylist(rows)


def test_roles_are_drawn_anew_among_their_own_images():
    given, drawn = splits(), redrawn_splits(splits(), DRAW, by_label=False)
    roles = Counter(drawn["role"].to_pylist())
    assert roles == {
        "error_sample": 20,
        "debug_val": 40,
        "debug_heldout": 60,
        "train": 20,
        "test": 40,
    }
    assert len(set(drawn["image_id"].to_pylist())) == drawn.num_rows
    usual = [r for r in drawn.to_pylist() if r["role"] in ("train", "test")]
    assert all(not r["image_id"].startswith("f") for r in usual)
    assert Counter(r["label"] for r in usual if r["role"] == "train") == {"a": 10, "b": 10}
    before = {r["image_id"]: r["role"] for r in given.to_pylist()}
    assert any(before[r["image_id"]] != r["role"] for r in usual)
    assert drawn.equals(redrawn_splits(splits(), DRAW, by_label=False))


def test_a_pool_is_thinned_but_for_its_failing_kind():
    pool = pa.table({"image_id": [str(i) for i in range(1000)], "weak_label": ["a"] * 1000})
    failing = np.arange(1000) < 100
    assert 150 < thinned_pool(pool, failing, DRAW).num_rows < 250
    more = thinned_pool(pool, failing, Draw(0, "cifar100", 0, 0, 10, 20, "more_failing"))
    assert more["image_id"].to_pylist()[:100] == [str(i) for i in range(100)]
    assert 480 < more.num_rows < 620


def test_the_draws_cover_every_benchmark_and_every_pool():
    draws = plan_draws()
    assert len(draws) == 20
    assert {d.benchmark for d in draws} == set(BENCHMARKS)
    assert {(d.benchmark, d.thinning) for d in draws} == {
        (name, thinning) for name in BENCHMARKS for thinning in THINNING
    }
    assert draws == plan_draws()


def outcome(**changed: tuple[float, float]) -> Outcome:
    """50 / 60 for every method that is not named."""
    found = dict.fromkeys((*BASELINES, *RULES), (50.0, 60.0)) | changed
    return Outcome(
        DRAW,
        {method: both[0] for method, both in found.items()},
        {method: both[1] for method, both in found.items()},
        {"fixed": (), "failures_first": (0.5, 1.5), "both": (1.5,)},
        {},
        {},
    )


def test_the_table_counts_what_is_dominated_and_what_passed():
    good = outcome(failures_first=(70.0, 60.0))
    beaten = outcome(failures_first=(70.0, 59.0), whole_pool=(71.0, 61.0))
    assert beaten.dominated_by("failures_first") == ["whole_pool"]
    text = table([good, beaten])
    assert "| failures_first | 1 | 2 | 2 | 1 | 70.0 / 59.5 |" in text
    assert "| both | 1 | 0 | 2 | 0 | 50.0 / 60.0 |" in text


def test_kept_ends_are_the_ones_that_were_judged(tmp_path: Path):
    """A second run reads them, without a pickle, and judges the same models."""
    rng = np.random.default_rng(0)
    images = (*[rng.normal(size=(n, 6)).astype(np.float32) for n in (60, 80, 12)],)
    labels = [["a", "b"][i % 2] for n in (60, 80, 12) for i in range(n)]
    candidates = Candidates(
        features=np.concatenate(images),
        labels=labels,
        classes=("a", "b"),
        n_train=60,
        agreement=np.ones(80),
        added_weight=np.r_[np.ones(80), np.full(12, 5.0)],
        asked=np.stack([np.arange(12), np.arange(12)], axis=1),
        unasked_weight=1.0,
        doubt=LabelDoubt(
            np.r_[np.zeros(60, bool), np.ones(80, bool), np.zeros(12, bool)],
            np.empty((152, 0), np.int64),
            np.array([[0.9, 0.1], [0.1, 0.9]], np.float32),
        ),
    )
    ends = judged(candidates, TrainingConfig())
    ends.save(tmp_path / "kept" / "0.npz")
    again = Ends.load(tmp_path / "kept" / "0.npz")
    for end, head in ends.heads.items():
        np.testing.assert_array_equal(head.weight, again.heads[end].weight)
    one, two = (judge_points(of.held_out) for of in (ends, again))
    assert [model.levels for model in one] == [model.levels for model in two]
