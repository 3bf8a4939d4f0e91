"""The pool's vectors clustered by label, so that a label costs a few contiguous reads.

An index is addressed by what it holds: the embedded shards and the labels. Its files are
`vectors-*.parquet` (rows sorted by label, then image_id), `labels.parquet` (where each label's
rows are) and, written last, `index.json`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dcd import keys, schemas
from dcd.clustering import RUNS, Tally, cluster
from dcd.errors import CountMismatch, DataError, EncoderMismatch
from dcd.store import Store
from dcd.store_errors import explained

# Raised whenever the same embeddings would give other files.
_INDEX_FORMAT = 1
_READ_BATCH_ROWS = 8192
_METADATA_READERS = 16
DEFAULT_MAX_MEMORY_BYTES = 2 * 2**30

DIRECTORY = RUNS.append(pa.field("part", pa.string()))


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


@dataclass(frozen=True)
class _EmbeddedShard:
    """An embedded shard: `identity` changes whenever its rows may have changed."""

    name: str
    key: str
    dim: int
    identity: tuple[str, str]
    n_embedded: int


def build_index(
    store: Store,
    pool: str,
    encoder_id: str,
    shards: Sequence[str],
    labels: pa.Table | None,
    max_memory_bytes: int = DEFAULT_MAX_MEMORY_BYTES,
) -> IndexInfo:
    """Cluster the embeddings of `shards` by label, unless that index exists already.

    labels: image_id, label; replaces the weak labels, images absent from it drop out, an image
    with several labels gets a row for each. The process stays under `max_memory_bytes`; what does
    not fit is sorted on disk. Raises DataError if a shard is not embedded or its rows cannot be
    read, EncoderMismatch if another encoder made it, CountMismatch if rows were lost.
    """
    embedded = _embedded_shards(store, pool, encoder_id, shards)
    if labels is not None:
        labels = _distinct_labels(labels)
    content = None if labels is None else keys.table_digest(labels)
    identities = [[shard.name, *shard.identity] for shard in embedded]
    index_id = keys.digest("index", _INDEX_FORMAT, pool, encoder_id, identities, content)
    if store.exists(_info_key(pool, encoder_id, index_id)):
        return index_info(store, pool, encoder_id, index_id)
    dim = embedded[0].dim
    prefix = keys.index(pool, encoder_id, index_id)
    tally = Tally()
    parts = cluster(_rows(store, embedded), labels, dim, max_memory_bytes, tally)
    runs = [DIRECTORY.empty_table()]
    for number, part in enumerate(parts):
        key = f"{prefix}/vectors-{number:05d}.parquet"
        store.publish_file(part.path, key)
        runs.append(part.runs.append_column("part", pa.repeat(key, part.runs.num_rows)))
    directory = pa.concat_tables(runs)
    store.write_table(f"{prefix}/labels.parquet", directory)
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
    with _Reader(store) as reader:
        for group in _row_groups(read_directory(store, index, labels)):
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
    with _Reader(store) as reader:
        for group in _row_groups(read_directory(store, index, labels)):
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


def read_directory(store: Store, index: IndexInfo, labels: pa.Array | None = None) -> pa.Table:
    """Where the rows of some labels (None: of all) are: the columns of `DIRECTORY`, in order."""
    prefix = keys.index(index.pool, index.encoder_id, index.index_id)
    directory = store.read_table(f"{prefix}/labels.parquet")
    if labels is None:
        return directory
    return directory.filter(pc.is_in(directory["label"], value_set=pc.unique(labels)))


def read_pieces(store: Store, directory: pa.Table, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The rows that a directory lists, one row group after the other, and only their columns.

    columns: of `schemas.clustered`.
    """
    with _Reader(store) as reader:
        for group in _row_groups(directory):
            yield group.rows_of(reader.read(group, columns))


@dataclass(frozen=True)
class _RowGroup:
    """A row group of a file, and the row ranges of it that are wanted: (offset, n_rows)."""

    part: str
    number: int
    ranges: tuple[tuple[int, int], ...]

    def rows_of(self, table: pa.Table) -> pa.Table:
        return pa.concat_tables([table.slice(*run) for run in self.ranges])


def _row_groups(directory: pa.Table) -> list[_RowGroup]:
    ranges: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for run in directory.to_pylist():
        at = (run["part"], run["row_group"])
        ranges.setdefault(at, []).append((run["offset"], run["n_rows"]))
    return [_RowGroup(*at, tuple(runs)) for at, runs in ranges.items()]


class _Reader:
    """Row groups of an index's files; one file is open at a time."""

    def __init__(self, store: Store):
        self._store = store
        self._part: str | None = None
        self._file: pq.ParquetFile | None = None

    def __enter__(self) -> "_Reader":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close(force=True)

    def read(self, group: _RowGroup, columns: Sequence[str]) -> pa.Table:
        with explained(self._store.uri(group.part), "read"):
            if group.part != self._part or self._file is None:
                self.__exit__()
                source = self._store.arrow().open_input_file(self._store.path(group.part))
                self._part, self._file = group.part, pq.ParquetFile(source, pre_buffer=True)
            # Arrow's own threads make a read of few, large columns slower (measured: 3 times).
            return self._file.read_row_group(group.number, list(columns), use_threads=False)


def _embedded_shards(
    store: Store, pool: str, encoder_id: str, shards: Sequence[str]
) -> list[_EmbeddedShard]:
    if not shards:
        raise DataError(f"pool {pool}: it has no shards; expected at least one to index")
    with ThreadPoolExecutor(_METADATA_READERS) as readers:
        found = readers.map(
            lambda shard: _embedded_shard(store, pool, encoder_id, shard), sorted(shards)
        )
        embedded = list(found)
    for shard in embedded:
        if shard.dim != embedded[0].dim:
            raise EncoderMismatch(
                f"{store.uri(shard.key)}: vectors of {shard.dim} numbers, those of shard "
                f"{embedded[0].name} have {embedded[0].dim}; embed the pool with one encoder"
            )
    return embedded


def _embedded_shard(store: Store, pool: str, encoder_id: str, shard: str) -> _EmbeddedShard:
    key = keys.embeddings(pool, encoder_id, shard)
    if not store.exists(key):
        raise DataError(f"{store.uri(key)}: shard {shard} is not embedded; embed the pool first")
    with explained(store.uri(key), "read"):
        schema = pq.read_schema(store.path(key), filesystem=store.arrow())
    metadata = {name.decode(): value.decode() for name, value in (schema.metadata or {}).items()}
    found = metadata.get("encoder_id")
    if found != encoder_id:
        raise EncoderMismatch(
            f"{store.uri(key)}: made by encoder {found}, expected {encoder_id}; embed it again"
        )
    identity = metadata["code_format"], metadata["source_etag"]
    dim = schema.field("embedding").type.list_size
    return _EmbeddedShard(shard, key, dim, identity, int(metadata["n_embedded"]))


def _distinct_labels(labels: pa.Table) -> pa.Table:
    """image_id, label without nulls or repeats, sorted: the same labels give the same digest."""
    pairs = labels.select(["image_id", "label"]).drop_null()
    distinct = pairs.group_by(["image_id", "label"], use_threads=False).aggregate([])
    return distinct.sort_by([("image_id", "ascending"), ("label", "ascending")])


def _rows(store: Store, embedded: Sequence[_EmbeddedShard]) -> Iterator[pa.RecordBatch]:
    for shard in embedded:
        schema = schemas.embeddings(shard.dim)
        with (
            explained(store.uri(shard.key), "read"),
            store.arrow().open_input_file(store.path(shard.key)) as source,
            pq.ParquetFile(source) as file,
        ):
            n_rows = 0
            for batch in file.iter_batches(_READ_BATCH_ROWS, columns=schema.names):
                rows = schemas.conform(pa.table(batch), schema, store.uri(shard.key))
                _refuse_non_finite(rows, store.uri(shard.key))
                n_rows += rows.num_rows
                named = rows.append_column("shard", pa.repeat(shard.name, rows.num_rows))
                yield from named.to_batches()
        if n_rows != shard.n_embedded:
            raise CountMismatch(
                f"{store.uri(shard.key)}: {n_rows} rows, its metadata announces "
                f"{shard.n_embedded}; delete it and embed the shard again"
            )


def _refuse_non_finite(rows: pa.Table, uri: str) -> None:
    finite = np.isfinite(schemas.vectors(rows)).all(axis=1)
    if not finite.all():
        bad = rows["image_id"].filter(pa.array(~finite))
        raise DataError(
            f"{uri}: {len(bad)} vectors hold NaN or infinite numbers, such as that of image "
            f"{bad[0].as_py()!r}; delete it and embed the shard again"
        )


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
