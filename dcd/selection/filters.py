"""Choose among the nearest images of a failure in further ways; all off unless asked for.

Pure functions over schemas.NEIGHBORS and vectors. Each marks rows as not kept and says why, so
that nothing vanishes from the tables; what each changes is measured in docs/experiments.md.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.tables.rows import with_column
from dcd.threads import one_blas_thread

DUPLICATE = "near-copy of another pick"
QUOTA = "beyond its mode's quota"
FAR = "beyond the distance cut-off"
UNDIVERSE = "adds no diversity"
LEFT = "left for a later round"
TAKEN = "taken in round"
UNLIKE = "nearer to an image marked as not like this"


def usable(neighbors: pa.Table) -> pa.ChunkedArray:
    """Tell which neighbours were taken, or were only not needed: nothing speaks against them."""
    not_needed = pc.is_in(neighbors["reason"], pa.array([DUPLICATE, QUOTA, UNDIVERSE, LEFT]))
    taken = pc.fill_null(pc.starts_with(neighbors["reason"], TAKEN), False)
    return pc.or_(neighbors["kept"], pc.or_(not_needed, taken))


def refuse(neighbors: pa.Table, refused: np.ndarray, reason: str) -> pa.Table:
    """Mark the kept rows among `refused` (N,) bool as not kept, for a reason."""
    hit = pc.and_(neighbors["kept"], pa.array(refused))
    kept = pc.and_(neighbors["kept"], pc.invert(hit))
    reasons = pc.if_else(hit, pa.scalar(reason), neighbors["reason"])
    return with_column(with_column(neighbors, "kept", kept), "reason", reasons)


@one_blas_thread()
def near_copies_of_earlier(vectors: np.ndarray, max_distance: float) -> np.ndarray:
    """Find the images closer than `max_distance` to an earlier one that stays: (N,) bool.

    vectors: (N, D) in order of preference. Greedy, as near-duplicates are removed from training
    sets (Barz and Denzler, "Do we train on test data? Purging CIFAR of near-duplicates", 2020).
    """
    norms = np.einsum("nd,nd->n", vectors, vectors)
    copies = np.zeros(len(vectors), bool)
    for i in range(1, len(vectors)):
        squared = norms[:i] + norms[i] - 2 * (vectors[:i] @ vectors[i])
        copies[i] = bool(np.any((squared < max_distance**2) & ~copies[:i]))
    return copies


def beyond_mode_quota(neighbors: pa.Table, mode_of: Mapping[str, str | None], n: int) -> np.ndarray:
    """Find rows of images not among the n nearest of their failure's mode: (N,) bool.

    mode_of: error_image_id → mode; failures without mode count by label. An image's distance is
    that to the nearest failure of the mode, so that large modes do not crowd out small ones.
    """
    rows = neighbors.select(["error_image_id", "image_id", "label", "distance", "kept"]).to_pylist()
    nearest: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        if row["kept"]:
            group = nearest.setdefault((row["label"], mode_of[row["error_image_id"]] or ""), {})
            image, distance = row["image_id"], row["distance"]
            group[image] = min(distance, group.get(image, float("inf")))
    chosen = {
        key: set(sorted(group, key=lambda image: (group[image], image))[:n])
        for key, group in nearest.items()
    }
    return np.array(
        [
            row["kept"]
            and row["image_id"] not in chosen[row["label"], mode_of[row["error_image_id"]] or ""]
            for row in rows
        ],
        bool,
    )


def distance_cutoff(distance: np.ndarray, same: np.ndarray, min_precision: float) -> float:
    """Return the largest distance within which pairs still share their label often enough.

    distance: (N,) of pairs of labelled images (failures against train); same: (N,) bool. Labels of
    both are true, so the share of `same` pairs within a distance is the precision to expect of
    images there if the pool's own labels said nothing. 0 where even the nearest pairs fall short.
    """
    order = np.argsort(distance, kind="stable")
    precision = np.cumsum(same[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(precision >= min_precision)
    return float(distance[order[good[-1]]]) if len(good) else 0.0


def k_center(vectors: np.ndarray, n: int) -> np.ndarray:
    """Choose positions (n,) of images that cover the others well, the first row first.

    Greedy farthest-first traversal (Gonzalez 1985, within twice the optimal radius; Sener and
    Savarese, "Active learning for convolutional neural networks: a core-set approach", ICLR 2018).
    """
    chosen = [0][: len(vectors)]
    to_chosen = np.full(len(vectors), np.inf)
    while len(chosen) < min(n, len(vectors)):
        step = vectors - vectors[chosen[-1]]
        to_chosen = np.minimum(to_chosen, np.einsum("nd,nd->n", step, step))
        to_chosen[chosen] = -1
        chosen.append(int(to_chosen.argmax()))
    return np.array(chosen, np.int64)


def adaptive_k(trust: np.ndarray, k_min: int) -> int:
    """Decide how many of a failure's candidates to take: as many as their labels are worth.

    trust: (k,) probability that the label is right, nearest first. The expected number of right
    labels, at least k_min: a failure amid doubtful labels takes few.
    """
    return max(min(k_min, len(trust)), int(np.floor(trust.sum())))


def nearer_to_negatives(
    candidates: np.ndarray, failures: np.ndarray, negatives: np.ndarray
) -> np.ndarray:
    """Find candidates (N, D) nearer to a negative example than to any failure: (N,) bool.

    Relevance feedback with one nearest neighbour on either side (Giacinto, "A nearest-neighbor
    approach to relevance feedback in content based image retrieval", CIVR 2007).
    """
    if len(negatives) == 0:
        return np.zeros(len(candidates), bool)
    return _nearest(candidates, negatives) < _nearest(candidates, failures)


@one_blas_thread()
def _nearest(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    norms = np.einsum("nd,nd->n", others, others)
    return (norms - 2 * one @ others.T).min(axis=1)
