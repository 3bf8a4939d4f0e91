"""Tell what a pool lacks: failures whose usable neighbours are all far away. Pure.

How far is far is asked of train: the distances from its images to their own nearest pool image of
their label. A failure whose nearest usable neighbour lies beyond FAR_QUANTILE of them is met by the
pool worse than nearly every image of train.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

FAR_QUANTILE = 0.95


def kind_name(label: str, mode: str) -> str:
    """Name a mode: 'deer, mode 2'; or as it is, where it names the label: 'deer at night'."""
    says_the_label = re.search(rf"(?<!\w){re.escape(label)}(?!\w)", mode)
    return mode if says_the_label else f"{label}, mode {mode}"


@dataclass(frozen=True)
class PoolGap:
    """Failures of one label and mode that the pool does not meet.

    failures: their ids, the farthest first. n_with_label: all failures of that label. nearest_l2:
    median over them of the distance to the nearest usable pool image; None where there is none.
    n_wanted: about how many images like these to collect.
    """

    label: str
    mode: str | None
    failures: tuple[str, ...]
    n_with_label: int
    nearest_l2: float | None
    n_wanted: int

    @property
    def sentence(self) -> str:
        kind = self.label if self.mode is None else kind_name(self.label, self.mode)
        if self.nearest_l2 is None:
            how = "no pool image can be taken for them"
        else:
            how = f"the nearest pool image is {self.nearest_l2:.2f} away (median)"
        n = len(self.failures)
        return (
            f"{kind}: {n:,} of the label's {self.n_with_label:,} failures; {how}. Collect about "
            f"{self.n_wanted:,} images like {'it' if n == 1 else 'them'}."
        )


@dataclass(frozen=True)
class PoolGaps:
    """What a pool lacks. far_l2: the distance beyond which a neighbour is far.

    It is the FAR_QUANTILE of n_calibrating images of train. gaps: the one to collect most for
    first. n_failures: all that were searched for.
    """

    far_l2: float
    n_calibrating: int
    n_failures: int
    gaps: tuple[PoolGap, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        """What is lacking, the most first; one sentence where nothing is."""
        n = sum(len(gap.failures) for gap in self.gaps)
        bound = (
            f"{100 * FAR_QUANTILE:g} % of {self.n_calibrating:,} images of train have a pool image "
            f"of their label within {self.far_l2:.2f}"
        )
        if n == 0:
            return (f"The pool meets all {self.n_failures:,} failures: {bound}, and so do they.",)
        return (
            f"For {n:,} of {self.n_failures:,} failures all usable pool images are far: {bound}, "
            "they do not.",
            *(gap.sentence for gap in self.gaps),
        )


def find_gaps(
    failures: pa.Table, nearest_l2: Mapping[str, float], far_l2: float, wanted_each: float
) -> tuple[PoolGap, ...]:
    """Group the failures whose usable neighbours are all far, by label and mode. Pure.

    failures: image_id, label, mode. nearest_l2: by failure, the distance to the nearest pool image
    that could be taken; without an entry there is none. wanted_each: images for such a failure.
    """
    rows = failures.to_pylist()
    groups: dict[tuple[str, str | None], list[str]] = {}
    for row in rows:
        if nearest_l2.get(row["image_id"], math.inf) > far_l2:
            groups.setdefault((row["label"], row["mode"]), []).append(row["image_id"])
    gaps = []
    for (label, mode), ids in groups.items():
        found = [nearest_l2[i] for i in ids if i in nearest_l2]
        gaps.append(
            PoolGap(
                label=label,
                mode=mode,
                failures=tuple(sorted(ids, key=lambda i: (-nearest_l2.get(i, math.inf), i))),
                n_with_label=sum(row["label"] == label for row in rows),
                nearest_l2=float(np.median(found)) if found else None,
                n_wanted=math.ceil(wanted_each * len(ids)),
            )
        )
    return tuple(sorted(gaps, key=lambda gap: (-gap.n_wanted, gap.label, gap.mode or "")))
