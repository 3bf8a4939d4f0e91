"""The pool's vectors clustered by label, so that a label costs a few contiguous reads.

An index is addressed by what it holds: the embedded shards and the labels. Its files are
`vectors-*.parquet` (rows sorted by label, then image_id), `labels.parquet` (where each label's
rows are), `sample.parquet` (a uniform sample of the rows) and, written last, `index.json`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc

from dcd import keys, schemas
from dcd.clustering import Tally, cluster
from dcd.embedded import find_embedded, read_rows
from dcd.errors import CountMismatch, DataError
from dcd.row_groups import DIRECTORY, Reader, row_groups
from dcd.sampling import BottomRows
from dcd.store import Store

# Raised whenever the same embeddings would give other files.
_INDEX_FORMAT = 2
_SAMPLE_ROWS = 100_000
_SAMPLE_BYTES = 2**28
DEFAULT_MAX_MEMORY_BYTES = 2 * 2**30


@dataclass(frozen=True)
class IndexInfo:
    """A finished index and its counts.

    Of n_images embedded ones, n_unlabelled have no label and n_duplicates rows repeated an image of
    another shard: both are left out. An image with several labels has a row for each:
    n_rows = n_images - n_unlabelled - n_duplicates + n_extra_labels = sum of label_counts.
    """

    pool: str
    encoder_id: str
    index_id: str
    dim: int
    n_images: int
    n_rows: int
    n_unlabelled: int
    n_extra_labels: int
    n_duplicates: int
    label_counts: Mapping[str, int]


def build_index(
    store: Store,
    pool: str,
    encoder_id: str,
    shards: Sequence[str],
    labels: pa.Table | None,
    max_memory_bytes: int = DEFAULT_MAX_MEMORY_BYTES,
) -> IndexInfo:
    """Cluster the embeddings of `shards` by label, unless that index exists already.

    labels: image_id, label or weak_label, label; replaces the weak labels, images absent from it
    drop out, an image with several labels gets a row for each. The process stays under
    `max_memory_bytes`; what does not fit is sorted on disk. Raises DataError if a shard is not
    embedded or its rows cannot be read, EncoderMismatch if another encoder made it, CountMismatch
    if rows were lost.
    """
    embedded = find_embedded(store, pool, encoder_id, shards)
    if labels is not None:
        labels = _distinct_labels(labels)
    content = None if labels is None else keys.table_digest(labels)
    identities = [[shard.name, shard.identity] for shard in embedded]
    index_id = keys.digest("index", _INDEX_FORMAT, pool, encoder_id, identities, content)
    if store.exists(_info_key(pool, encoder_id, index_id)):
        return index_info(store, pool, encoder_id, index_id)
    dim = embedded[0].dim
    prefix = keys.index(pool, encoder_id, index_id)
    tally = Tally()
    sample = BottomRows(min(_SAMPLE_ROWS, _SAMPLE_BYTES // (2 * dim)), schemas.clustered(dim))
    parts = cluster(read_rows(store, embedded), labels, dim, max_memory_bytes, tally, sample)
    runs = [DIRECTORY.empty_table()]
    for number, part in enumerate(parts):
        key = f"{prefix}/vectors-{number:05d}.parquet"
        store.publish_file(part.path, key)
        runs.append(part.runs.append_column("part", pa.repeat(key, part.runs.num_rows)))
    directory = pa.concat_tables(runs)
    store.write_table(f"{prefix}/labels.parquet", directory)
    store.write_table(f"{prefix}/sample.parquet", sample.table())
    info = IndexInfo(
        pool,
        encoder_id,
        index_id,
        dim,
        n_images=sum(shard.n_embedded for shard in embedded),
        label_counts=_label_counts(directory),
        **asdict(tally),
    )
    _reconcile(info)
    store.write_bytes(_info_key(pool, encoder_id, index_id), _to_json(info))
    return info


def index_info(store: Store, pool: str, encoder_id: str, index_id: str) -> IndexInfo:
    """The counts of a finished index. Raises StoreError if there is none."""
    return IndexInfo(**json.loads(store.read_bytes(_info_key(pool, encoder_id, index_id))))


def pool_rows(store: Store, index: IndexInfo, labels: pa.Array | None = None) -> pa.Table:
    """image_id, label, shard, content_hash of all rows, or of some labels, by label and image_id.

    Reads no vectors.
    """
    columns = ["image_id", "weak_label", "shard", "content_hash"]
    schema = schemas.clustered(index.dim)
    parts = [pa.schema([schema.field(name) for name in columns]).empty_table()]
    with Reader(store) as reader:
        for group in row_groups(read_directory(store, index, labels)):
            parts.append(group.rows_of(reader.read(group, columns)))
    table = pa.concat_tables(parts).combine_chunks()
    return table.rename_columns(["image_id", "label", "shard", "content_hash"])


def vectors_of(
    store: Store,
    index: IndexInfo,
    image_ids: pa.Array | pa.ChunkedArray,
    labels: pa.Array | None = None,
) -> pa.Table:
    """image_id, label, content_hash, embedding of these images, by image_id, then label.

    An image with several labels has several rows. `labels` names the labels to look under and
    saves reading the ids of the others. Raises DataError if an image is not there.
    """
    wanted = pc.unique(image_ids)
    columns = ["image_id", "weak_label", "content_hash", "embedding"]
    schema = schemas.clustered(index.dim)
    found = [pa.schema([schema.field(name) for name in columns]).empty_table()]
    with Reader(store) as reader:
        for group in row_groups(read_directory(store, index, labels)):
            ids = group.rows_of(reader.read(group, ["image_id"]))["image_id"]
            mask = pc.is_in(ids, value_set=wanted)
            if pc.any(mask).as_py():
                found.append(group.rows_of(reader.read(group, columns)).filter(mask))
    names = ["image_id", "label", "content_hash", "embedding"]
    table = pa.concat_tables(found).rename_columns(names)
    missing = wanted.filter(pc.invert(pc.is_in(wanted, value_set=pc.unique(table["image_id"]))))
    if len(missing):
        raise DataError(
            f"index {index.index_id} of pool {index.pool}: {len(missing)} of {len(wanted)} images "
            f"are not in it, such as {missing[0].as_py()!r}; select again on this index"
        )
    return table.sort_by([("image_id", "ascending"), ("label", "ascending")]).combine_chunks()


def pool_sample(store: Store, index: IndexInfo) -> pa.Table:
    """A uniform sample of the pool: schemas.clustered, by label and image_id.

    At most 100,000 rows (256 MiB of vectors), the whole pool where it is smaller; always the same
    for the same pool. See `dcd.sampling`.
    """
    prefix = keys.index(index.pool, index.encoder_id, index.index_id)
    sample = store.read_table(f"{prefix}/sample.parquet")
    return schemas.conform(sample, schemas.clustered(index.dim), "pool sample")


def read_directory(store: Store, index: IndexInfo, labels: pa.Array | None = None) -> pa.Table:
    """Where the rows of some labels (None: of all) are: the columns of `DIRECTORY`, in order."""
    prefix = keys.index(index.pool, index.encoder_id, index.index_id)
    directory = store.read_table(f"{prefix}/labels.parquet")
    if labels is None:
        return directory
    return directory.filter(pc.is_in(directory["label"], value_set=pc.unique(labels)))


def _distinct_labels(labels: pa.Table) -> pa.Table:
    """Key and label without nulls or repeats, sorted: the same labels give the same digest."""
    key = "image_id" if "image_id" in labels.column_names else "weak_label"
    pairs = labels.select([key, "label"]).drop_null()
    distinct = pairs.group_by([key, "label"], use_threads=False).aggregate([])
    return distinct.sort_by([(key, "ascending"), ("label", "ascending")])


def _label_counts(directory: pa.Table) -> dict[str, int]:
    sums = directory.group_by("label", use_threads=False).aggregate([("n_rows", "sum")])
    pairs = zip(sums["label"].to_pylist(), sums["n_rows_sum"].to_pylist(), strict=True)
    return dict(sorted(pairs))


def _reconcile(info: IndexInfo) -> None:
    kept = info.n_images - info.n_unlabelled - info.n_duplicates + info.n_extra_labels
    in_labels = sum(info.label_counts.values())
    if not kept == info.n_rows == in_labels:
        raise CountMismatch(
            f"index {info.index_id} of pool {info.pool}: {info.n_images} images embedded - "
            f"{info.n_unlabelled} unlabelled - {info.n_duplicates} duplicates + "
            f"{info.n_extra_labels} extra labels = {kept}, but {info.n_rows} rows written and "
            f"{in_labels} listed by label; nothing was published, report this"
        )


def _info_key(pool: str, encoder_id: str, index_id: str) -> str:
    return f"{keys.index(pool, encoder_id, index_id)}/index.json"


def _to_json(info: IndexInfo) -> bytes:
    return json.dumps(asdict(info), indent=1, ensure_ascii=False).encode()
