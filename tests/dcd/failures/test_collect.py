import hashlib

import numpy as np
import pyarrow as pa
import pytest

from dcd.errors import DataError
from dcd.failures.answers import Answers
from dcd.failures.collect import collect_errors

SHARES = (0.4, 0.3, 0.3)
D = 12


def answers(wrong: np.ndarray, features: np.ndarray, contents: list[int] | None = None) -> Answers:
    """Answers of a model about cats; image i is wrong where `wrong` says so."""
    n = len(wrong)
    texts = [str(i) for i in (contents or range(n))]
    rows = pa.table(
        {
            "image_id": [f"cat/{i:04d}" for i in range(n)],
            "label": ["cat"] * n,
            "shard": ["cat-00000"] * n,
            "content": [hashlib.blake2b(t.encode(), digest_size=16).digest() for t in texts],
            "predicted": ["dog" if w else "cat" for w in wrong],
            "confidence": [0.5] * n,
        }
    )
    return Answers(rows, features.astype(np.float16), 0, 0, 0)


def test_debug_splits_hold_right_and_wrong_images_alike():
    """What the model gets right of them is what it gets right of all such images: no selection
    by its mistakes, by which any other model would look better.
    """
    rng = np.random.default_rng(0)
    wrong = rng.random(2000) < 0.4
    found = collect_errors(answers(wrong, rng.normal(size=(2000, D))), SHARES)
    rows = found.rows.to_pylist()
    errors = [row for row in rows if row["role"] == "error_sample"]
    debug = [row for row in rows if row["role"] != "error_sample"]
    assert all(row["predicted"] == "dog" for row in errors)
    accuracy = np.mean([row["predicted"] == "cat" for row in debug])
    assert abs(accuracy - 0.6) < 0.06
    assert found.accuracy == pytest.approx(1 - wrong.mean())
    assert 0.25 < len(errors) / (0.4 * 2000) < 0.55
    assert len(debug) > 1000


def test_only_images_near_a_failure_mode_are_debug_images():
    """Cats on snow fail, those on grass never do."""
    rng = np.random.default_rng(1)
    snow = np.arange(600) < 200
    features = rng.normal(size=(600, D))
    features[snow, 0] += 20
    found = collect_errors(answers(snow & (rng.random(600) < 0.5), features), SHARES)
    is_snow = {f"cat/{i:04d}" for i in range(200)}
    assert {row["image_id"] for row in found.rows.to_pylist()} <= is_snow
    (count,) = found.modes
    assert count.n_near > 60
    assert count.accuracy_near is not None
    assert 0.3 < count.accuracy_near < 0.7


def test_copies_of_an_image_share_a_role():
    rng = np.random.default_rng(2)
    contents = [i // 4 for i in range(400)]
    found = collect_errors(answers(np.ones(400, bool), rng.normal(size=(400, D)), contents), SHARES)
    roles: dict[int, set[str]] = {}
    for row in found.rows.to_pylist():
        roles.setdefault(int(row["image_id"][-4:]) // 4, set()).add(row["role"])
    assert len(roles) == 100
    assert all(len(of_copies) == 1 for of_copies in roles.values())


def test_a_model_without_mistakes_leaves_nothing_to_learn_from():
    with pytest.raises(DataError, match="no failure to learn from"):
        collect_errors(answers(np.zeros(50, bool), np.zeros((50, D))), SHARES)


def test_a_single_failure_makes_all_images_of_its_label_debug_images():
    wrong = np.zeros(100, bool)
    rng = np.random.default_rng(3)
    features = rng.normal(size=(100, D))
    for i in range(100):  # one that falls into the error sample's part
        wrong[:] = False
        wrong[i] = True
        try:
            found = collect_errors(answers(wrong, features), SHARES)
        except DataError:
            continue
        break
    assert found.modes[0].n_failures == 1
    assert found.modes[0].n_near > 40
