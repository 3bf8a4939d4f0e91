"""Let reviews count in a selection: true labels are added, rejected ones are never picked again."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.index.distances import l2_matrix
from dcd.index.info import IndexInfo
from dcd.index.read import pool_rows
from dcd.reviews.decisions import read_reviews
from dcd.reviews.standing import corrections
from dcd.selection.trusted_search import Refusals
from dcd.store import Store, keys
from dcd.tables import schemas
from dcd.tables.rows import one_row_a_content, weak_or_given_label, with_column, without
from dcd.tables.vectors import embedding_matrix
from dcd.threads import one_blas_thread

REJECTED = "rejected in review"
FAILING = "failing"  # the role of a pick that is used as one more failure
NEAR, _NEAR_SHARE = 50, 1 / 20  # in a small pool no more than this share of it is near

# Raised whenever the same reviews would count otherwise. 3: other labels are judged by them too; 4:
# the model is chosen without what is used as a failure; 5: that shares the error sample's weight;
# 6: whatever is drawn is drawn as without reviews; 7: the weight is shared in error_sample too.
_FORMAT = 7

_MAX_DISTANCES = 2**25  # held at once
_ROUNDING = 1 + 1e-5  # of distances that are computed in two ways


@dataclass(frozen=True)
class Reviewed:
    """The reviews that are about images of one index; `id` names schemas.REVIEWED in the store.

    n_confirmed, n_relabelled, n_rejected: images whose label is right, is another one, is wrong.
    """

    id: str
    n_confirmed: int
    n_relabelled: int
    n_rejected: int


def match_reviews(store: Store, index: IndexInfo) -> Reviewed | None:
    """Find the reviewed images in an index, by content, and publish them; None if there are none.

    Reads the ids of the labels under which images were reviewed, and no vectors.
    """
    found = corrections(read_reviews(store))
    if not found:
        return None
    true = {c.content: c.true_label for c in found if c.true_label is not None}
    wrong = {(c.content, c.label) for c in found if c.true_label is None}
    labels = sorted({c.label for c in found} | set(true.values()))
    rows = pool_rows(store, index, pa.array(labels, pa.string()))
    contents = pa.array([bytes.fromhex(c.content) for c in found], schemas.CONTENT_HASH)
    rows = rows.filter(pc.is_in(rows["content_hash"], value_set=contents))
    content = [one.hex() for one in rows["content_hash"].to_pylist()]
    labels = rows["label"].to_pylist()
    truth = pa.array([true.get(one) for one in content], pa.string())
    said = [c in true or (c, label) in wrong for c, label in zip(content, labels, strict=True)]
    table = rows.append_column("true_label", truth).filter(pa.array(said, pa.bool_()))
    if table.num_rows == 0:
        return None
    table = schemas.conform(table, schemas.REVIEWED, "reviewed")
    reviewed_id = keys.digest("reviewed", _FORMAT, index.index_id, keys.table_digest(table))
    if not store.exists(keys.reviewed(reviewed_id)):
        store.write_table(keys.reviewed(reviewed_id), table)
    here = {one.hex() for one in table["content_hash"].to_pylist()}
    confirmed_here = {c.content for c in found if c.label == c.true_label} & here
    n_known, n_right = len(true.keys() & here), len(confirmed_here)
    return Reviewed(reviewed_id, n_right, n_known - n_right, len(here) - n_known)


def read_reviewed(store: Store, reviewed_id: str) -> pa.Table:
    """Read schemas.REVIEWED: reviewed images of an index, one row a label that it has there."""
    table = store.read_table(keys.reviewed(reviewed_id))
    return schemas.conform(table, schemas.REVIEWED, "reviewed")


def refuse_reviewed(rows: pa.Table, reviewed: pa.Table) -> Refusals:
    """Refuse rows under labels that a review says are wrong: label or weak_label, content_hash."""
    at = pc.index_in(rows["content_hash"], value_set=reviewed["content_hash"].combine_chunks())
    truth = reviewed["true_label"].combine_chunks().take(at.combine_chunks()).to_pylist()
    wrong = set(_pairs(reviewed.filter(reviewed["true_label"].is_null())))
    reasons = []
    for true_label, pair in zip(truth, _pairs(rows), strict=True):
        if true_label is not None:
            reasons.append(None if true_label == pair[1] else f"is {true_label}, as reviewed")
        else:
            reasons.append(REJECTED if pair in wrong else None)
    return Refusals(reasons)


def confirmed(rows: pa.Table, reviewed: pa.Table) -> np.ndarray:
    """Tell which rows carry a label that a review confirmed: (N,) bool."""
    known = reviewed.filter(reviewed["true_label"].is_valid())
    truth = zip(known["content_hash"].to_pylist(), known["true_label"].to_pylist(), strict=True)
    right = set(truth)
    return np.array([pair in right for pair in _pairs(rows)], bool)


def verified_picks(picks: pa.Table, reviewed: pa.Table | None) -> np.ndarray:
    """Tell which picks have a true label: (N,) bool. picks: image_id and label, of the pool."""
    if reviewed is None:
        return np.zeros(picks.num_rows, bool)
    known = reviewed.filter(reviewed["true_label"].is_valid())
    right = set(zip(known["image_id"].to_pylist(), known["true_label"].to_pylist(), strict=True))
    pairs = zip(picks["image_id"].to_pylist(), picks["label"].to_pylist(), strict=True)
    return np.array([pair in right for pair in pairs], bool)


def failing_picks(picks: pa.Table) -> pa.Table:
    """Return the rows of schemas.DEBUG_TRAIN that are used as failures."""
    return picks.filter(pc.equal(picks["role"], FAILING))


def places_in_index(labels: pa.ChunkedArray, reviewed: pa.Table | None) -> pa.Array:
    """Return the labels under which an index holds picks: a relabelled one is under its old one."""
    own = pc.unique(labels)
    if reviewed is None:
        return own
    return pc.unique(pa.chunked_array([own, *reviewed["label"].chunks]))


@one_blas_thread()
def like_failures(images: pa.Table, failures: pa.Table, sample: pa.Table) -> np.ndarray:
    """Tell which images are near to a failure that has their true label: (N,) bool.

    images, failures: label, embedding. Near is as near as its NEAR nearest images of the pool's
    sample are, whatever their labels. An image that is near but of another class is no failure: it
    lies on the other side of the border that the model gets wrong.
    """
    at, of_sample = embedding_matrix(images), embedding_matrix(sample)
    labels, wanted = (np.array(table["label"].to_pylist()) for table in (images, failures))
    last = max(0, min(NEAR, int(_NEAR_SHARE * len(of_sample))) - 1)
    like = np.zeros(len(at), bool)
    step = max(1, _MAX_DISTANCES // len(of_sample))
    for start in range(0, failures.num_rows, step):
        some = embedding_matrix(failures.slice(start, step))
        reach = np.partition(l2_matrix(some, of_sample), last, axis=1)[:, last]
        near = l2_matrix(at, some) <= reach * _ROUNDING
        like |= (near & (labels[:, None] == wanted[start : start + step])).any(axis=1)
    return like


def add_reviewed(picks: pa.Table, found: pa.Table, shards: pa.Table) -> pa.Table:
    """Add images with true labels to the picks (schemas.DEBUG_TRAIN), after the general sample.

    found: rows of schemas.REVIEWED, true_label given. Each weighs at least what an image of train
    does; one that was picked anyway stays what it is, and weighs as much too.
    """
    verified = verified_picks(picks, found)
    weight = picks["weight"].to_numpy()
    raised = np.where(verified, np.maximum(weight, 1), weight).astype(np.float32)
    picks = with_column(picks, "weight", pa.array(raised))
    ids = picks.filter(pa.array(verified))["image_id"].combine_chunks()
    taken = found.filter(pc.is_in(found["image_id"], value_set=ids))
    added = verified_rows(without(found, taken), shards, "reviewed", 1.0)
    return pa.concat_tables([picks.replace_schema_metadata(None), added])


def verified_rows(found: pa.Table, shards: pa.Table, role: str, weight: float) -> pa.Table:
    """Make picks of images with true labels: schemas.DEBUG_TRAIN, by image_id.

    found: rows of schemas.REVIEWED, true_label given; one stands for all of a content.
    """
    rows = one_row_a_content(found.sort_by("image_id"))
    n = rows.num_rows
    at = pc.index_in(rows["shard"], value_set=shards["shard"].combine_chunks())
    table = pa.table(
        {
            "image_id": rows["image_id"],
            "label": rows["true_label"],
            "shard": rows["shard"],
            "uri": shards["uri"].take(at.combine_chunks()),
            "min_distance": pa.nulls(n, pa.float32()),
            "n_queries": pa.array(np.zeros(n, np.int32)),
            "role": pa.repeat(role, n),
            "label_agreement": pa.nulls(n, pa.float32()),
            "weight": pa.array(np.full(n, weight, np.float32)),
        }
    )
    return schemas.conform(table, schemas.DEBUG_TRAIN, "reviewed picks")


def _pairs(rows: pa.Table) -> list[tuple[bytes, str]]:
    labels = weak_or_given_label(rows).to_pylist()
    return list(zip(rows["content_hash"].to_pylist(), labels, strict=True))
