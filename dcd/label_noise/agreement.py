"""Measure label agreement: does the pool around an image carry the image's own label?

A wrong weak label seldom has company: the images most like a picture that is called a cat by
mistake are mostly called something else. The share of an image's nearest pool neighbours, over
all labels, that carry its own weak label is thus evidence for that label, and no true label is
needed. Wilson, "Asymptotic properties of nearest neighbor rules using edited data" (1972), removes
examples this way; Bahri, Jiang, Gupta, "Deep k-NN for noisy labels" (ICML 2020), do it on a
network's features and give bounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.errors import DataError, EncoderMismatch
from dcd.tables.rows import codes, weak_or_given_label
from dcd.tables.vectors import principal_directions, unit_vectors
from dcd.threads import one_blas_thread

N_NEIGHBORS = 20
_MAX_DIM = 256  # of 1,280 numbers they keep 77 % of the variance and all of the agreement's use
_FIT_ROWS = 10_000  # of which the directions are learnt
_BLOCK_BYTES = 2**26  # of distances at once
_PROJECTED_ROWS = 4096  # at once
# Products of matrices come in whole numbers of so many rows: what a row gets then does not hang on
# the rows beside it, so votes that were kept are those that are counted anew.
_WHOLE = 64


@dataclass(frozen=True)
class Reference:
    """Pool images among which neighbours are looked for; see `fit_reference`.

    labels: (R,) codes into `classes`, -1 where an image has no vote. content: (R,) codes into
    `hashes`. mean: (D,) float32. directions: (D, d) float32, orthonormal. vectors: (R, d) float32.
    """

    classes: pa.Array
    labels: np.ndarray
    hashes: pa.Array
    content: np.ndarray
    mean: np.ndarray
    directions: np.ndarray
    vectors: np.ndarray


@dataclass(frozen=True)
class KnownVotes:
    """The neighbours' labels of images that were asked for before, by content.

    content: (K,) content_hash, each once. votes: (K, n) codes into the classes of the reference, as
    `neighbor_labels` gives them for N_NEIGHBORS.
    """

    content: pa.Array
    votes: np.ndarray


@one_blas_thread()
def fit_reference(sample: pa.Table) -> Reference:
    """Prepare a sample of the pool, blocked images included: their weak labels are evidence too.

    sample: weak_label, content_hash, embedding. Vectors are brought to length 1, so that l2 ranks
    by cosine (which finds wrong labels better: see docs/selection.md), and projected on their
    first 256 principal directions. Raises DataError if there is no row.
    """
    if sample.num_rows == 0:
        raise DataError("label agreement: the pool sample has no image; index the pool again")
    labels = sample["weak_label"].combine_chunks()
    hashes = pc.unique(sample["content_hash"])
    classes = pc.unique(labels)
    step = -(-sample.num_rows // _FIT_ROWS)
    mean, directions = principal_directions(
        unit_vectors(sample.take(np.arange(0, sample.num_rows, step))), _MAX_DIM
    )
    return Reference(
        classes=classes,
        labels=codes(labels, classes),
        hashes=hashes,
        content=codes(sample["content_hash"].combine_chunks(), hashes),
        mean=mean,
        directions=directions,
        vectors=_projected(sample, mean, directions),
    )


def label_agreement(
    reference: Reference, rows: pa.Table, n_neighbors: int = N_NEIGHBORS
) -> np.ndarray:
    """Return the share of each row's nearest reference images of its label: (N,) float32 in 0…1.

    rows: label or weak_label, content_hash, embedding. An image never counts as its own neighbour,
    nor do copies of it (equal content). Raises EncoderMismatch if the vectors have another size.
    """
    return shares_of_label(reference, rows, neighbor_labels(reference, rows, n_neighbors))


def shares_of_label(reference: Reference, rows: pa.Table, votes: np.ndarray) -> np.ndarray:
    """Return the share of each row's votes that are for its label: (N,) float32 in 0…1.

    rows: label or weak_label. votes: as `neighbor_labels` gives them.
    """
    label = weak_or_given_label(rows)
    own = codes(label.combine_chunks(), reference.classes)
    counted = (votes >= 0).sum(axis=1)
    same = (votes == np.where(own < 0, -2, own)[:, None]).sum(axis=1)
    return (same / np.maximum(counted, 1)).astype(np.float32)


def corrected(reference: Reference, reviewed: pa.Table) -> Reference:
    """Let what people said of images stand for their weak labels where these vote.

    reviewed: schemas.REVIEWED. An image with a true label votes for that, one whose label was
    rejected has no vote. Whatever images were chosen for review, by doubt or by nearness to a
    failure, was chosen by what they look like and by their weak label, so that what is said of them
    is a fair answer for images that look alike and are called alike; of the pool's labels as a
    whole it is none (docs/review.md).
    """
    content = codes(reviewed["content_hash"].combine_chunks(), reference.hashes)
    truth = reviewed["true_label"].combine_chunks()
    classes = pc.unique(pa.concat_arrays([reference.classes, truth.drop_null()]))
    said = np.where(truth.is_null().to_numpy(zero_copy_only=False), -1, codes(truth, classes))
    here = content >= 0
    new = np.full(len(reference.hashes), -1)
    new[content[here & (said >= 0)]] = said[here & (said >= 0)]
    labels = np.where(new[reference.content] >= 0, new[reference.content], reference.labels)
    weak = codes(reviewed["label"].combine_chunks(), classes)
    rejected = here & (said < 0)
    pairs = content[rejected] * len(classes) + weak[rejected]
    is_rejected = np.isin(reference.content * len(classes) + labels, pairs)
    return replace(reference, classes=classes, labels=np.where(is_rejected, -1, labels))


def neighbor_labels(
    reference: Reference,
    rows: pa.Table,
    n_neighbors: int = N_NEIGHBORS,
    known: KnownVotes | None = None,
) -> np.ndarray:
    """Return the labels of each row's nearest reference images: (N, n) int codes into `classes`.

    n is `n_neighbors`, less where the reference is smaller; -1 stands for no neighbour. known:
    votes that need not be counted again, of N_NEIGHBORS.
    """
    if known is None or n_neighbors != N_NEIGHBORS:
        return _counted(reference, rows, n_neighbors)
    at = pc.index_in(rows["content_hash"].combine_chunks(), value_set=known.content)
    place = at.fill_null(-1).to_numpy()
    found = known.votes[place].astype(np.int64)
    missing = np.flatnonzero(place < 0)
    if len(missing):
        found[missing] = _counted(reference, rows.take(pa.array(missing)), n_neighbors)
    return found


@one_blas_thread()
def _counted(reference: Reference, rows: pa.Table, n_neighbors: int) -> np.ndarray:
    dim = rows.schema.field("embedding").type.list_size
    if dim != len(reference.mean):
        raise EncoderMismatch(
            f"label agreement: vectors of {dim} numbers, the pool sample has "
            f"{len(reference.mean)}; embed both with one encoder"
        )
    content = codes(rows["content_hash"].combine_chunks(), reference.hashes)
    by_content = np.argsort(reference.content, kind="stable")
    sorted_content = reference.content[by_content]
    half_norms = np.einsum("rd,rd->r", reference.vectors, reference.vectors) / 2
    n = min(n_neighbors, len(reference.vectors))
    block = max(1, _BLOCK_BYTES // (4 * len(reference.vectors)) // _WHOLE) * _WHOLE
    found = np.full((rows.num_rows, n), -1, np.int64)
    for start in range(0, rows.num_rows, block):
        part = rows.slice(start, block)
        vectors = _whole(_projected(part, reference.mean, reference.directions))
        # |x - r|² is |x|² + 2 (|r|²/2 - xr), and |x|² does not change the order.
        distance = (half_norms - vectors @ reference.vectors.T)[: part.num_rows]
        of_block = content[start : start + block]
        first = np.searchsorted(sorted_content, of_block, "left")
        last = np.searchsorted(sorted_content, of_block, "right")
        for i in np.flatnonzero(last > first):
            distance[i, by_content[first[i] : last[i]]] = np.inf
        nearest = np.argpartition(distance, n - 1, axis=1)[:, :n]
        missing = np.isinf(np.take_along_axis(distance, nearest, axis=1))
        found[start : start + block] = np.where(missing, -1, reference.labels[nearest])
    return found


def as_classes(votes: np.ndarray, voted: pa.Array, classes: Sequence[str]) -> np.ndarray:
    """Turn codes into `voted` into positions in `classes`: int64, -1 for none and other labels."""
    return np.where(votes >= 0, codes(voted, pa.array(classes, pa.string()))[votes], -1)


def _projected(rows: pa.Table, mean: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Rows in the space of the reference: (N, d) float32."""
    blocks = [np.empty((0, directions.shape[1]), np.float32)]
    for start in range(0, rows.num_rows, _PROJECTED_ROWS):
        units = unit_vectors(rows.slice(start, _PROJECTED_ROWS))
        blocks.append((_whole(units - mean) @ directions)[: len(units)])
    return np.concatenate(blocks)


def _whole(vectors: np.ndarray) -> np.ndarray:
    """Vectors (N, D), and rows of zeros until their number is a whole number of _WHOLE."""
    missing = -len(vectors) % _WHOLE
    return np.pad(vectors, ((0, missing), (0, 0))) if missing else vectors
