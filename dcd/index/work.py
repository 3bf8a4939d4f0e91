"""Tell what building or appending to an index will read and write, before a row is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import IndexConfig
from dcd.embeddings.read import row_requests
from dcd.index.info import IndexInfo
from dcd.index.row_groups import reading_requests
from dcd.store.requests import (
    BYTES_READ,
    METADATA_READ,
    Requests,
    table_requests,
    total,
    writing_requests,
)


@dataclass(frozen=True)
class IndexFiles:
    """Bytes of the files that building or appending writes.

    vectors: of each file of vectors. layout: of the centres of lists and of the codec, where there
    are such. lists: how many, by label. runs: where the rows are, those of the base too, as
    `row_groups.DIRECTORY` says it.
    """

    vectors: tuple[int, ...]
    layout: tuple[int, ...]
    directory: int
    sample: int
    sources: int
    info: int
    runs: pa.Table
    lists: Mapping[str, int]
    dim: int

    @property
    def each(self) -> tuple[int, ...]:
        others = (self.directory, self.sample, self.sources, self.info)
        return (*self.vectors, *self.layout, *others)


@dataclass(frozen=True)
class Work:
    """What `build_index` does once it knows what to do. n_passes: over the rows it takes in."""

    n_passes: int
    requests: Requests


def building_work(
    n_shards: int,
    shard_bytes: int,
    n_images: int,
    labels: pa.Table | None,
    config: IndexConfig,
    files: IndexFiles,
) -> Work:
    """Count the work of building anew from so many shards, embeddings of shard_bytes each."""
    trains = config.storage != "float16" or any(number > 0 for number in files.lists.values())
    n_passes = 2 if trains else 1
    by_image = labels is not None and "image_id" in labels.column_names
    counts = counts_labels(labels is None, n_images, files.dim, config) and not by_image
    read = row_requests(shard_bytes) * n_passes
    read += row_requests(0) if counts else Requests()
    return Work(n_passes, read * n_shards + total(map(writing_requests, files.each)))


def appending_work(
    n_shards: int,
    shard_bytes: int,
    labels: Sequence[str],
    base: IndexInfo,
    directory: pa.Table,
    files: IndexFiles,
) -> Work:
    """Count the work of appending so many shards with rows of these labels.

    directory: of base.
    """
    codec = Requests() if base.storage == "float16" else table_requests(0) + METADATA_READ
    lists = table_requests(0) if base.lists else Requests()
    of_base = BYTES_READ + table_requests(0) + table_requests(files.sample) + codec + lists
    of_base += reading_requests(directory)  # its ids
    known = (
        reading_requests(directory.filter(pc.equal(directory["label"], label))) for label in labels
    )
    written = total(map(writing_requests, files.each))
    return Work(1, row_requests(shard_bytes) * n_shards + of_base + total(known) + written)


def counts_labels(weak: bool, n_images: int, dim: int, config: IndexConfig) -> bool:
    """Tell whether building counts labels first: weak ones only where one could be too large."""
    return not weak or 2 * dim * n_images > config.max_scan_bytes
