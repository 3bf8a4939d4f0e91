"""Explain an answer of a finished run's model by the images that its heads were fitted to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.cells.cell import CellPlan
from dcd.cells.fits import CellFits, fits_of_cell
from dcd.errors import LabelError
from dcd.evaluation.choice import mixture_name
from dcd.influence.effects import RemovalEffects, answer_of, removal_effects
from dcd.influence.failure import Failure, find_failure
from dcd.influence.refits import Check, check, spread_rows
from dcd.progress import live
from dcd.runs.origins import Saved, plan_of_run
from dcd.sources.source import Source, fetch_shown
from dcd.store import Store

# What a table of effects says of an image. margin, loss: their changes without it.
EFFECTS = pa.schema(
    [
        ("image_id", pa.string()),
        ("label", pa.string()),
        ("source", pa.string()),  # train, pool or error_sample
        ("shard", pa.string()),
        ("margin", pa.float64()),
        ("loss", pa.float64()),
    ]
)


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a run's model answers as it does. images: EFFECTS, the largest margin first.

    Only images with a part in the model are listed: at the top those without which the answer
    would move towards the label, at the end those that hold it there. model: its heads in words.
    checked: against fits without some images, where that was asked for.
    """

    run_id: str
    method: Saved
    model: str
    classes: tuple[str, ...]
    failure: Failure
    effects: RemovalEffects
    images: pa.Table
    checked: Check | None
    sources: Mapping[str, tuple[Source, ...]]

    @property
    def predicted(self) -> str:
        return self.classes[self.effects.answer.predicted]

    @property
    def rival(self) -> str:
        return self.classes[self.effects.answer.rival]

    def against(self, n: int) -> list[dict[str, Any]]:
        """The n images whose removal would move the answer most towards the label, as rows."""
        return [r for r in self.images.slice(0, n).to_pylist() if r["margin"] > 0]

    def in_favour(self, n: int) -> list[dict[str, Any]]:
        """The n images whose removal would move it most away from the label, as rows."""
        last = self.images.slice(max(0, self.images.num_rows - n)).to_pylist()[::-1]
        return [r for r in last if r["margin"] < 0]


def explain_failure(
    store: Store,
    run_id: str,
    wanted: str,
    label: str | None = None,
    method: Saved = "selected",
    n_checked: int = 0,
) -> Explanation:
    """Tell which train and pool images a run's model owes its answer about an image to.

    wanted: an image id, a picture file, or a registered failure. n_checked: so many images are left
    out and the heads fitted again, to compare. Raises DataError where run, image or what the run
    was made of is not there, or the run trained whole networks; LabelError for an unknown label.
    """
    plan = plan_of_run(store, run_id, method)
    failure = find_failure(store, plan, wanted, label)
    with live.stage("fit the heads again"):
        found = fits_of_cell(store, plan)
    if failure.label not in found.head.classes:
        raise LabelError(
            f"{wanted}: label {failure.label!r:.80} is none of train's, such as "
            f"{list(found.head.classes[:5])}"
        )
    place = found.head.classes.index(failure.label)
    answer = answer_of(found.head, failure.features, place)
    with live.stage("reckon effects"):
        effects = removal_effects(found.fits, found.images.num_rows, answer, failure.features)
    used = np.unique(np.concatenate([fit.rows for fit in found.fits]))
    checked = None
    if n_checked:
        rows = spread_rows(effects, used, n_checked)
        checked = check(found.fits, effects, failure.features, rows)
    return Explanation(
        run_id=run_id,
        method=method,
        model=mixture_name({fit.name: fit.share for fit in found.fits}),
        classes=found.head.classes,
        failure=failure,
        effects=effects,
        images=_table(found, effects, used),
        checked=checked,
        sources=_sources(plan),
    )


def as_json(found: Explanation, n: int) -> dict[str, Any]:
    """Write an explanation down, with the n strongest images on both sides."""
    answer = found.effects.answer
    return {
        "run_id": found.run_id,
        "method": found.method,
        "model": found.model,
        "image_id": found.failure.image_id,
        "split": found.failure.split,
        "label": found.failure.label,
        "predicted": found.predicted,
        "rival": found.rival,
        "margin": answer.margin,
        "loss": answer.loss,
        "n_images": found.images.num_rows,
        "n_to_flip": found.effects.n_to_flip,
        "damping": found.effects.damping,
        "against": found.against(n),
        "in_favour": found.in_favour(n),
        "rank_correlation": None if found.checked is None else found.checked.rank_correlation,
    }


def pictures_of(
    store: Store, found: Explanation, rows: list[dict[str, Any]]
) -> dict[tuple[str, str], bytes]:
    """Fetch the pictures of some rows, by source and id; what is gone is left out."""
    pictures = {}
    for source, places in found.sources.items():
        here = [row for row in rows if row["source"] == source]
        table = pa.table({n: [row[n] for row in here] for n in ("image_id", "shard")})
        if here:
            fetched = fetch_shown(store, places, table)
            pictures |= {(source, image_id): data for image_id, data in fetched.items()}
    return pictures


def _table(found: CellFits, effects: RemovalEffects, used: np.ndarray) -> pa.Table:
    table = found.images.append_column("margin", pa.array(effects.margin))
    table = table.append_column("loss", pa.array(effects.loss)).take(pa.array(used)).cast(EFFECTS)
    order = [("margin", "descending"), ("image_id", "ascending"), ("label", "ascending")]
    return table.take(pc.sort_indices(table, sort_keys=order))


def _sources(plan: CellPlan) -> dict[str, tuple[Source, ...]]:
    return {
        "train": plan.splits["train"].sources,
        "pool": (plan.pool,),
        "error_sample": plan.splits["error_sample"].sources,
    }
