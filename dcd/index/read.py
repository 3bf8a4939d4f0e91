"""Read the pool's vectors clustered by label: a label costs a few contiguous reads.

An index is addressed by what it holds: the embedded shards, the labels and the settings. Its files
are `vectors-*.parquet` (rows by label, list and image_id; vectors as bytes), `labels.parquet`
(where each label's rows are), `sample.parquet` (a uniform sample of the rows), `lists.parquet` and
`codec.parquet` where there are such, `sources.json` (what it was made of) and, written last,
`index.json`. An index that was appended to another names the files of that one too: they are its
segments.
"""

from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.errors import DataError
from dcd.index.info import IndexInfo, index_info
from dcd.index.layout import read_codec
from dcd.index.quantizers import Codec
from dcd.index.row_groups import Reader, row_groups
from dcd.store import Store, keys
from dcd.tables import schemas
from dcd.tables.rows import codes, with_column
from dcd.tables.vectors import blobs_as_lists


def codec_of(store: Store, index: IndexInfo) -> Codec | None:
    """Return what decodes the vectors of an index; None where they are float16."""
    return None if index.storage == "float16" else read_codec(store, index.layout_prefix)


def pool_rows(store: Store, index: IndexInfo, labels: pa.Array | None = None) -> pa.Table:
    """Read image_id, label, shard, content_hash of all or some labels, by label and image_id.

    Reads no vectors.
    """
    columns = ["image_id", "weak_label", "shard", "content_hash"]
    schema = schemas.clustered(index.dim)
    parts = [pa.schema([schema.field(name) for name in columns]).empty_table()]
    with Reader(store) as reader:
        for group in row_groups(read_directory(store, index, labels)):
            parts.append(group.rows_of(reader.read(group, columns)))
    table = pa.concat_tables(parts).rename_columns(["image_id", "label", "shard", "content_hash"])
    if index.lists or len(index.segments) > 1:
        table = table.sort_by([("label", "ascending"), ("image_id", "ascending")])
    return table.combine_chunks()


def vectors_of(
    store: Store,
    index: IndexInfo,
    image_ids: pa.Array | pa.ChunkedArray,
    labels: pa.Array | None = None,
) -> pa.Table:
    """Read image_id, label, content_hash, embedding of these images, by image_id, then label.

    An image with several labels has several rows. `labels` names the labels to look under and
    saves reading the ids of the others. Raises DataError if an image is not there.
    """
    wanted = pc.unique(image_ids)
    columns = ["image_id", "weak_label", "content_hash", "embedding"]
    schema = schemas.clustered(index.dim)
    found = [pa.schema([schema.field(name) for name in columns]).empty_table()]
    with Reader(store, codec_of(store, index)) as reader:
        for group in row_groups(read_directory(store, index, labels)):
            ids = group.rows_of(reader.read(group, ["image_id"]))["image_id"]
            mask = pc.is_in(ids, value_set=wanted)
            if pc.any(mask).as_py():
                found.append(group.rows_of(reader.read(group, columns)).filter(mask))
    names = ["image_id", "label", "content_hash", "embedding"]
    table = pa.concat_tables(found).rename_columns(names)
    missing = wanted.filter(pc.invert(pc.is_in(wanted, value_set=pc.unique(table["image_id"]))))
    if len(missing):
        raise _not_there(index, missing, len(wanted))
    return table.sort_by([("image_id", "ascending"), ("label", "ascending")]).combine_chunks()


def read_vectors(
    store: Store,
    index: IndexInfo,
    image_ids: pa.ChunkedArray,
    found: np.ndarray,
    labels: pa.Array | None = None,
) -> None:
    """Read the vectors of these images into `found`, in their order: (N, D) float32, N ids.

    As `vectors_of`, which sorts and copies rows that a head needs only the numbers of. No id may
    come twice.
    """
    wanted = image_ids.combine_chunks()
    missing = np.ones(len(wanted), bool)
    with Reader(store, codec_of(store, index)) as reader:
        for group in row_groups(read_directory(store, index, labels)):
            ids = group.rows_of(reader.read(group, ["image_id"]))["image_id"]
            place = codes(ids.combine_chunks(), wanted)
            rows = np.flatnonzero(place >= 0)
            if not len(rows):
                continue
            vectors = group.rows_of(reader.read(group, ["embedding"]))["embedding"]
            first = 0
            for chunk in vectors.chunks:
                inside = rows[(rows >= first) & (rows < first + len(chunk))]
                halves = chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, index.dim)
                found[place[inside]] = halves[inside - first].astype(np.float32)
                first += len(chunk)
            missing[place[rows]] = False
    if missing.any():
        raise _not_there(index, wanted.filter(pa.array(missing)), len(wanted))


def pool_sample(store: Store, index: IndexInfo) -> pa.Table:
    """Read a uniform sample of the pool: schemas.clustered, by label and image_id.

    At most 100,000 rows (256 MiB of vectors), the whole pool where it is smaller; always the same
    for the same pool. See `dcd.index.sample`.
    """
    return read_sample(store, keys.index_sample(index.prefix), index.dim)


def read_sample(store: Store, key: str, dim: int) -> pa.Table:
    """Read what `write_sample` wrote: schemas.clustered."""
    sample = store.read_table(key)
    schema = schemas.clustered(dim)
    if not pa.types.is_fixed_size_list(sample["embedding"].type):  # as versions before wrote it
        kind = schema.field("embedding")
        lists = blobs_as_lists(sample["embedding"], kind.type)
        sample = with_column(sample, "embedding", lists, kind)
    return schemas.conform(sample, schema, "pool sample")


def read_directory(store: Store, index: IndexInfo, labels: pa.Array | None = None) -> pa.Table:
    """Read where the rows of some labels (None: all) are: the columns of `DIRECTORY`, in order."""
    directory = store.read_table(keys.index_labels(index.prefix))
    if labels is None:
        return directory
    return directory.filter(pc.is_in(directory["label"], value_set=pc.unique(labels)))


def shared_sample(store: Store, index: IndexInfo) -> pa.Table:
    """Read `pool_sample` once for all selections and models of a run, and hold it."""
    return held_sample(store.url, index.pool, index.encoder_id, index.index_id)


def _not_there(index: IndexInfo, missing: pa.Array, n_wanted: int) -> DataError:
    return DataError(
        f"index {index.index_id} of pool {index.pool}: {len(missing)} of {n_wanted} images "
        f"are not in it, such as {missing[0].as_py()!r}; select again on this index"
    )


@lru_cache(maxsize=1)
def held_sample(url: str, pool: str, encoder_id: str, index_id: str) -> pa.Table:
    """Read `pool_sample` of the index with these ids; the last one asked for is held."""
    store = Store(url)
    return pool_sample(store, index_info(store, pool, encoder_id, index_id))
