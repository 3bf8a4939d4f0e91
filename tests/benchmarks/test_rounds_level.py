import pytest

from benchmarks.rounds_level import passed_share
from dcd.config import GoalConfig
from dcd.gate.decision import LEVEL

pytestmark = pytest.mark.slow
GOAL = GoalConfig(target=1.0, budget=1000, rounds=5, patience=5)


def test_worthless_rounds_are_promoted_no_more_often_than_one_worthless_model():
    """Of 100 runs 5 % are 5, and more than 11 in one of 100 such tests."""
    share, n_rounds = passed_share(GOAL, LEVEL / GOAL.rounds, 100)
    assert n_rounds == GOAL.rounds
    assert share <= 0.11


def test_each_at_the_gates_full_level_would_be_promoted_more_often():
    assert passed_share(GOAL, LEVEL, 100)[0] > passed_share(GOAL, LEVEL / 5, 100)[0]
