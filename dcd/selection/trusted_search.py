"""Search within the label for picks whose label can be trusted, and draw a trusted sample.

A filter after the search would leave a failure with fewer than k picks. Here every refused image is
replaced by the next nearest one of the label, down to a stated depth; what is missing even then is
counted (`fill_rate`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.index.info import IndexInfo
from dcd.index.read import vectors_of
from dcd.index.search import first_kept, in_label_neighbors
from dcd.label_noise.trust import Trust
from dcd.selection.filters import refuse
from dcd.store import Store
from dcd.tables import schemas
from dcd.tables.rows import with_column

UNTRUSTED = "label not trusted"
TOO_DEEP = "too far down"
_AHEAD = 2  # so many times k images are looked at first, and so many times more where not enough


@dataclass(frozen=True)
class Refusals:
    """Why each of N rows is refused; None: it is not.

    agreement: (N,) float32 in 0…1, the label agreement of the rows, None where nothing asked for
    it.
    """

    reasons: list[str | None]
    agreement: np.ndarray | None = None

    def then(self, other: "Refusals") -> "Refusals":
        """Add the refusals of another rule for the same rows; a reason that is there stays."""
        reasons = [mine or more for mine, more in zip(self.reasons, other.reasons, strict=True)]
        return Refusals(reasons, self.agreement if other.agreement is None else other.agreement)

    def without(self, spared: np.ndarray) -> "Refusals":
        """Refuse none of the spared rows, (N,) bool; what is known of their labels stays."""
        reasons = [None if spare else why for why, spare in zip(self.reasons, spared, strict=True)]
        return Refusals(reasons, self.agreement)


# Judges rows: image_id, label or weak_label, content_hash, embedding.
Rule = Callable[[pa.Table], Refusals]


def refuse_untrusted(trust: Trust, min_agreement: float, min_trust: float) -> Refusals:
    """Refuse rows whose label too few neighbours share, or is too likely to be wrong."""
    good = (trust.agreement >= min_agreement) & (trust.probability >= min_trust)
    return Refusals([None if ok else UNTRUSTED for ok in good], trust.agreement)


def trusted_neighbors(
    store: Store,
    index: IndexInfo,
    failures: pa.Table,
    blocked: pa.Table,
    k: int,
    rule: Rule,
    max_depth: int,
    failing_labels: pa.Array | None = None,
) -> pa.Table:
    """Find the k nearest pool images of every failure within its label that are not refused.

    As `in_label_neighbors` (schemas.NEIGHBORS), and with the label agreement of every image looked
    at. Refused images stand between the kept ones, with their reason; those beyond rank
    max_depth · k are not kept. An image of several labels is judged under those of
    failing_labels (default: of the failures) and refused in all of them.
    """
    judged_under = pc.unique(failures["label"]) if failing_labels is None else failing_labels
    depth = max_depth * k
    seen: dict[str, _Judgement] = {}
    parts = [schemas.NEIGHBORS.empty_table()]
    asking, width = failures, k
    while asking.num_rows:
        width = min(_AHEAD * width, depth + k)
        found = in_label_neighbors(store, index, asking, blocked, width)
        near = pc.and_(found["kept"], pc.less_equal(found["rank"], depth))
        known = pc.is_in(found["image_id"], pa.array(list(seen), pa.string()))
        fresh = found.filter(pc.and_(near, pc.invert(known)))
        if fresh.num_rows:
            rows = vectors_of(store, index, fresh["image_id"], judged_under)
            _remember(seen, rows["image_id"].to_pylist(), rule(rows))
        judged = _judged(found, seen, depth)
        n_kept = _per_failure(judged, asking["image_id"])
        n_found = _per_failure(found, asking["image_id"])
        enough = pa.array((n_kept >= k) | (n_found < width) | (width == depth + k))
        done = pc.is_in(judged["error_image_id"], asking["image_id"].filter(enough))
        parts.append(first_kept(judged.filter(done), k))
        asking = asking.filter(pc.invert(enough))
    every = pa.concat_tables(parts)
    every = every.sort_by([("error_image_id", "ascending"), ("rank", "ascending")])
    every = refuse(every, every["rank"].to_numpy() > depth, TOO_DEEP)
    return schemas.conform(every, schemas.NEIGHBORS, "neighbors")


def general_sample(
    sample: pa.Table, blocked: pa.Table, classes: list[str], n: int, rule: Rule
) -> pa.Table:
    """Draw n images of a uniform pool sample and give those that are not refused, by image_id.

    sample: image_id, weak_label, shard, content_hash and what `rule` needs. Blocked images and
    labels outside `classes` are left out before the draw. Returns image_id, label, shard,
    content_hash, label_agreement.
    """
    free = pc.and_(
        pc.invert(pc.is_in(sample["content_hash"], value_set=blocked["content_hash"])),
        pc.is_in(sample["weak_label"], value_set=pa.array(classes, pa.string())),
    )
    rows = sample.filter(free)
    drawn = np.random.default_rng(0).permutation(rows.num_rows)[:n]
    rows = rows.take(pa.array(np.sort(drawn)))
    refusals = rule(rows)
    rows = rows.rename_columns({"weak_label": "label"})
    rows = rows.select(["image_id", "label", "shard", "content_hash"])
    agreement = refusals.agreement
    known = pa.nulls(rows.num_rows, pa.float32()) if agreement is None else pa.array(agreement)
    rows = rows.append_column("label_agreement", known)
    return rows.filter(
        pa.array([reason is None for reason in refusals.reasons], pa.bool_())
    ).sort_by("image_id")


def fill_rate(neighbors: pa.Table, n_failures: int, k: int) -> float:
    """Return kept neighbours over the k · n_failures that were asked for, in 0…1."""
    wanted = k * n_failures
    return pc.sum(neighbors["kept"]).as_py() / wanted if wanted and neighbors.num_rows else 0.0


@dataclass(frozen=True)
class _Judgement:
    """What the rules say of a pool image that was looked at."""

    reason: str | None
    agreement: float | None


def _remember(seen: dict[str, _Judgement], image_ids: list[str], refusals: Refusals) -> None:
    """Add what was said of some images; of one with several rows any reason to refuse it counts."""
    n, agreement = len(image_ids), refusals.agreement
    shares = [None] * n if agreement is None else agreement.tolist()
    for image_id, reason, share in zip(image_ids, refusals.reasons, shares, strict=True):
        before = seen.get(image_id)
        if reason is None and before is not None:
            reason = before.reason
        seen[image_id] = _Judgement(reason, share)


def _judged(neighbors: pa.Table, seen: dict[str, _Judgement], depth: int) -> pa.Table:
    """Fill in label_agreement, and keep nothing that was refused.

    Beyond `depth` nothing is said, though other failures may have brought such an image to light:
    what is found for a failure must not hang on which others are asked with it.
    """
    nothing = _Judgement(None, None)
    ids, ranks = neighbors["image_id"].to_pylist(), neighbors["rank"].to_pylist()
    known = [
        seen.get(i, nothing) if rank <= depth else nothing
        for i, rank in zip(ids, ranks, strict=True)
    ]
    reason = pa.array([one.reason for one in known], pa.string())
    agreement = pa.array([one.agreement for one in known], pa.float32())
    table = with_column(neighbors, "label_agreement", agreement)
    table = with_column(table, "kept", pc.and_(table["kept"], reason.is_null()))
    return with_column(table, "reason", pc.coalesce(table["reason"], reason))


def _per_failure(neighbors: pa.Table, failures: pa.ChunkedArray) -> np.ndarray:
    """How many neighbours each failure keeps: (Q,) int64."""
    kept = neighbors.filter(neighbors["kept"])["error_image_id"]
    at = pc.index_in(kept, failures.combine_chunks()).to_numpy()
    return np.bincount(at, minlength=len(failures))
