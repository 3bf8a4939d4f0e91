"""Apply the switches beyond trust to the neighbours of all failures, one after the other."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from dcd.config import SelectionConfig
from dcd.index.distances import l2_matrix
from dcd.selection.filters import (
    DUPLICATE,
    FAR,
    QUOTA,
    UNDIVERSE,
    adaptive_k,
    beyond_mode_quota,
    distance_cutoff,
    k_center,
    near_copies_of_earlier,
    nearer_to_negatives,
    refuse,
)
from dcd.tables.rows import weak_or_given_label
from dcd.tables.vectors import embedding_matrix, unit_length
from dcd.threads import one_blas_thread

DOUBTFUL = "amid doubtful labels"


def refine(
    neighbors: pa.Table,
    rows: pa.Table,
    failures: pa.Table,
    calibration: pa.Table,
    train: pa.Table,
    config: SelectionConfig,
) -> pa.Table:
    """Mark what the config's switches refuse in schemas.NEIGHBORS as not kept.

    rows: image_id, embedding of at least the kept images. failures, calibration (debug_val, or the
    failures themselves) and train: schemas.labelled_features, labels right.
    """
    vectors = dict(zip(rows["image_id"].to_pylist(), embedding_matrix(rows), strict=True))
    if config.min_pair_precision is not None:
        limit = distance_cutoff(*pairs(calibration, train), config.min_pair_precision)
        neighbors = refuse(neighbors, neighbors["distance"].to_numpy() > limit, FAR)
    if config.diversity:
        neighbors = refuse(neighbors, _crowded(neighbors, vectors, config.k), UNDIVERSE)
    if config.adaptive_k_min is not None:
        neighbors = refuse(neighbors, _doubtful(neighbors, config.adaptive_k_min), DOUBTFUL)
    if config.near_copy_distance > 0:
        copies = _copies(neighbors, vectors, config.near_copy_distance)
        neighbors = refuse(neighbors, copies, DUPLICATE)
    if config.max_per_mode is not None:
        modes = failures["mode"].to_pylist()
        mode_of = dict(zip(failures["image_id"].to_pylist(), modes, strict=True))
        over = beyond_mode_quota(neighbors, mode_of, config.max_per_mode)
        neighbors = refuse(neighbors, over, QUOTA)
    return neighbors


def unlike_failures(rows: pa.Table, failures: pa.Table, negatives: pa.Table) -> np.ndarray:
    """Find rows nearer to a negative example than to any failure of their label: (N,) bool.

    rows: label or weak_label, embedding. Labels without failures are judged by no one.
    """
    labels = np.array(weak_or_given_label(rows).to_pylist())
    failing = np.array(failures["label"].to_pylist())
    candidates, wanted = embedding_matrix(rows), embedding_matrix(failures)
    unlike = np.zeros(rows.num_rows, bool)
    for label in set(labels.tolist()) & set(failing.tolist()):
        of_label = labels == label
        unlike[of_label] = nearer_to_negatives(
            candidates[of_label], wanted[failing == label], embedding_matrix(negatives)
        )
    return unlike


@one_blas_thread()
def pairs(labelled: pa.Table, train: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return distances of all pairs, (N,) float32, and whether their labels agree, (N,) bool."""
    one, other = embedding_matrix(labelled), embedding_matrix(train)
    distance = l2_matrix(one, other)
    labels = np.array(labelled["label"].to_pylist())[:, None]
    same = labels == np.array(train["label"].to_pylist())
    return distance.ravel(), same.ravel()


def _kept_of_failures(neighbors: pa.Table) -> Iterable[np.ndarray]:
    """Row numbers of every failure's kept neighbours, nearest first."""
    rows: dict[str, list[int]] = {}
    kept = neighbors["kept"].to_pylist()
    for number, failure in enumerate(neighbors["error_image_id"].to_pylist()):
        if kept[number]:
            rows.setdefault(failure, []).append(number)
    rank = neighbors["rank"].to_numpy()
    return [np.array(sorted(of_one, key=lambda n: rank[n])) for of_one in rows.values()]


def _crowded(neighbors: pa.Table, vectors: dict[str, np.ndarray], k: int) -> np.ndarray:
    refused = np.zeros(neighbors.num_rows, bool)
    ids = neighbors["image_id"].to_pylist()
    for rows in _kept_of_failures(neighbors):
        refused[rows] = True
        refused[rows[k_center(np.stack([vectors[ids[n]] for n in rows]), k)]] = False
    return refused


def _doubtful(neighbors: pa.Table, k_min: int) -> np.ndarray:
    refused = np.zeros(neighbors.num_rows, bool)
    agreement = neighbors["label_agreement"].to_numpy(zero_copy_only=False)
    for rows in _kept_of_failures(neighbors):
        refused[rows[adaptive_k(agreement[rows], k_min) :]] = True
    return refused


def _copies(neighbors: pa.Table, vectors: dict[str, np.ndarray], max_distance: float) -> np.ndarray:
    nearest: dict[str, float] = {}
    columns = (neighbors[name].to_pylist() for name in ("image_id", "distance", "kept"))
    for image_id, distance, kept in zip(*columns, strict=True):
        if kept:
            nearest[image_id] = min(distance, nearest.get(image_id, distance))
    ordered = sorted(nearest, key=lambda image: (nearest[image], image))
    if not ordered:
        return np.zeros(neighbors.num_rows, bool)
    units = unit_length(np.stack([vectors[image] for image in ordered]))
    copies = near_copies_of_earlier(units, max_distance)
    dropped = {image for image, is_copy in zip(ordered, copies, strict=True) if is_copy}
    return np.array([image in dropped for image in neighbors["image_id"].to_pylist()], bool)
