"""Compute LPIPS of many pairs of failure and candidate, each image through the network once.

Failures are taken in blocks, by label: a candidate is compared with all failures of the block that
ask for it, and forgotten. Only where a label has more failures than a block does a candidate come
up in more than one. Memory stays below 0.5 GB for a block's failures and 0.2 GB a core, of which at
most 8 are used; images read ahead, encoded, come on top.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from dcd.errors import DataError
from dcd.images.decode import BadImage
from dcd.selection.lpips import BATCH_SIZE, Lpips, lpips_input, lpips_vectors
from dcd.sources.records import RawImage
from dcd.threads import cores

FAILURES_AT_ONCE = 256  # 2 MB each
_MAX_WORKERS = 8
Found = TypeVar("Found")

# Ids of images → the images, in any order.
Reader = Callable[[Sequence[str]], Iterable[RawImage]]


def pair_distances(
    lpips: Lpips,
    pairs: pa.Table,
    read_failures: Reader,
    read_candidates: Reader,
    failures_at_once: int = FAILURES_AT_ONCE,
) -> np.ndarray:
    """Return LPIPS of N pairs in their order: (N,) float32.

    pairs: label, error_image_id, image_id. Raises DataError for an image that is not handed out or
    cannot be decoded, though it was when it was embedded.
    """
    distances = np.full(pairs.num_rows, np.nan, np.float32)
    rows_of: dict[str, list[int]] = {}
    for row, failure in enumerate(pairs["error_image_id"].to_pylist()):
        rows_of.setdefault(failure, []).append(row)
    by_label = pairs.sort_by([("label", "ascending"), ("error_image_id", "ascending")])
    failures = iter(dict.fromkeys(by_label["error_image_id"].to_pylist()))
    candidates = pairs["image_id"].to_pylist()
    with _workers() as workers:
        while block := list(islice(failures, failures_at_once)):
            vectors: dict[str, Tensor] = {}
            for found in _mapped(workers, _vectors_by(lpips), read_failures(block)):
                vectors |= found
            askers: dict[str, list[tuple[int, Tensor]]] = {}
            for failure in vectors:
                for row in rows_of[failure]:
                    askers.setdefault(candidates[row], []).append((row, vectors[failure]))
            compare = _comparison(lpips, askers)
            for found in _mapped(workers, compare, read_candidates(sorted(askers))):
                for row, distance in found:
                    distances[row] = distance
    missing = np.flatnonzero(np.isnan(distances))
    if len(missing):
        pair = [pairs[name][int(missing[0])].as_py() for name in ("error_image_id", "image_id")]
        raise DataError(
            f"lpips: {len(missing)} of {len(distances)} pairs have no distance, such as {pair[0]!r}"
            f" and {pair[1]!r}; check that both images can be read and the weights are finite"
        )
    return distances


def _vectors_by(lpips: Lpips) -> Callable[[Sequence[RawImage]], dict[str, Tensor]]:
    def by_id(images: Sequence[RawImage]) -> dict[str, Tensor]:
        ids = [image.image_id for image in images]
        return dict(zip(ids, _vectors(lpips, images), strict=True))

    return by_id


def _comparison(
    lpips: Lpips, askers: dict[str, list[tuple[int, Tensor]]]
) -> Callable[[Sequence[RawImage]], list[tuple[int, float]]]:
    """askers: by candidate the number of each pair that it is in, and the failure's vector."""

    def compare(images: Sequence[RawImage]) -> list[tuple[int, float]]:
        with torch.inference_mode():
            return [
                (row, float(((of_failure - vector) ** 2).sum()))
                for image, vector in zip(images, _vectors(lpips, images), strict=True)
                for row, of_failure in askers[image.image_id]
            ]

    return compare


def _vectors(lpips: Lpips, images: Sequence[RawImage]) -> Tensor:
    """(N, 484992), as `lpips_vectors`. Raises DataError."""
    return lpips_vectors(lpips, [_input(image) for image in images])


def _input(image: RawImage) -> np.ndarray:
    try:
        return lpips_input(image.data)
    except BadImage as err:
        raise DataError(
            f"lpips: image {image.image_id!r} was embedded, but is none any more ({err.reason}); "
            "embed the changed shard again"
        ) from err


def _n_workers() -> int:
    return min(cores(), _MAX_WORKERS)


@contextmanager
def _workers() -> Iterator[ThreadPoolExecutor]:
    """A batch a core, each on one thread, so that decoding runs side by side too."""
    n_threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(
            _n_workers(), "lpips", initializer=torch.set_num_threads, initargs=(1,)
        ) as workers:
            yield workers
    finally:
        # What any thread sets last is what the threads to come begin with.
        torch.set_num_threads(n_threads)


def _mapped(
    workers: ThreadPoolExecutor,
    work: Callable[[Sequence[RawImage]], Found],
    images: Iterable[RawImage],
) -> Iterator[Found]:
    """`work` of every batch, a few batches at once: `workers.map` alone would read all ahead."""
    left = iter(images)
    while batches := [b for _ in range(_n_workers()) if (b := list(islice(left, BATCH_SIZE)))]:
        yield from workers.map(work, batches)
