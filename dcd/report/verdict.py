"""Say in plain words what rose, what it cost, and which baseline did better.

A change is called a rise or a fall only if its 95 % interval excludes zero.
"""

from collections.abc import Sequence

from dcd.evaluation.stats import Interval
from dcd.evaluation.summary import (
    MethodSummary,
    ModeSummary,
    Outcomes,
    difference,
    mode_rows,
    outcomes,
    summary_rows,
)
from dcd.report.record import RunRecord
from dcd.report.words import Change, change, interval, mode_name, percent, points

_HEADLINES: dict[tuple[Change, Change], str] = {
    ("rose", "rose"): "Better on the failures, and better on test",
    ("rose", "unclear"): "Better on the failures, with no clear change on test",
    ("rose", "fell"): "Better on the failures, but worse on test",
    ("unclear", "rose"): "No clear change on the failures, but better on test",
    ("unclear", "unclear"): "No clear change, neither on the failures nor on test",
    ("unclear", "fell"): "No clear change on the failures, and worse on test",
    ("fell", "rose"): "Worse on the failures, though better on test",
    ("fell", "unclear"): "Worse on the failures, with no clear change on test",
    ("fell", "fell"): "Worse on the failures and on test",
}


def verdict(record: RunRecord) -> tuple[str, ...]:
    """Return sentences, the weightiest first; the first one is the headline."""
    rows = summary_rows(record.predictions, record.metrics)
    return verdict_of(record, rows, mode_rows(record.predictions))


def verdict_of(
    record: RunRecord, rows: Sequence[MethodSummary], modes: Sequence[ModeSummary]
) -> tuple[str, ...]:
    """Return the `verdict` of rows that are already there."""
    by_name = {row.method: row for row in rows}
    none, selected = by_name["none"], by_name["selected"]
    rivals = [row for row in rows if row.role in ("baseline", "variant")]
    margins = _margins(record, rivals)
    sentences = [
        _headline(selected, [r for r in rivals if r.role == "baseline"], margins),
        _change_sentence(
            "On images like your failures (debug_heldout) accuracy", none, selected, True
        ),
        *_no_failures_sentence(none),
        _change_sentence("On test it", none, selected, False),
        *_rival_sentences(selected, rivals, margins),
        *_keeper_sentence(selected, rivals),
        _picks_sentence(record, selected),
        *_mode_sentence(modes),
    ]
    return tuple(sentences)


def _margins(record: RunRecord, rivals: Sequence[MethodSummary]) -> dict[str, Interval]:
    """By how much `selected` is ahead of each rival on debug_heldout."""

    def of(method: str) -> Outcomes:
        return outcomes(record.predictions, method, "debug_heldout")

    selected = of("selected")
    return {row.method: difference(selected, of(row.method)) for row in rivals}


def _gain(row: MethodSummary, on_heldout: bool) -> Interval:
    gain = (row.debug_heldout if on_heldout else row.test).gain
    assert gain is not None, f"{row.method} has no gain over itself"
    return gain


def _headline(
    selected: MethodSummary, baselines: Sequence[MethodSummary], margins: dict[str, Interval]
) -> str:
    text = _HEADLINES[change(_gain(selected, True)), change(_gain(selected, False))]
    better = [row.method for row in baselines if change(margins[row.method]) == "fell"]
    if better:
        text += f"; {_listed(better)} beat it on the failures"
    return f"{text}."


def _change_sentence(
    where: str, none: MethodSummary, selected: MethodSummary, on_heldout: bool
) -> str:
    was = (none.debug_heldout if on_heldout else none.test).accuracy.value
    now = (selected.debug_heldout if on_heldout else selected.test).accuracy.value
    gain = _gain(selected, on_heldout)
    verb = {"rose": "rose", "fell": "fell", "unclear": "went"}[change(gain)]
    seeds = f"over {none.n_seeds} seeds" if none.n_seeds > 1 else "one seed"
    sentence = (
        f"{where} {verb} from {percent(was)} to {percent(now)}: "
        f"{points(gain.value)} points (95 % interval {interval(gain)}, {seeds})"
    )
    if change(gain) == "unclear":
        sentence += "; that tells neither a gain nor a loss"
    return f"{sentence}."


def _no_failures_sentence(none: MethodSummary) -> list[str]:
    if none.debug_heldout.accuracy.value < 1:
        return []
    return [
        "The model without anything added gets all of debug_heldout right: these are no failures "
        "of it. `dcd errors` collects those of a model."
    ]


def _rival_sentences(
    selected: MethodSummary, rivals: Sequence[MethodSummary], margins: dict[str, Interval]
) -> list[str]:
    baselines = [row for row in rivals if row.role == "baseline"]
    if not baselines:
        return ["No baseline ran beside it, so whether simpler data does as well is not known."]
    better = [row for row in baselines if change(margins[row.method]) == "fell"]
    level = [row for row in baselines if change(margins[row.method]) == "unclear"]
    sentences = [
        f"The baseline {row.method} did better on debug_heldout: {_reached(row)}, "
        f"{_size(margins[row.method])} more."
        for row in better
    ]
    sentences += [
        f"The baseline {row.method} cannot be told apart from it on debug_heldout: "
        f"{_reached(row)}; the selection is at {points(margins[row.method].value)} points "
        f"against it (95 % interval {interval(margins[row.method])})."
        for row in level
    ]
    if not better and not level:
        closest = max(baselines, key=lambda row: row.debug_heldout.accuracy.value)
        which = "The baseline" if len(baselines) == 1 else f"All {len(baselines)} baselines"
        nearest = "it" if len(baselines) == 1 else f"the closest, {closest.method},"
        sentences.append(
            f"{which} did worse on debug_heldout; {nearest} reached {_reached(closest)}, "
            f"{_size(margins[closest.method])} less."
        )
    dominating = [
        row.method
        for row in rivals
        if row.debug_heldout.accuracy.value > selected.debug_heldout.accuracy.value
        and row.test.accuracy.value > selected.test.accuracy.value
    ]
    if dominating:
        sentences.append(f"Ahead on both debug_heldout and test: {_listed(dominating)}.")
    return sentences


def _reached(row: MethodSummary) -> str:
    return percent(row.debug_heldout.accuracy.value)


def _size(margin: Interval) -> str:
    """A margin without its sign: '9.2 points (95 % interval 6.6 to 11.9)'."""
    low, high = sorted((abs(margin.low), abs(margin.high)))
    return (
        f"{100 * abs(margin.value):.1f} points (95 % interval {100 * low:.1f} to {100 * high:.1f})"
    )


def _keeper_sentence(selected: MethodSummary, rivals: Sequence[MethodSummary]) -> list[str]:
    """Where the selection costs test accuracy: the best method that does not."""
    if change(_gain(selected, False)) != "fell":
        return []
    keepers = [row for row in rivals if change(_gain(row, False)) != "fell"]
    if not keepers:
        return ["Every other method lost test accuracy too."] if rivals else []
    best = max(keepers, key=lambda row: row.debug_heldout.accuracy.value)
    return [
        f"Of the methods without a clear loss on test, {best.method} did best on debug_heldout: "
        f"{percent(best.debug_heldout.accuracy.value)}, with "
        f"{percent(best.test.accuracy.value)} on test."
    ]


def _picks_sentence(record: RunRecord, selected: MethodSummary) -> str:
    n_failures = record.error_sample.num_rows
    picks = 0 if selected.n_picks is None else selected.n_picks
    sentence = f"For {n_failures:,} failures {picks:,.0f} images were added to train"
    if selected.n_seeds > 1:
        sentence += " (mean over seeds)"
    if selected.label_precision is not None:
        sentence += f"; {percent(selected.label_precision)} of them carry the right label"
    return f"{sentence}."


def _mode_sentence(modes: Sequence[ModeSummary]) -> list[str]:
    if len(modes) < 2:
        return []
    worse = [row for row in modes if row.gain.value < 0]
    if worse:
        count = f"{len(worse)} of {len(modes)} failure modes"
        return [f"Worse than before on {count}; most on {_change_of(worse[0])}."]
    return [
        f"None of the {len(modes)} failure modes got worse; least gained {_change_of(modes[0])}."
    ]


def _change_of(row: ModeSummary) -> str:
    return (
        f"{mode_name(row.mode, row.label)}, "
        f"{percent(row.none.value)} to {percent(row.selected.value)}"
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
