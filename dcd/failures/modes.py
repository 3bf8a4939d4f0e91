"""Propose failure modes by clustering, for failures that name none.

Within each label the failures are clustered by k-means on their leading principal components; the
number of clusters has the best mean silhouette (Rousseeuw 1987). More than one mode is proposed
only if that silhouette is higher than those of 19 samples of a single Gaussian with the same
variances: a chance of 5 % where there is but one mode (the test of SigClust: Liu et al. 2008, with
the silhouette for its index). Deterministic.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from dcd.config import Split
from dcd.errors import DataError
from dcd.splits.split import SplitInfo, split_table
from dcd.store import Store, keys
from dcd.tables.vectors import embedding_matrix
from dcd.threads import one_blas_thread

_MODES_FORMAT = 1
_NAMED: tuple[Split, ...] = ("error_sample", "debug_val", "debug_heldout")
_MIN_MODE_IMAGES = 4
_MAX_MODES = 6
_MAX_COMPONENTS = 16
_MAX_TESTED_IMAGES = 500  # the number of modes is chosen on so many: silhouettes are quadratic
_N_REFERENCES = 19


@dataclass(frozen=True)
class LabelModes:
    """The modes of one label: names, centres (K, D) float32.

    reach: l2 distance of the farthest failure to the centre of its mode.
    """

    names: tuple[str, ...]
    centres: np.ndarray
    reach: float


@dataclass(frozen=True)
class NearestModes:
    """Images put to the modes of their label: names (None for a label without modes), l2 (N,)."""

    modes: list[str | None]
    distance: np.ndarray


def propose(features: np.ndarray, labels: Sequence[str]) -> dict[str, LabelModes]:
    """Propose the modes of failures with features (N, D), by label, numbered over all labels."""
    found: dict[str, LabelModes] = {}
    n_named = 0
    of_image = np.array(labels, dtype=object)
    # Hundreds of tiny problems: threads would only wait for each other.
    with one_blas_thread(), threadpool_limits(1, user_api="openmp"):
        for label in sorted(set(labels)):
            members = features[of_image == label].astype(np.float32)
            cluster = _clusters(members)
            k = int(cluster.max()) + 1
            centres = np.stack([members[cluster == i].mean(axis=0) for i in range(k)])
            reach = float(np.linalg.norm(members - centres[cluster], axis=1).max())
            names = tuple(f"{n_named + i + 1} (proposed)" for i in range(k))
            n_named += k
            found[label] = LabelModes(names, centres, reach)
    return found


def place(
    modes: Mapping[str, LabelModes], features: np.ndarray, labels: Sequence[str]
) -> NearestModes:
    """Find the nearest mode of its label for every image, and the l2 distance to its centre."""
    names: list[str | None] = []
    distance = np.full(len(labels), np.inf, np.float32)
    for i, label in enumerate(labels):
        if label not in modes:
            names.append(None)
            continue
        to_centres = np.linalg.norm(modes[label].centres - features[i], axis=1)
        names.append(modes[label].names[int(to_centres.argmin())])
        distance[i] = to_centres.min()
    return NearestModes(names, distance)


def name_modes(store: Store, splits: Mapping[Split, SplitInfo]) -> dict[Split, SplitInfo]:
    """Give error_sample and debug splits proposed modes where no failure has one.

    Splits with proposed modes are new objects of the store, because everything that is made from a
    split keeps the modes of its images. Splits whose failures name a mode are handed back as given.

    Raises:
        DataError: there is no failure at all.
    """
    errors = split_table(store, splits["error_sample"]) if "error_sample" in splits else None
    if errors is None or errors.num_rows == 0:
        raise DataError(
            f"error_sample: no failure is registered in {store.url}, or people rejected all of "
            f"them; put some into its {keys.FAILURES_INBOX}/LABEL/ and run: dcd failures watch"
        )
    if errors["mode"].null_count < errors.num_rows:
        return dict(splits)
    modes: dict[str, LabelModes] | None = None
    named = dict(splits)
    for split in _NAMED:
        info = splits.get(split)
        if info is None:
            continue
        new_id = keys.digest("modes", _MODES_FORMAT, splits["error_sample"].id, info.id)
        if not store.exists(keys.split(new_id)):
            if modes is None:
                modes = propose(embedding_matrix(errors), errors["label"].to_pylist())
            data = split_table(store, info)
            placed = place(modes, embedding_matrix(data), data["label"].to_pylist())
            at = data.column_names.index("mode")
            data = data.set_column(at, "mode", pa.array(placed.modes, pa.string()))
            store.write_table(keys.split(new_id), data)
        named[split] = replace(
            info, id=new_id, made_from=(*info.made_from, info.id), unnamed_id=info.id
        )
    return named


def _clusters(features: np.ndarray) -> np.ndarray:
    """Cluster of each row of (N, D), the largest cluster first: (N,) int64."""
    if len(features) < 2 * _MIN_MODE_IMAGES or np.ptp(features, axis=0).max() == 0:
        return np.zeros(len(features), np.int64)
    points = _components(features)
    tested = points
    if len(points) > _MAX_TESTED_IMAGES:
        tested = points[:: -(-len(points) // _MAX_TESTED_IMAGES)]
    score, k = _best_silhouette(tested)
    if k == 1:
        return np.zeros(len(points), np.int64)
    rng = np.random.default_rng(0)
    spread = tested.std(axis=0)
    if any(
        _best_silhouette(rng.normal(0, spread, tested.shape))[0] >= score
        for _ in range(_N_REFERENCES)
    ):
        return np.zeros(len(points), np.int64)
    found = _kmeans(points, k)
    order = np.argsort(-np.bincount(found, minlength=k), kind="stable")
    return np.argsort(order)[found]


def _components(features: np.ndarray) -> np.ndarray:
    """Scores (N, up to 16) on the leading principal components, float64."""
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    n = min(_MAX_COMPONENTS, int((values > 1e-6 * max(values[0], 1e-12)).sum()))
    return left[:, :n] * values[:n]


def _best_silhouette(points: np.ndarray) -> tuple[float, int]:
    """The best mean silhouette over the numbers of clusters, and that number; (-1, 1) if none."""
    from sklearn.metrics import silhouette_score

    best = (-1.0, 1)
    for k in range(2, min(_MAX_MODES, len(points) // _MIN_MODE_IMAGES) + 1):
        found = _kmeans(points, k)
        if np.bincount(found, minlength=k).min() >= 2:
            best = max(best, (float(silhouette_score(points, found)), k))
    return best


def _kmeans(points: np.ndarray, k: int) -> np.ndarray:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters
        return KMeans(k, n_init=2, random_state=0).fit_predict(points)  # pyright: ignore[reportArgumentType]
