"""Plan the rounds of a goal: what comes next, when to stop, and which round's model is taken. Pure.

Every round is looked at on debug_val and test, and the best is taken. A worthless one would have as
many chances as there are rounds, so each is tested at the gate's level divided by the most rounds
there may be. That is a spending function (Lan & DeMets 1983, "Discrete sequential boundaries for
clinical trials", Biometrika 70:659) which spends the same at every look, used in Bonferroni's form:
it holds however the looks hang together, and whenever the rounds stop.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from dcd.config import GoalConfig
from dcd.evaluation.round_figures import RoundFigures
from dcd.rounds.budget import images_of_round
from dcd.rounds.picks import RoundPicks, RoundPlan
from dcd.selection.select import SelectionInfo

Why = Literal["goal", "rounds", "budget", "pool", "right", "patience"]


@dataclass(frozen=True)
class FinishedRound:
    """A round's figures, picks and the id of its cell by seed, and the store's parts it made."""

    figures: RoundFigures
    picks: Mapping[int, RoundPicks]
    cells: Mapping[int, str]
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Rounds:
    """The rounds so far, and why they stopped; None: they go on."""

    none: RoundFigures | None = None
    finished: tuple[FinishedRound, ...] = ()
    stopped: Why | None = None

    @property
    def figures(self) -> tuple[RoundFigures, ...]:
        """Those of `none`, then round by round."""
        of_none = () if self.none is None else (self.none,)
        return (*of_none, *(one.figures for one in self.finished))

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(part for one in self.finished for part in one.parts)

    @property
    def chosen(self) -> FinishedRound:
        """The round whose model is taken: see `best_round`."""
        return self.finished[best_round([one.figures for one in self.finished])]

    @property
    def selected(self) -> dict[int, SelectionInfo]:
        """The selection of the chosen round, by seed."""
        return {seed: picks.info for seed, picks in self.chosen.picks.items()}


def plan_round(goal: GoalConfig, rounds: Rounds, seed: int) -> RoundPlan:
    """Plan the next round of one seed."""
    number = len(rounds.finished) + 1
    if not rounds.finished:
        return RoundPlan(number, images_of_round(goal, 0, number), goal.sharing)
    last = rounds.finished[-1]
    picks = last.picks[seed]
    n_images = images_of_round(goal, picks.n_taken, number)
    return RoundPlan(number, n_images, goal.sharing, picks.info.id, last.cells[seed])


def after_picking(rounds: Rounds, picks: Mapping[int, RoundPicks]) -> Rounds:
    """Stop where no seed found a further image; else the round goes on to training."""
    if not rounds.finished or any(of_seed.n_new for of_seed in picks.values()):
        return rounds
    nothing_fails = not any(of_seed.n_asked for of_seed in picks.values())
    return replace(rounds, stopped="right" if nothing_fails else "pool")


def after_training(
    goal: GoalConfig, rounds: Rounds, none: RoundFigures, finished: FinishedRound
) -> Rounds:
    """Add a round, and stop if it was the last one."""
    now = Rounds(none, (*rounds.finished, finished))
    return replace(now, stopped=stop_reason(goal, now.figures))


def stop_reason(goal: GoalConfig, figures: tuple[RoundFigures, ...]) -> Why | None:
    """Say why nothing more is picked after these rounds (`none` first); None: go on."""
    last = figures[-1]
    if last.metric >= goal.target and last.holds:
        return "goal"
    if last.number >= goal.rounds:
        return "rounds"
    if last.n_taken >= goal.budget:
        return "budget"
    metrics = [of.metric for of in figures]
    best = metrics.index(max(metrics))  # the first of equals: an equal is no gain
    return "patience" if last.number - best >= goal.patience else None


def best_round(figures: list[RoundFigures]) -> int:
    """Return the place of the round whose model is taken.

    Of those that hold (if none does, of all) the best by the goal's metric; of equals the first.
    """
    holding = [i for i, of in enumerate(figures) if of.holds] or list(range(len(figures)))
    return max(holding, key=lambda i: (figures[i].metric, -i))


def round_words(goal: GoalConfig, rounds: Rounds) -> str:
    """Say what the last round came to, and why it is the last, in a line."""
    of = rounds.figures[-1]
    shares = {"debug_val": of.debug_val, "debug_heldout": of.debug_heldout, "test": of.test}
    found = ", ".join(f"{split} {100 * share:.1f} %" for split, share in shares.items())
    came_to = f"{of.n_new:,.0f} images for {of.n_asked:,.0f} failures, {of.n_taken:,.0f} so far"
    if rounds.stopped in ("pool", "right"):
        return stop_words(goal, rounds)
    stopped = "" if rounds.stopped is None else f". {stop_words(goal, rounds)}"
    return f"{came_to}; {found}{stopped}"


def stop_words(goal: GoalConfig, rounds: Rounds) -> str:
    """Say why the rounds stopped, in a sentence."""
    n = len(rounds.finished)
    after = f"after {n} round{'s' * (n != 1)}"
    best = max(of.metric for of in rounds.figures)
    short = f"the goal ({goal.words}) was not reached: at best {_figure(goal, best)}"
    if any(of.metric >= goal.target for of in rounds.figures[1:]):
        short = f"the goal ({goal.words}) was reached, but test or a guard did not hold"
    match rounds.stopped:
        case "goal":
            reached = _figure(goal, rounds.figures[-1].metric)
            return f"Stopped {after}: the goal is reached, {goal.words}, with {reached}."
        case "rounds":
            why = "more rounds are not allowed"
        case "budget":
            why = f"the budget of {goal.budget:,} images is used up"
        case "pool":
            why = "the pool has no further image that may be taken for what still fails"
        case "right":
            why = "no failure of the error sample is wrong any more"
        case _:
            why = f"nothing was gained in {goal.patience} round{'s' * (goal.patience != 1)}"
    return f"Stopped {after}: {why}; {short}."


def _figure(goal: GoalConfig, value: float) -> str:
    return f"{value:g}" if goal.metric == "command" else f"{100 * value:.1f} %"


def chosen_words(rounds: Rounds, n_seeds: int) -> str:
    """Say which round's model `selected` is, in a sentence."""
    chosen = rounds.chosen.figures
    mean = " (mean over seeds)" if n_seeds > 1 else ""
    best = f"best{mean} by the goal's figure on debug_val of those whose test and guards hold"
    if not chosen.holds:
        best = f"best{mean} by the goal's figure on debug_val; of no round test and guards hold"
    return f"`selected` is the model of round {chosen.number}, {best}."
