"""Bring what a run found into rows for people: one for every method and every failure mode.

Pure: the tables of a run in, small named types out. The report and the terminal share them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import BASELINES, Split
from dcd.errors import CountMismatch, DataError
from dcd.evaluation.bursts import Groups
from dcd.evaluation.metrics import group_numbers
from dcd.evaluation.stats import Interval, over_seeds, paired_difference

Role = Literal["none", "baseline", "variant", "selected"]


@dataclass(frozen=True)
class Score:
    """Accuracy over all seeds, as a share.

    Attributes:
        accuracy: the mean with its 95 % interval.
        std: sample standard deviation over seeds, None with one seed.
        gain: the paired difference to `none`, None for `none` itself.
    """

    accuracy: Interval
    std: float | None
    gain: Interval | None


@dataclass(frozen=True)
class MethodSummary:
    """One row of the comparison: a way to train, and what became of it.

    Attributes:
        method: its name in all tables.
        role: what it is to the verdict.
        n_seeds: how often it was trained.
        debug_heldout: on unseen images like the failures.
        test: on all else.
        n_picks: images that were added to train, a mean over seeds; None where nothing is known.
        label_precision: share of them whose label is right; None where no truth is known.
    """

    method: str
    role: Role
    n_seeds: int
    debug_heldout: Score
    test: Score
    n_picks: float | None
    label_precision: float | None


@dataclass(frozen=True)
class ModeSummary:
    """One failure mode of debug_heldout, `none` against `selected`.

    mode: None where the data names none. label: None where the mode spans several labels.
    gain: paired difference over the seeds that have this mode.
    """

    mode: str | None
    label: str | None
    seeds: tuple[int, ...]
    n_images: int
    none: Interval
    selected: Interval
    gain: Interval


@dataclass(frozen=True)
class Outcomes:
    """Which images a method got right on a split: per seed, in image_id order.

    image_ids, modes, labels: one string array (N,) a seed. correct: one bool array (N,) a seed.
    groups: which images of a seed belong together.
    """

    seeds: tuple[int, ...]
    image_ids: tuple[np.ndarray, ...]
    modes: tuple[np.ndarray, ...]
    labels: tuple[np.ndarray, ...]
    correct: tuple[np.ndarray, ...]
    groups: tuple[Groups, ...]


def summary_rows(predictions: pa.Table, metrics: pa.Table) -> tuple[MethodSummary, ...]:
    """Make one row a method: `none`, the baselines, further selections, then `selected`.

    predictions: schemas.PREDICTIONS, metrics: schemas.METRICS, of all methods and seeds. Raises
    DataError without predictions of `none` and `selected`, CountMismatch where methods
    were not evaluated on the same images.
    """
    splits: tuple[Split, Split] = ("debug_heldout", "test")
    reference: dict[Split, Outcomes] = {
        split: outcomes(predictions, "none", split) for split in splits
    }
    return tuple(
        summary_of(
            method,
            {split: outcomes(predictions, method, split) for split in splits},
            None if method == "none" else reference,
            metrics,
        )
        for method in _methods(predictions)
    )


def summary_of(
    method: str,
    found: Mapping[Split, Outcomes],
    reference: Mapping[Split, Outcomes] | None,
    metrics: pa.Table,
) -> MethodSummary:
    """Make the row of one method; gains are against the reference, None being the method itself.

    found, reference: on debug_heldout and test. Raises CountMismatch where the two were not
    evaluated on the same images.
    """
    scores = {
        split: score_of(own, None if reference is None else difference(own, reference[split]))
        for split, own in found.items()
    }
    n_picks, precision = picks_of(metrics, method)
    return MethodSummary(
        method=method,
        role=role_of(method),
        n_seeds=len(found["test"].seeds),
        debug_heldout=scores["debug_heldout"],
        test=scores["test"],
        n_picks=n_picks,
        label_precision=precision,
    )


def mode_rows(predictions: pa.Table) -> tuple[ModeSummary, ...]:
    """Make one row a failure mode, least gain first.

    Seeds may name different sub-populations alike: a mode of one label is told apart by it.
    """
    before = outcomes(predictions, "none", "debug_heldout")
    after = outcomes(predictions, "selected", "debug_heldout")
    _check_paired(after, before)
    members: dict[tuple[str | None, str | None], dict[int, np.ndarray]] = {}
    for seed, of_mode, label in zip(before.seeds, before.modes, before.labels, strict=True):
        for key, mask in _mode_masks(of_mode, label):
            members.setdefault(key, {})[seed] = mask
    rows = []
    for (mode, label), masks in members.items():
        picked = [(before.seeds.index(seed), mask) for seed, mask in masks.items()]
        was = [before.correct[i][mask] for i, mask in picked]
        now = [after.correct[i][mask] for i, mask in picked]
        groups = [_of(before.groups[i], mask) for i, mask in picked]
        rows.append(
            ModeSummary(
                mode=mode,
                label=label,
                seeds=tuple(masks),
                n_images=sum(int(mask.sum()) for mask in masks.values()),
                none=over_seeds(was, groups=groups),
                selected=over_seeds(now, groups=groups),
                gain=paired_difference(now, was, groups=groups),
            )
        )
    return tuple(sorted(rows, key=lambda r: (r.gain.value, r.mode or "", r.label or "")))


def outcomes(predictions: pa.Table, method: str, split: Split) -> Outcomes:
    """Return the outcomes of one method on one split. Raises DataError if there are none."""
    rows = predictions.filter(
        pc.and_(pc.equal(predictions["model"], method), pc.equal(predictions["split"], split))
    ).sort_by([("seed", "ascending"), ("image_id", "ascending")])
    if rows.num_rows == 0:
        raise DataError(f"predictions: no row of {method} on {split}; evaluate it before reporting")
    seed, groups = rows["seed"].to_numpy(), group_numbers(rows)
    seeds, starts = np.unique(seed, return_index=True)

    def per_seed(values: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(np.split(values, starts[1:]))

    return Outcomes(
        seeds=tuple(int(s) for s in seeds),
        image_ids=per_seed(_strings(rows["image_id"])),
        modes=per_seed(_strings(rows["mode"])),
        labels=per_seed(_strings(rows["label"])),
        correct=per_seed(pc.equal(rows["label"], rows["predicted"]).to_numpy(zero_copy_only=False)),
        groups=(None,) * len(seeds) if groups is None else per_seed(groups),
    )


def difference(one: Outcomes, other: Outcomes) -> Interval:
    """Return the accuracy of `one` less that of `other`, paired by seed and image."""
    _check_paired(one, other)
    return paired_difference(one.correct, other.correct, groups=one.groups)


def _check_paired(one: Outcomes, other: Outcomes) -> None:
    same = one.seeds == other.seeds and all(
        np.array_equal(a, b) for a, b in zip(one.image_ids, other.image_ids, strict=True)
    )
    if not same:
        raise CountMismatch(
            "predictions: two methods were evaluated on different images "
            f"(seeds {list(one.seeds)} and {list(other.seeds)}, "
            f"{sum(map(len, one.image_ids))} and {sum(map(len, other.image_ids))} images); "
            "evaluate all methods of a run on the same splits"
        )


def _methods(predictions: pa.Table) -> list[str]:
    found = pc.unique(predictions["model"]).to_pylist()
    missing = {"none", "selected"} - set(found)
    if missing:
        raise DataError(f"predictions: no row of {sorted(missing)}; every run evaluates both")
    variants = [method for method in found if role_of(method) == "variant"]
    return [*(b for b in BASELINES if b in found), *variants, "selected"]


def role_of(method: str) -> Role:
    """Tell what a method is in a comparison, by its name."""
    if method == "none" or method == "selected":
        return method
    return "baseline" if method in BASELINES else "variant"


def score_of(found: Outcomes, gain: Interval | None) -> Score:
    """Return the accuracy over seeds with interval and spread, beside its gain."""
    means = [float(correct.mean()) for correct in found.correct]
    std = float(np.std(means, ddof=1)) if len(means) > 1 else None
    return Score(over_seeds(found.correct, groups=found.groups), std, gain)


def picks_of(metrics: pa.Table, method: str) -> tuple[float | None, float | None]:
    """Return images added and label precision of a method, means over seeds; None if not known."""
    rows = metrics.filter(
        pc.and_(pc.equal(metrics["model"], method), pc.equal(metrics["split"], "test"))
    )
    return pc.mean(rows["n_picks"]).as_py(), pc.mean(rows["label_precision"]).as_py()


def _mode_masks(
    modes: np.ndarray, labels: np.ndarray
) -> Iterator[tuple[tuple[str | None, str | None], np.ndarray]]:
    """The images of each mode; where no mode is named, those of each label."""
    for mode in sorted(set(modes.tolist()), key=lambda m: (m is None, m)):
        of_mode = modes == mode
        found = sorted(set(labels[of_mode].tolist()))
        if mode is None:
            yield from (((None, label), of_mode & (labels == label)) for label in found)
        else:
            yield (mode, found[0] if len(found) == 1 else None), of_mode


def _of(groups: Groups, mask: np.ndarray) -> Groups:
    return None if groups is None else groups[mask]


def _strings(column: pa.ChunkedArray) -> np.ndarray:
    return np.array(column.to_pylist(), dtype=object)
