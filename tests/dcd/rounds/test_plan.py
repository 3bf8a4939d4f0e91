from dataclasses import replace

import pytest

from dcd.config import GoalConfig
from dcd.evaluation.round_figures import RoundFigures
from dcd.rounds.picks import RoundPicks
from dcd.rounds.plan import (
    FinishedRound,
    Rounds,
    after_picking,
    best_round,
    plan_round,
    stop_reason,
    stop_words,
)
from dcd.selection.select import SelectionInfo


def goal(**settings: object) -> GoalConfig:
    return GoalConfig.model_validate({"target": 0.9, "budget": 100, "rounds": 5, **settings})


def figures(*metrics: float, per_round: int = 10, holds: bool = True) -> tuple[RoundFigures, ...]:
    return tuple(
        RoundFigures(i, 5, per_round * (i > 0), per_round * i, metric, metric, 0.5, 0.5, holds)
        for i, metric in enumerate(metrics)
    )


def picks(n_new: int, n_asked: int = 3, n_taken: int = 10) -> RoundPicks:
    return RoundPicks(1, SelectionInfo("s1", 3, n_taken, False), n_asked, n_new, n_taken)


def finished(*metrics: float) -> Rounds:
    none, *rest = figures(*metrics)
    rounds = [FinishedRound(one, {0: picks(10)}, {0: "cell"}, ("cells/cell",)) for one in rest]
    return Rounds(none, tuple(rounds))


@pytest.mark.parametrize(
    ("metrics", "settings", "why"),
    [
        ((0.5, 0.9), {}, "goal"),
        ((0.5, 0.8), {}, None),
        ((0.5, 0.6, 0.7, 0.8, 0.85, 0.86), {}, "rounds"),
        ((0.5, 0.6, 0.7), {"budget": 20}, "budget"),
        ((0.5, 0.7, 0.7, 0.7), {}, "patience"),  # an equal is no gain
        ((0.5, 0.7, 0.6, 0.71), {}, None),
        ((0.5, 0.4), {"patience": 1}, "patience"),
        ((0.5, 0.9), {"rounds": 1}, "goal"),  # the goal is named before the last round
    ],
)
def test_rounds_stop_for_the_first_reason_that_holds(metrics, settings, why):
    assert stop_reason(goal(**settings), figures(*metrics)) == why


def test_a_target_that_costs_test_is_not_the_goal():
    assert stop_reason(goal(), figures(0.5, 0.95, holds=False)) is None
    said = stop_words(goal(rounds=1), replace(finished(0.5, 0.95), stopped="rounds"))
    assert "was reached, but test or a guard did not hold" in said


def test_the_best_round_that_holds_is_taken_and_the_first_of_equals():
    assert best_round(list(figures(0.6, 0.8, 0.8, 0.7))) == 1
    some = list(figures(0.6, 0.9, 0.8))
    some[1] = replace(some[1], holds=False)
    assert best_round(some) == 2
    assert best_round([replace(one, holds=False) for one in some]) == 1


def test_nothing_more_to_take_ends_the_rounds_and_says_which_end_it_is():
    rounds = finished(0.5, 0.6)
    assert after_picking(rounds, {0: picks(0), 1: picks(1)}).stopped is None
    assert after_picking(rounds, {0: picks(0)}).stopped == "pool"
    assert after_picking(rounds, {0: picks(0, n_asked=0)}).stopped == "right"
    assert after_picking(Rounds(), {0: picks(0)}).stopped is None  # judged once all the same


def test_a_round_goes_on_from_the_one_before():
    first = plan_round(goal(rounds=4), Rounds(), 0)
    assert (first.number, first.n_images, first.before, first.cell) == (1, 25, None, None)
    second = plan_round(goal(rounds=4), finished(0.5, 0.6), 0)
    assert (second.number, second.n_images, second.before, second.cell) == (2, 30, "s1", "cell")


@pytest.mark.parametrize("why", ["goal", "rounds", "budget", "pool", "right", "patience"])
def test_every_end_is_told_in_words(why):
    said = stop_words(goal(), replace(finished(0.5, 0.6, 0.92), stopped=why))
    assert said.startswith("Stopped after 2 rounds: ")
    assert "accuracy of 90.0 % on debug_val" in said
