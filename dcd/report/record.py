"""Hold what a report is made from: the record of a run, its stages and what changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import MapMethod, RunConfig, Split
from dcd.evaluation.pool_gaps import PoolGaps
from dcd.evaluation.round_figures import RoundFigures
from dcd.evaluation.stats import Interval
from dcd.gate.record import GateOutcome


@dataclass(frozen=True)
class StageCount:
    """What one stage did: `n` counts `unit`, e.g. 50,000 images; seconds None if not timed.

    n_reused: what was there already, beside n. n_bytes: of images that were read, where known.
    """

    stage: str
    n: int
    unit: str
    seconds: float | None = None
    n_reused: int = 0
    n_bytes: int | None = None


@dataclass(frozen=True)
class Lineage:
    """What the figures were made from.

    pool_labels: what is known of how many are right, as estimated without the true ones, in words;
    None where no training asked.
    """

    pool: str
    pool_version: str
    n_pool_images: int
    n_shards: int
    encoder_id: str
    index_id: str
    code_version: str
    pool_labels: str | None = None


@dataclass(frozen=True)
class Change:
    """Accuracy of the selection on one split, in the champion's run and in this one.

    gain: paired by image; None where the two runs were not evaluated on the same images.
    """

    split: Split
    then: Interval
    now: Interval
    gain: Interval | None


@dataclass(frozen=True)
class Since:
    """This run beside that of the champion. Failures and picks are those of the first seed.

    n_right: how many of the new failures each model gets right; the selection may have been
    trained on them.
    """

    run_id: str
    promoted: datetime
    changes: tuple[Change, ...]
    n_failures: int
    n_new_failures: int
    n_right_before: int
    n_right_now: int
    n_picks: int
    n_new_picks: int
    n_left_picks: int


@dataclass(frozen=True)
class ReviewEffect:
    """What people decided about images of the pool, and what it changed in the picks.

    n_confirmed, n_relabelled, n_rejected: reviewed images. Of the picks n_verified_picks have a
    true label, n_used_as_failures of which are like failures and count as such; n_new_picks were
    not picked without the reviews, n_gone_picks were.
    """

    n_confirmed: int
    n_relabelled: int
    n_rejected: int
    n_verified_picks: int
    n_used_as_failures: int
    n_new_picks: int
    n_gone_picks: int

    @property
    def sentences(self) -> tuple[str, str]:
        return (
            f"People confirmed the label of {self.n_confirmed:,} images of the pool, gave another "
            f"one to {self.n_relabelled:,} and rejected that of {self.n_rejected:,}.",
            f"So {self.n_verified_picks:,} images were added with a label that is known to be "
            f"true, {self.n_used_as_failures:,} of them as further failures, which they are like; "
            f"{self.n_gone_picks:,} picks of the selection without reviews are gone, "
            f"{self.n_new_picks:,} are new. The row unreviewed shows the model without reviews.",
        )


@dataclass(frozen=True)
class GuessedPick:
    """An image that came without a label, the one that it is used under, and how probable that is.

    posterior: in 0…1.
    """

    image_id: str
    label: str
    posterior: float


@dataclass(frozen=True)
class PseudoLabelUse:
    """What became of the pool's images without a label. picks: of them, those picked for failures.

    n_images: all without a label; n_unsure and n_known of them were left out. n_picks: all picks
    of the first seed that came without one.
    """

    min_posterior: float
    n_images: int
    n_labelled: int
    n_unsure: int
    n_known: int
    n_picks: int
    picks: tuple[GuessedPick, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        left = f"{self.n_unsure:,} were left out, as no class was as probable"
        known = f", {self.n_known:,} because the same picture has a label" if self.n_known else ""
        return (
            f"Of {self.n_images:,} pool images without a label {self.n_labelled:,} are used under "
            f"the class that they are with a probability of at least {self.min_posterior:g}, by "
            f"train and their neighbours; {left}{known}.",
            f"{self.n_picks:,} images that were added came without a label, "
            f"{len(self.picks):,} of them picked for failures.",
        )


@dataclass(frozen=True)
class RoundsRecord:
    """The rounds of a goal. figures: of `none`, then round by round.

    goal: in words. chosen: the number of the round whose model `selected` is. stopped: why no
    further round was begun, in a word. sentences: that and the choice, for people.
    """

    goal: str
    figures: tuple[RoundFigures, ...]
    chosen: int
    stopped: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class DrawnMap:
    """A map of embeddings. points: schemas.MAP, in the order in which they are drawn.

    asked: how they were to be laid out; method: how they are. explained: the share of the variance
    that pca's two directions hold. n_pool, n_train: how many images the drawn ones stand for.
    """

    points: pa.Table
    asked: MapMethod
    method: MapMethod
    explained: float | None
    n_pool: int
    n_train: int

    def count(self, role: str) -> int:
        return pc.sum(pc.equal(self.points["role"], role)).as_py() or 0

    @property
    def sentences(self) -> tuple[str, ...]:
        """What is drawn, what is left out, and how the places came about."""
        pool, train = self.count("pool"), self.count("train")
        drawn = (
            f"{self.count('failure'):,} failures and the {self.count('pick'):,} images picked for "
            f"them, all of them; with {pool:,} of {self.n_pool:,} other images of the pool's "
            f"sample and {train:,} of {self.n_train:,} of train, drawn from every label."
        )
        if self.method == "tsne":
            how = "By t-SNE of the first 50 principal components: near is alike, far says little."
        else:
            how = (
                f"By the first two principal components alone, which hold {self.explained or 0:.0%}"
                " of the variance: what lies apart differs, what lies together need not be alike."
            )
        if self.asked != self.method:
            how += " t-SNE was asked for and its library is not there: the extra map brings it."
        return drawn, how


@dataclass(frozen=True, eq=False)
class RunRecord:
    """A finished run: all that its report needs, except the image bytes.

    metrics, predictions: all methods and seeds (schemas.METRICS, schemas.PREDICTIONS).
    error_sample, neighbors: of the first seed's `selected` (schemas.ERROR_SAMPLE, NEIGHBORS).
    rejects: `shard` beside schemas.REJECTS. created: UTC. gate: None before it was asked.
    curve: `seed` beside schemas.CURVE, of `selected`; None where no model was chosen between two.
    chosen: which model `selected` is and why, a sentence for each seed where that was chosen.
    mended: the objects of the store that were found damaged or missing and were made again.
    shared: which splits have pictures in common, a sentence each.
    review: what people decided, and what it changed; None where nobody did. rounds: None where the
    config has no goal. gaps: what the pool lacks for the first seed's failures; None where train
    cannot tell what is far. map: None where none is drawn. pseudo: None where all labels are given
    ones; posteriors: of the first seed's neighbours that came without a label, by image_id.
    """

    run_id: str
    created: datetime
    config: RunConfig
    metrics: pa.Table
    predictions: pa.Table
    error_sample: pa.Table
    neighbors: pa.Table
    rejects: pa.Table
    lineage: Lineage
    stages: tuple[StageCount, ...] = ()
    gate: GateOutcome | None = None
    curve: pa.Table | None = None
    chosen: tuple[str, ...] = ()
    since: Since | None = None
    mended: tuple[str, ...] = ()
    review: ReviewEffect | None = None
    rounds: RoundsRecord | None = None
    gaps: PoolGaps | None = None
    map: DrawnMap | None = None
    pseudo: PseudoLabelUse | None = None
    posteriors: Mapping[str, float] = field(default_factory=dict)
    shared: tuple[str, ...] = ()
