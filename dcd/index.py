"""The pool's vectors clustered by label, so that a label costs a few contiguous reads.

An index is addressed by what it holds: the embedded shards, the labels and the settings. Its files
are `vectors-*.parquet` (rows by label, list and image_id; vectors as bytes), `labels.parquet`
(where each label's rows are), `sample.parquet` (a uniform sample of the rows), `lists.parquet` and
`codec.parquet` where there are such, `sources.json` (what it was made of) and, written last,
`index.json`. An index that was appended to another names the files of that one too: they are its
segments.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from dcd import keys, schemas
from dcd.errors import DataError
from dcd.layout import read_codec
from dcd.quantizers import Codec, Storage
from dcd.row_groups import Reader, row_groups
from dcd.store import Store

INDEX_FILES = 5  # of an index, at least: vectors, labels, sample, sources, index.json


@dataclass(frozen=True)
class ListInfo:
    """How a label too large to scan is searched. recall: of the 50 nearest, by lists probed."""

    n_lists: int
    n_probed: int
    n_train: int
    n_heldout: int
    recall: Mapping[str, float]


@dataclass(frozen=True)
class IndexInfo:
    """A finished index and its counts.

    Of n_images embedded ones, n_unlabelled have no label and n_duplicates rows repeated an image of
    another shard: both are left out. An image with several labels has a row for each:
    n_rows = n_images - n_unlabelled - n_duplicates + n_extra_labels = sum of label_counts.
    segments: the indexes whose files hold the rows, this one last. code_recall: recall@50 of the
    codes against float16, None for float16. explanation: why it is laid out as it is.
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
    segments: tuple[str, ...]
    storage: Storage = "float16"
    code_recall: float | None = None
    lists: Mapping[str, ListInfo] = field(default_factory=dict)
    explanation: str = ""

    @property
    def prefix(self) -> str:
        return keys.index(self.pool, self.encoder_id, self.index_id)

    @property
    def layout_prefix(self) -> str:
        """Where lists.parquet and codec.parquet are: with the first segment."""
        return keys.index(self.pool, self.encoder_id, self.segments[0])


def index_info(store: Store, pool: str, encoder_id: str, index_id: str) -> IndexInfo:
    """The counts of a finished index. Raises StoreError if there is none."""
    found = json.loads(store.read_bytes(info_key(pool, encoder_id, index_id)))
    found["lists"] = {label: ListInfo(**info) for label, info in found["lists"].items()}
    found["segments"] = tuple(found["segments"])
    return IndexInfo(**found)


def index_ids(store: Store, pool: str, encoder_id: str) -> list[str]:
    """The finished indexes of a pool, of this format."""
    found = store.keys_under(keys.index(pool, encoder_id, "").rstrip("/"))
    by_name = [key.rsplit("/", 2)[-2:] for key in found]
    of_format = {index_id for index_id, name in by_name if name == "sources.json"}
    return sorted(i for i, name in by_name if name == "index.json" and i in of_format)


def indexes(store: Store, pool: str, encoder_id: str) -> list[IndexInfo]:
    """All finished indexes of a pool, of this format."""
    found = index_ids(store, pool, encoder_id)
    return [index_info(store, pool, encoder_id, index_id) for index_id in found]


def write_info(store: Store, info: IndexInfo) -> None:
    """Publish `index.json`: from then on the index is there."""
    store.write_bytes(info_key(info.pool, info.encoder_id, info.index_id), info_text(info))


def info_text(info: IndexInfo) -> bytes:
    return json.dumps(asdict(info), indent=1, ensure_ascii=False).encode()


def info_key(pool: str, encoder_id: str, index_id: str) -> str:
    return f"{keys.index(pool, encoder_id, index_id)}/index.json"


def codec_of(store: Store, index: IndexInfo) -> Codec | None:
    """What decodes the vectors of an index; None where they are float16."""
    return None if index.storage == "float16" else read_codec(store, index.layout_prefix)


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
    """image_id, label, content_hash, embedding of these images, by image_id, then label.

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
    sample = store.read_table(f"{index.prefix}/sample.parquet")
    return schemas.conform(sample, schemas.clustered(index.dim), "pool sample")


def read_directory(store: Store, index: IndexInfo, labels: pa.Array | None = None) -> pa.Table:
    """Where the rows of some labels (None: of all) are: the columns of `DIRECTORY`, in order."""
    directory = store.read_table(f"{index.prefix}/labels.parquet")
    if labels is None:
        return directory
    return directory.filter(pc.is_in(directory["label"], value_set=pc.unique(labels)))
