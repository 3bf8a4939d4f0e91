"""The methods of a comparison: what each adds to `train`. Pure: tables in, table out.

Three baselines pick what the failing model finds hard, without an error sample. They come from
active learning and hard-example mining, where labels are trusted: low_confidence (least confidence:
Lewis & Gale 1994), uncertainty (margin: Scheffer et al. 2001; entropy), high_loss (Shrivastava et
al. 2016, "Training region-based object detectors with online hard example mining", CVPR).
"""

import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.cells.pool_views import PoolViews
from dcd.config import (
    BASELINES,
    Baseline,
    CompareConfig,
    ModelDriven,
    ModelFree,
    Objective,
    RunConfig,
    SelectionConfig,
)
from dcd.selection.picks import random_draw, random_in_label, targeted_picks
from dcd.tables import schemas

UNREVIEWED = "unreviewed"
Draw = Literal["none", "selection", ModelFree, ModelDriven]


@dataclass(frozen=True)
class Method:
    """One way to enlarge the training set, by the name it carries in tables.

    objective: what the model is chosen for among others (`dcd.cells.recipe`); fixed: it is not.
    """

    name: str
    draw: Draw
    selection: SelectionConfig | None = None
    with_error_sample: bool = False
    objective: Objective = "fixed"

    @property
    def reviewed(self) -> bool:
        """Whether what people decided counts in its selection."""
        return self.name != UNREVIEWED


def methods(config: RunConfig, *, has_reviews: bool = False) -> list[Method]:
    """Return all methods of a run in table order: baselines, `selected`, further selections.

    `none` is always there: it is the model that fails, and every verdict is against it. With
    reviews `unreviewed` is there too: `selected` as it would be without them; not with a goal, as
    that would cost all of its rounds once more.
    """
    unreviewed = has_reviews and config.goal is None
    names: list[Baseline] = [b for b in BASELINES if b == "none" or b in config.compare.baselines]
    return [
        *map(_baseline, names),
        _selecting("selected", config.selection),
        *(_selecting(name, one) for name, one in config.compare.selections.items()),
        *([_selecting(UNREVIEWED, config.selection)] if unreviewed else []),
    ]


def _baseline(name: Baseline) -> Method:
    if name == "error_sample":
        return Method(name, "none", with_error_sample=True)
    return Method(name, name)


def _selecting(name: str, config: SelectionConfig) -> Method:
    return Method(name, "selection", config, config.error_sample_weight > 0, config.objective)


def pool_picks(
    method: Method,
    reference: pa.Table,
    compare: CompareConfig,
    seed: int,
    views: PoolViews,
) -> pa.Table:
    """Return the pool images that a method adds: schemas.PICKS.

    reference: schemas.DEBUG_TRAIN of `compare.draw_like`; the random baselines draw as many images
    as it picked for the failures (in each label), and so do the model-driven ones.
    """
    # A stream of its own for every kind of draw: their luck is not to hang together.
    rng = np.random.default_rng([seed, zlib.crc32(method.draw.encode())])
    targeted = targeted_picks(reference)
    match method.draw:
        case "none":
            return schemas.PICKS.empty_table()
        case "selection":
            drawn = reference
        case "random":
            drawn = random_draw(views.rows, targeted.num_rows, rng)
        case "random_in_label":
            counts = targeted.group_by("label").aggregate([([], "count_all")]).to_pylist()
            drawn = random_in_label(views.rows, {c["label"]: c["count_all"] for c in counts}, rng)
        case "whole_pool":
            rows = views.rows
            n = compare.whole_pool_max_images or rows.num_rows
            drawn = random_draw(rows, min(n, rows.num_rows), rng)
        case "filtered_pool":
            rows = views.agreement
            drawn = rows.filter(
                pc.greater_equal(rows["label_agreement"], compare.filtered_pool_min_agreement)
            )
        case "low_confidence":
            drawn = views.hardest("confidence", targeted.num_rows)
        case "high_loss":
            drawn = views.hardest("loss", targeted.num_rows)
        case "uncertainty":
            drawn = views.hardest(compare.uncertainty, targeted.num_rows)
    return _picks(drawn, "pool")


def with_error_sample(picks: pa.Table, error_sample: pa.Table, weight: float = 1.0) -> pa.Table:
    """Put every error-sample image beside the picks, with this weight in the loss."""
    n = error_sample.num_rows
    weights = pa.repeat(pa.scalar(weight, pa.float32()), n)
    weighted = error_sample.select(["image_id", "label", "shard"]).append_column("weight", weights)
    return pa.concat_tables([picks, _picks(weighted, "error_sample")])


def _picks(rows: pa.Table, source: str) -> pa.Table:
    n = rows.num_rows
    table = rows.append_column("source", pa.repeat(source, n))
    if "weight" not in rows.column_names:
        table = table.append_column("weight", pa.array(np.ones(n, np.float32)))
    return schemas.conform(table, schemas.PICKS, "picks")
