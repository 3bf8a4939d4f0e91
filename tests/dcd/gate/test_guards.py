import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import TypeAdapter

from dcd.config import BalancedAccuracyGuard, CommandGuard, GuardConfig, RecallGuard
from dcd.gate.guards import ALLOWED, ask_guards, balanced_difference, command_fault

LABELS = np.array(["cat"] * 900 + ["emu"] * 100)


def answers(right: np.ndarray) -> pa.Table:
    n = len(right)
    return pa.table(
        {
            "model": pa.repeat("m", n),
            "seed": pa.repeat(pa.scalar(0, pa.int64()), n),
            "split": pa.repeat("test", n),
            "image_id": [f"{i:04d}" for i in range(n)],
            "label": LABELS[:n].tolist(),
            "predicted": np.where(right, LABELS[:n], "other").tolist(),
            "confidence": pa.repeat(0.5, n),
            "mode": pa.nulls(n, pa.string()),
        }
    )


@pytest.fixture
def right() -> np.ndarray:
    """Nine of ten of either class."""
    return np.arange(1000) % 10 > 0


def asked(guard: GuardConfig, before: np.ndarray, after: np.ndarray):
    (answer,) = ask_guards([guard], answers(before), answers(after), 0.05)
    return answer


def counting(folder: Path, code: str) -> CommandGuard:
    script = folder / "count.py"
    script.write_text(code)
    return CommandGuard(
        metric="command", name="emus", command=(sys.executable, str(script)), timeout_s=30
    )


COUNT = """
import csv, sys
rows = list(csv.DictReader(open(sys.argv[1])))
print("some words")
print(sum(r["label"] == r["predicted"] == "emu" for r in rows))
"""


def test_a_small_class_that_is_lost_is_no_loss_of_accuracy_but_of_balanced_accuracy(
    right: np.ndarray,
):
    after = right.copy()
    after[900:950] = False
    after[:45] = True
    guard = BalancedAccuracyGuard(metric="balanced_accuracy", margin_points=2)
    answer = asked(guard, right, after)
    assert not answer.passed
    assert "changed by -22.22 points" in answer.reason
    assert asked(guard, right, right).passed


def test_the_error_of_a_balanced_difference_is_that_of_resampling(right: np.ndarray):
    rng = np.random.default_rng(0)
    changes = rng.choice([-1, 0, 1], 1000, p=[0.1, 0.7, 0.2])
    value, error = balanced_difference(changes, LABELS, None)
    cats, emus = changes[:900], changes[900:]
    resampled = [
        (rng.choice(cats, 900).mean() + rng.choice(emus, 100).mean()) / 2 for _ in range(3000)
    ]
    assert value == pytest.approx((cats.mean() + emus.mean()) / 2)
    assert error == pytest.approx(np.std(resampled), rel=0.05)
    doubled = balanced_difference(
        np.repeat(changes, 2), np.repeat(LABELS, 2), np.repeat(np.arange(1000), 2)
    )
    assert doubled[1] == pytest.approx(error)


def test_a_class_below_the_floor_is_named(right: np.ndarray):
    after = right.copy()
    after[900:960] = False
    answer = asked(RecallGuard(metric="class_recall", min_recall=0.5), right, after)
    assert not answer.passed
    assert "below the floor of 50 % for emu (36.0 % of 100)" in answer.reason
    assert asked(RecallGuard(metric="class_recall", min_recall=0.3), right, after).passed


def test_a_command_is_asked_about_both_models(
    right: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(ALLOWED, "allow")
    guard = counting(tmp_path, COUNT)
    after = right.copy()
    after[901] = False
    answer = asked(guard, right, after)
    assert not answer.passed
    assert answer.reason == "emus on test went from 90 to 89; more than 0 was lost."
    assert asked(guard.model_copy(update={"max_loss": 1.0}), right, after).passed


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; sys.exit('no such column')", "ended with code 1: no such column"),
        ("print('none')", "its last line is no number: 'none'"),
        ("print('nan')", "cannot be compared"),
        ("", "its last line is no number: ''"),
    ],
)
def test_a_command_that_fails_lets_nothing_pass(
    code: str, words: str, right: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(ALLOWED, "allow")
    answer = asked(counting(tmp_path, code), right, right)
    assert not answer.passed
    assert words in answer.reason


def test_commands_need_the_word_of_the_machine(
    right: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv(ALLOWED, raising=False)
    trace = tmp_path / "ran"
    guard = counting(tmp_path, f"open({str(trace)!r}, 'w'); print(1)")
    answer = asked(guard, right, right)
    assert not answer.passed
    assert f"{ALLOWED}=allow" in answer.reason
    assert not trace.exists()
    monkeypatch.setenv(ALLOWED, "allow")
    assert command_fault(guard) is None
    absent = guard.model_copy(update={"command": ("no-such-program",)})
    assert "no program 'no-such-program'" in str(command_fault(absent))


def test_guards_are_told_apart_by_their_metric():
    read = TypeAdapter(GuardConfig).validate_python
    assert isinstance(read({"metric": "class_recall", "min_recall": 0.5}), RecallGuard)
    with pytest.raises(ValueError, match="min_recall"):
        read({"metric": "class_recall"})
