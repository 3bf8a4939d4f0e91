from collections import Counter

import numpy as np
import pyarrow as pa

from benchmarks.redraws import (
    BASELINES,
    BENCHMARKS,
    THINNING,
    Draw,
    Outcome,
    plan_draws,
    redrawn_splits,
    table,
    thinned_pool,
)

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


def test_the_table_counts_what_is_dominated_and_what_passed():
    methods = (*BASELINES, "selected", "both")
    good = Outcome(
        DRAW,
        dict.fromkeys(methods, 50.0) | {"selected": 70.0},
        dict.fromkeys(methods, 60.0),
        (0.5, 1.5),
        (),
        "",
        "",
    )
    beaten = Outcome(
        DRAW,
        dict.fromkeys(methods, 50.0) | {"whole_pool": 71.0, "selected": 70.0},
        dict.fromkeys(methods, 60.0) | {"whole_pool": 61.0},
        (1.5,),
        (),
        "",
        "",
    )
    assert beaten.dominated_by("selected") == ["whole_pool"]
    text = table([good, beaten])
    passes = "the gate passes 1 at a margin of 0.5 and 2 at a margin of 1.5."
    assert f"Of 2 redraws selected is dominated in 1; {passes}" in text
