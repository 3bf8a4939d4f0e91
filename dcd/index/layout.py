"""Plan from the sizes of its labels how the vectors of an index are stored and searched.

A label that is small enough is scanned. A larger one is cut into lists around k-means centres, of
which a search probes a few (IVF). Vectors are float16, or codes of a quantiser.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import IndexConfig
from dcd.index.quantizers import Codec, nearest_lists, train_centroids, train_codec
from dcd.index.sample import BottomK
from dcd.store import Store, keys
from dcd.tables import schemas
from dcd.tables.vectors import embedding_matrix

NO_LIST = -1
_LIST_BYTES = 2**20  # of float16 vectors: about one read of an object store
_MAX_LISTS = 4096
_TRAIN_ROWS_PER_LIST = 64  # faiss asks for 39 at least
_TRAIN_BYTES = 2**27  # of float16 vectors, over all labels with lists
CODEC_ROWS = 2**15
_SAMPLE_BYTES = 2**28
_HELDOUT_ROWS = 64  # of a label with lists, and of all other labels together


@dataclass(frozen=True)
class Layout:
    """centroids: by label with lists, (n_lists, D) float32. codec: None for float16.

    heldout: by label, rows that nothing was trained on, for measuring recall. n_train: by label
    with lists. Neither is kept in the store.
    """

    codec: Codec | None
    centroids: Mapping[str, np.ndarray]
    heldout: Mapping[str, pa.Table] = field(default_factory=dict)
    n_train: Mapping[str, int] = field(default_factory=dict)

    def lists_of(self, rows: pa.Table) -> pa.Array:
        """Return the list of every row: int32, NO_LIST in labels without lists."""
        lists = np.full(rows.num_rows, NO_LIST, np.int32)
        if self.centroids:
            labels = rows["weak_label"].combine_chunks()
            for label in pc.unique(labels).to_pylist():
                if label in self.centroids:
                    here = pc.equal(labels, label).to_numpy(zero_copy_only=False)
                    vectors = embedding_matrix(rows.filter(pa.array(here)))
                    lists[here] = nearest_lists(vectors, self.centroids[label], 1)[:, 0]
        return pa.array(lists)


def plan(
    counts: Mapping[str, int],
    dim: int,
    config: IndexConfig,
    rows: Callable[[], Iterator[pa.Table]],
) -> Layout:
    """Choose the labels that get lists, and train these and the codec on a sample of the rows.

    counts: rows by label, at least. rows: `schemas.clustered` in any order; read once, and only if
    there is something to train. The same rows give the same layout, in whatever order they come.
    """
    planned = {label: lists_of_label(n, dim, config) for label, n in counts.items()}
    n_lists = {label: n for label, n in planned.items() if n}
    if not n_lists and config.storage == "float16":
        return Layout(None, {})
    schema = schemas.clustered(dim)
    share = min(
        1.0, _TRAIN_BYTES / (2 * dim * _TRAIN_ROWS_PER_LIST * max(1, sum(n_lists.values())))
    )
    sketches = {
        label: BottomK(int(n * _TRAIN_ROWS_PER_LIST * share) + _HELDOUT_ROWS, schema)
        for label, n in n_lists.items()
    }
    of_all = BottomK(CODEC_ROWS + _HELDOUT_ROWS, schema)
    for batch in rows():
        for label, sketch in sketches.items():
            sketch.take(batch.filter(pc.equal(batch["weak_label"], label)))
        if config.storage != "float16":
            of_all.take(batch)
    centroids, heldout, n_train = {}, {}, {}
    for label, sketch in sketches.items():
        train, heldout[label] = _split(sketch.table())
        n_train[label] = train.num_rows
        if train.num_rows < 2:
            continue
        centroids[label] = train_centroids(
            embedding_matrix(train), min(n_lists[label], train.num_rows)
        )
    codec = None
    if config.storage != "float16":
        train, other = _split(of_all.table())
        codec = train_codec(embedding_matrix(train), config.storage, config.pq_bytes)
        for label in pc.unique(other["weak_label"]).to_pylist():
            heldout.setdefault(label, other.filter(pc.equal(other["weak_label"], label)))
    return Layout(codec, centroids, heldout, n_train)


def lists_of_label(n_rows: int, dim: int, config: IndexConfig) -> int:
    """Return how many lists a label is cut into; 0 where it is scanned."""
    if 2 * dim * n_rows <= config.max_scan_bytes:
        return 0
    return min(max(2, 2 * dim * n_rows // _LIST_BYTES), _MAX_LISTS)


def sample_rows(config: IndexConfig, dim: int) -> int:
    """Return the most rows of the sample of the pool."""
    return min(config.sample_rows, _SAMPLE_BYTES // (2 * dim))


def write_layout(store: Store, prefix: str, layout: Layout) -> None:
    """Publish what searching needs: `lists.parquet` and `codec.parquet`, where there are such."""
    if layout.centroids:
        store.write_table(keys.index_lists(prefix), centroid_table(layout.centroids))
    if layout.codec is not None:
        codec = layout.codec
        made_of = {"storage": codec.storage, "dim": str(codec.dim)}
        store.write_table(
            keys.index_codec(prefix),
            codec_table(codec.parameters),
            metadata={**made_of, "code_bytes": str(codec.code_bytes)},
        )


def read_centroids(store: Store, prefix: str) -> dict[str, np.ndarray]:
    """Read centroids by label: (n_lists, D) float32."""
    table = store.read_table(keys.index_lists(prefix)).combine_chunks()
    labels = table["label"].combine_chunks()
    vectors = table["centroid"].combine_chunks()
    found = {}
    for label in pc.unique(labels).to_pylist():
        of_label = vectors.filter(pc.equal(labels, label))
        found[label] = of_label.flatten().to_numpy().reshape(len(of_label), -1)
    return found


def read_codec(store: Store, prefix: str) -> Codec:
    table = store.read_table(keys.index_codec(prefix))
    made_of = store.read_metadata(keys.index_codec(prefix))
    storage = "int8" if made_of["storage"] == "int8" else "pq"
    parameters = table["parameter"].combine_chunks().to_numpy()
    return Codec(storage, int(made_of["dim"]), int(made_of["code_bytes"]), parameters)


def _split(sample: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Train and held-out rows, evenly spread over a sample."""
    n_heldout = min(_HELDOUT_ROWS, sample.num_rows // 2)
    heldout = np.zeros(sample.num_rows, bool)
    heldout[np.linspace(0, sample.num_rows - 1, n_heldout).astype(int)] = True
    return sample.filter(pa.array(~heldout)), sample.filter(pa.array(heldout))


def centroid_table(centroids: Mapping[str, np.ndarray]) -> pa.Table:
    """Make what `lists.parquet` holds. centroids: by label, (n_lists, D) float32."""
    return pa.concat_tables(
        pa.table(
            {
                "label": pa.repeat(label, len(centres)),
                "centroid": pa.FixedSizeListArray.from_arrays(
                    pa.array(centres.ravel()), centres.shape[1]
                ),
            }
        )
        for label, centres in sorted(centroids.items())
    )


def codec_table(parameters: np.ndarray) -> pa.Table:
    """Make what `codec.parquet` holds. parameters: (n,) float32."""
    return pa.table({"parameter": parameters})
