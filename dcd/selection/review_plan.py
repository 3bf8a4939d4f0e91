"""Choose which pool images people should look at first, where they can look at a few only.

Those nearest to the failures, whatever their label: with its true label an image that is like a
failure is one more failure (`dcd.selection.reviewed`). Each failure asks for one in turn, so that
many failures of one kind do not take everything. How the rule was chosen, and among which, is told
in docs/review.md.

A plan is stored as a selection is, so that whatever shows the picks of a selection shows a plan.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import Split
from dcd.errors import DataError
from dcd.index.distances import l2_matrix
from dcd.index.info import IndexInfo
from dcd.index.read import pool_rows, shared_sample, vectors_of
from dcd.reviews.decisions import read_reviews
from dcd.reviews.standing import standing
from dcd.selection.picks import debug_train, targeted_picks
from dcd.selection.select import SelectionInfo
from dcd.splits.split import SplitInfo, blocked_content, split_table
from dcd.store import Store, keys
from dcd.tables import schemas
from dcd.tables.rows import one_row_a_content, without
from dcd.tables.vectors import embedding_matrix

# Raised whenever the same pool and failures would give another plan.
_FORMAT = 2
_FAILURES = "failures"  # in the metadata: their true labels, which no picture of a plan needs share


@dataclass(frozen=True)
class ReviewPlan:
    """A plan: `id` names it among the selections of the store.

    n_images: that people are to look at, of n_candidates; n_decided are left out, since somebody
    has decided about them. n_picks: those that the selection took for failures anyway.
    """

    id: str
    n_images: int
    n_candidates: int
    n_decided: int
    n_picks: int


def plan_review(
    store: Store,
    index: IndexInfo,
    splits: Mapping[Split, SplitInfo],
    selection: SelectionInfo,
    n: int,
) -> ReviewPlan:
    """Choose n images of the pool and publish them as a plan, unless it is there.

    Candidates are the pool's sample (all of a pool of up to 100,000 images) and the selection's
    picks for failures, less those in a split and those that somebody decided about. Raises
    DataError if there are none.
    """
    decided = sorted(content.hex() for content in standing(read_reviews(store)))
    of_splits = sorted([split, info.id] for split, info in splits.items())
    plan_id = keys.digest(
        "review plan", _FORMAT, index.index_id, of_splits, selection.id, decided, n
    )
    key = keys.selection_picks(plan_id)
    if not store.exists(key):
        picks = targeted_picks(store.read_table(keys.selection_picks(selection.id)))
        rows, n_decided = _candidates(store, index, splits, picks, decided)
        _publish(store, index, splits, rows, n, plan_id, {"n_decided": str(n_decided)})
    noted, chosen = store.read_metadata(key), store.read_table(key, ["image_id"])
    picked = targeted_picks(store.read_table(keys.selection_picks(selection.id)))
    return ReviewPlan(
        plan_id,
        chosen.num_rows,
        int(noted["n_candidates"]),
        int(noted["n_decided"]),
        pc.sum(pc.is_in(chosen["image_id"], value_set=picked["image_id"])).as_py() or 0,
    )


def choose_images(distances: np.ndarray, n: int) -> np.ndarray:
    """Choose up to n of N candidates: each failure in turn takes the nearest that none has taken.

    distances: (N, E), l2 to every failure. Returns places of candidates, in the order of taking.
    The failures' turns are in a fixed random order, for an n below their number.
    """
    n = min(n, len(distances))
    turns = np.random.default_rng(0).permutation(distances.shape[1])
    queues = [iter(np.argsort(distances[:, e], kind="stable")[:n].tolist()) for e in turns]
    taken: dict[int, None] = {}
    while len(taken) < n:
        for queue in queues[: n - len(taken)]:
            # None of n candidates is left only where all n are taken.
            taken[next(place for place in queue if place not in taken)] = None
    return np.array(list(taken), int)


def planned_failures(store: Store, plan_id: str) -> Mapping[str, str] | None:
    """Return the labels of the failures of a plan, by id; None for a selection of picks."""
    noted = store.read_metadata(keys.selection_picks(plan_id)).get(_FAILURES)
    return None if noted is None else json.loads(noted)


def _candidates(
    store: Store,
    index: IndexInfo,
    splits: Mapping[Split, SplitInfo],
    picks: pa.Table,
    decided: list[str],
) -> tuple[pa.Table, int]:
    """image_id, label, content_hash, embedding of the candidates, and how many were decided."""
    columns = ["image_id", "label", "content_hash", "embedding"]
    sample = shared_sample(store, index)
    sample = sample.rename_columns([n.removeprefix("weak_") for n in sample.column_names])
    labels = pc.unique(picks["label"])
    picked = vectors_of(store, index, picks["image_id"], labels)
    every = [part.select(columns).combine_chunks() for part in (sample, picked)]
    rows = one_row_a_content(pa.concat_tables([every[0], every[1].cast(every[0].schema)]))
    rows = without(rows, blocked_content(store, splits))
    contents = pa.array([bytes.fromhex(one) for one in decided], schemas.CONTENT_HASH)
    free = rows.filter(pc.invert(pc.is_in(rows["content_hash"], value_set=contents)))
    if free.num_rows == 0:
        raise DataError("review plan: no image of the pool is left that nobody decided about")
    return free, rows.num_rows - free.num_rows


def _publish(
    store: Store,
    index: IndexInfo,
    splits: Mapping[Split, SplitInfo],
    rows: pa.Table,
    n: int,
    plan_id: str,
    noted: Mapping[str, str],
) -> None:
    """Write neighbors and debug_train of a plan: each image with the failure it is nearest to."""
    failures = split_table(store, splits["error_sample"])
    distances = l2_matrix(embedding_matrix(rows), embedding_matrix(failures))
    chosen = choose_images(distances, n)
    nearest = distances[chosen].argmin(axis=1)
    of_chosen = rows.take(pa.array(chosen))
    ids = failures["image_id"].take(pa.array(nearest))
    n_chosen = len(chosen)
    far = pa.array(distances[chosen, nearest].astype(np.float32))
    neighbors = pa.table(
        {
            "error_image_id": ids,
            "image_id": of_chosen["image_id"],
            "label": of_chosen["label"],
            "distance": far,
            "rank": pa.array(np.arange(1, n_chosen + 1, dtype=np.int32)),
            "label_agreement": pa.nulls(n_chosen, pa.float32()),
            "kept": pa.repeat(True, n_chosen),
            "reason": pa.nulls(n_chosen, pa.string()),
        }
    )
    truth = dict(zip(*(failures[n].to_pylist() for n in ("image_id", "label")), strict=True))
    described = {
        "index_id": index.index_id,
        _FAILURES: json.dumps({image_id: truth[image_id] for image_id in ids.to_pylist()}),
        "n_candidates": str(rows.num_rows),
        **noted,
    }
    neighbors = schemas.conform(neighbors, schemas.NEIGHBORS, "review plan")
    store.write_table(keys.selection_neighbors(plan_id), neighbors, metadata=described)
    places = pool_rows(store, index, pc.unique(neighbors["label"]))
    picks = debug_train(neighbors, places, store.read_table(keys.shards(index.pool)))
    store.write_table(keys.selection_picks(plan_id), picks, metadata=described)
