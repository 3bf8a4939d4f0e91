import re

import numpy as np
import pyarrow as pa
import pytest

from dcd.errors import DataError
from dcd.evaluation.stats import non_inferiority
from dcd.gate.decision import decide
from dcd.tables import schemas

LABELS = ("cat", "dog", "eel", "fox")


def _predictions(model: str, correct: dict[str, np.ndarray]) -> pa.Table:
    """Predictions that are right where `correct` says so; image i has label i % 4."""
    rows = []
    for split, outcomes in correct.items():
        for i, right in enumerate(outcomes):
            label = LABELS[i % 4]
            rows.append(
                {
                    "model": model,
                    "seed": 0,
                    "split": split,
                    "image_id": f"{split} {i:05}",
                    "label": label,
                    "predicted": label if right else "none of them",
                    "confidence": 0.5,
                    "mode": None,
                }
            )
    return pa.Table.from_pylist(rows, schemas.PREDICTIONS)


def _outcomes(n: int, *, gained: int, lost: int) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes of champion and candidate with so many changes, spread over the images."""
    champion = np.arange(n) % 10 < 7
    candidate = champion.copy()
    candidate[np.flatnonzero(~champion)[:gained]] = True
    candidate[np.flatnonzero(champion)[:lost]] = False
    return champion, candidate


def _decide(*, test: tuple[int, int], debug_val: tuple[int, int]):
    tests = _outcomes(4000, gained=test[0], lost=test[1])
    vals = _outcomes(100, gained=debug_val[0], lost=debug_val[1])
    champion, candidate = (
        _predictions(name, {"test": t, "debug_val": v, "debug_heldout": v[:10]})
        for name, t, v in zip(("champion", "candidate"), tests, vals, strict=True)
    )
    return decide(champion, candidate)


def test_better_on_the_failures_and_no_worse_on_test_is_promoted():
    decision = _decide(test=(60, 50), debug_val=(20, 2))
    assert decision.promoted
    assert decision.test.passed
    assert decision.debug_val.passed
    assert "within the margin of 0.5" in decision.reasons[0]
    assert (
        "20 of 100 images are newly right and 2 newly wrong (+18.00 points)" in decision.reasons[-1]
    )


def test_a_loss_on_test_refuses_by_how_much_and_on_which_classes():
    champion = np.ones(4000, bool)
    candidate = champion.copy()
    candidate[np.flatnonzero(np.arange(4000) % 4 == 2)[:100]] = False
    candidate[1] = False
    vals = _outcomes(100, gained=20, lost=0)
    decision = decide(
        _predictions("champion", {"test": champion, "debug_val": vals[0]}),
        _predictions("candidate", {"test": candidate, "debug_val": vals[1]}),
    )
    assert not decision.promoted
    assert decision.debug_val.passed
    assert "changed by -2.53 points" in decision.reasons[0]
    assert decision.reasons[1] == (
        "Most is lost on eel (100.0 % → 90.0 % of 1000), dog (100.0 % → 99.9 % of 1000)."
    )
    assert [change.label for change in decision.classes[:2]] == ["eel", "dog"]


def test_too_few_images_to_tell_refuse():
    """Nothing is lost net, but so much changed that a loss beyond the margin is possible."""
    decision = _decide(test=(300, 300), debug_val=(20, 2))
    assert not decision.promoted
    assert "only 95 % sure to have lost less than" in decision.reasons[0]
    said = re.search(r"a margin of ([\d.]+); .* needs about ([\d,]+) of them", decision.reasons[0])
    assert said is not None
    smallest, needed = float(said[1]), int(said[2].replace(",", ""))
    assert non_inferiority(decision.test.counts, smallest / 100) <= 0.05
    assert non_inferiority(decision.test.counts, (smallest - 0.02) / 100) > 0.05
    assert needed > 4000


def test_a_gain_too_small_to_show_says_how_many_images_would_show_it():
    decision = _decide(test=(60, 20), debug_val=(6, 3))
    assert "If the gain is what it seems, about" in decision.reasons[-1]
    assert "would show it" not in _decide(test=(60, 20), debug_val=(3, 6)).reasons[-1]


def test_no_gain_on_the_failures_refuses():
    decision = _decide(test=(60, 20), debug_val=(4, 2))
    assert decision.test.passed
    assert not decision.promoted
    assert "no proof of an improvement" in decision.reasons[-1]


def test_the_champion_itself_is_not_promoted():
    assert not _decide(test=(0, 0), debug_val=(0, 0)).promoted


def test_a_null_candidate_is_promoted_in_at_most_5_percent():
    """Same accuracy everywhere, other mistakes: as another seed of the same training."""
    promoted = 0
    for trial in range(200):
        rng = np.random.default_rng(trial)

        def retrained(base: np.ndarray, rng: np.random.Generator = rng) -> np.ndarray:
            flipped = rng.random(len(base)) < np.where(base, 0.03, 0.07)
            return base ^ flipped

        test, val = rng.random(4000) < 0.7, rng.random(100) < 0.7
        champion, candidate = (
            _fast_predictions({"test": retrained(test), "debug_val": retrained(val)})
            for _ in range(2)
        )
        promoted += decide(champion, candidate, margin=0.01).promoted
    assert promoted <= 10


def _fast_predictions(correct: dict[str, np.ndarray]) -> pa.Table:
    parts = [
        pa.table(
            {
                "split": pa.repeat(split, len(outcomes)),
                "image_id": pa.array(range(len(outcomes)), pa.int64()).cast(pa.string()),
                "label": pa.repeat("cat", len(outcomes)),
                "predicted": np.where(outcomes, "cat", "dog"),
            }
        )
        for split, outcomes in correct.items()
    ]
    return pa.concat_tables(parts)


def test_models_evaluated_on_different_images_are_refused():
    whole = {"test": np.ones(8, bool), "debug_val": np.ones(8, bool)}
    champion = _predictions("champion", whole)
    with pytest.raises(DataError, match="not evaluated on the same test images"):
        decide(champion, _predictions("candidate", {**whole, "test": np.ones(7, bool)}))
    only_test = _predictions("champion", {"test": np.ones(8, bool)})
    with pytest.raises(DataError, match="no predictions on debug_val"):
        decide(only_test, only_test)
    with pytest.raises(DataError, match="margin"):
        decide(champion, champion, margin=0.0)


def test_frames_of_a_burst_are_no_proof_of_their_own():
    """Twenty frames that are newly right together are two observations."""
    champion, candidate = _outcomes(200, gained=20, lost=0)
    tests = _outcomes(4000, gained=60, lost=40)
    tables = [
        _predictions(name, {"test": t, "debug_val": v})
        for name, t, v in zip(("champion", "candidate"), tests, (champion, candidate), strict=True)
    ]
    assert decide(*tables).promoted
    changed = np.cumsum(champion != candidate)
    bursts = [
        f"burst {n // 10}" if c != v else None
        for n, c, v in zip(changed - 1, champion, candidate, strict=True)
    ]
    group = pa.array([None] * 4000 + bursts, pa.string())
    decision = decide(tables[0], tables[1].append_column("group", group))
    assert decision.test.passed
    assert not decision.debug_val.passed
    assert decision.debug_val.p_value == 0.25
    assert "The 200 images of debug_val are 182 groups" in decision.reasons[-1]


def test_bursts_on_test_make_it_less_sure():
    tests = _outcomes(4000, gained=30, lost=40)
    vals = _outcomes(100, gained=20, lost=2)
    tables = [
        _predictions(name, {"test": t, "debug_val": v})
        for name, t, v in zip(("champion", "candidate"), tests, vals, strict=True)
    ]
    group = pa.array([str(n // 400) for n in range(4000)] + [None] * 100, pa.string())
    together = decide(tables[0], tables[1].append_column("group", group))
    alone = decide(*tables)
    assert alone.test.counts.design_effect == 1 < together.test.counts.design_effect
    assert alone.test.p_value < together.test.p_value
