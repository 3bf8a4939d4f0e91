"""Labelled splits: which images belong to train, test or an error sample, with what labels.

A split is a view of an image source: the embeddings of the source's shards joined with the labels
table. Sources are embedded once however many splits share them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from dcd import keys, schemas, sql
from dcd.config import SPLITS, DataConfig, RunConfig
from dcd.errors import DataError, LabelError
from dcd.filesystems import locate
from dcd.pool import RawImage, fetch_images, shards_from_table
from dcd.store import Store

_LABELS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("mode", pa.string()),
    ]
)


@dataclass(frozen=True)
class Source:
    """Images that are embedded once: `id` names them in the store, `data` says how to read them."""

    id: str
    data: DataConfig


def source_of(data: DataConfig) -> Source:
    """The image source of a data set; data sets with the same images share one."""
    reading = DataConfig(
        images=data.images,
        label_column=None if data.labels else data.label_column,
        id_column=data.id_column,
        image_column=data.image_column,
    )
    return Source(keys.pool_id(data.images, getattr(data, "name", None)), reading)


def sources(config: RunConfig) -> list[Source]:
    """Every distinct image source of a run, the pool's first.

    A split whose images are those of the pool reads the pool's embeddings, under its name.
    """
    pool = source_of(config.pool)
    found = {config.pool.images: pool}
    for seed in config.seeds:
        for split in SPLITS:
            data = config.dataset(split, seed)
            if data is not None:
                found.setdefault(data.images, source_of(data))
    return list(found.values())


def read_labels(
    data: DataConfig, place: str, *, several_per_image: bool = False
) -> pa.Table | None:
    """The rows (image_id, label, mode) of a data set's labels table; None if it names none.

    `place` is the config section, for messages. `mode` is null where the table has no such
    column. Raises DataError if the table cannot be read, LabelError if columns, labels or ids
    are missing or, unless `several_per_image`, an image has two labels.
    """
    if data.labels is None:
        return None
    column = data.label_column or "label"
    rows = sql.filter_rows(read_any_table(data.labels, place), data.where, f"{place}.where")
    absent = {"image_id", column} - set(rows.column_names)
    if absent:
        raise LabelError(
            f"{place}.labels: {data.labels} has no column {sorted(absent)}; it has "
            f"{rows.column_names}; name the label column with label_column"
        )
    if rows.num_rows == 0:
        raise LabelError(
            f"{place}: no row of {data.labels} is left"
            + (f" where {data.where}" if data.where else "")
            + "; check `labels` and `where`"
        )
    modes = rows["mode"] if "mode" in rows.column_names else pa.nulls(rows.num_rows)
    labels = pa.table({"image_id": rows["image_id"], "label": rows[column], "mode": modes})
    for name in ("image_id", "label"):
        if labels[name].null_count:
            raise LabelError(
                f"{place}.labels: {data.labels} has {labels[name].null_count} rows without "
                f"{name if name == 'image_id' else column}; fill or remove them"
            )
    labels = labels.cast(_LABELS).sort_by([("image_id", "ascending"), ("label", "ascending")])
    n_distinct = pc.count_distinct(labels["image_id"]).as_py()
    if n_distinct < labels.num_rows and not several_per_image:
        raise LabelError(
            f"{place}.labels: {data.labels} lists {labels.num_rows - n_distinct} images twice; "
            "give every image one row (or narrow `where`)"
        )
    return labels


def read_any_table(uri: str, place: str, as_text: Sequence[str] = ("image_id",)) -> pa.Table:
    """A Parquet or CSV table, by its suffix. Raises DataError naming `place` and the URI.

    as_text: columns of a CSV that are text whatever they look like: 000123 is no number.
    """
    located = locate(uri)
    try:
        with located.fs.open(located.path, "rb") as file:
            if uri.lower().endswith((".csv", ".csv.gz", ".tsv")):
                return pacsv.read_csv(
                    pa.input_stream(file, compression="detect"),
                    parse_options=pacsv.ParseOptions(delimiter="\t" if ".tsv" in uri else ","),
                    convert_options=pacsv.ConvertOptions(
                        column_types=dict.fromkeys(as_text, pa.string())
                    ),
                )
            return pq.read_table(file)
    except FileNotFoundError as err:
        raise DataError(f"{place}: {uri}: no such file; expected a Parquet or CSV table") from err
    except (OSError, pa.ArrowInvalid) as err:
        form = "CSV" if ".csv" in uri else "Parquet"
        raise DataError(f"{place}: {uri}: cannot be read as a {form} table: {err}") from err


def gather(
    store: Store,
    source_id: str,
    encoder_id: str,
    shard_names: Iterable[str],
    labels: pa.Table | None,
    place: str,
    *,
    unique: bool = False,
) -> pa.Table:
    """The labelled features of a split: schemas.labelled_features plus `shard`, sorted by image_id.

    unique: an id names the same picture wherever it stands, so that its first shard counts.
    `labels` picks and labels the images; None takes every image with the label of its source.
    Raises LabelError for images that have no label, DataError if labelled images are nowhere.
    """
    parts = []
    for shard in shard_names:
        key = keys.embeddings(source_id, encoder_id, shard)
        if labels is not None:
            ids = store.read_table(key, ["image_id"])["image_id"]
            if not pc.any(pc.is_in(ids, value_set=labels["image_id"])).as_py():
                continue
        part = store.read_table(key)
        if labels is not None:
            part = part.filter(pc.is_in(part["image_id"], value_set=labels["image_id"]))
        parts.append(part.append_column("shard", pa.repeat(shard, part.num_rows)))
    if not parts:
        raise DataError(f"{place}: none of its images was embedded; check `images` and `labels`")
    rows = pa.concat_tables(parts).replace_schema_metadata(None).combine_chunks()
    if unique:
        numbered = rows.append_column("row", pa.array(range(rows.num_rows), pa.int64()))
        firsts = numbered.group_by("image_id", use_threads=False).aggregate([("row", "min")])
        rows = rows.take(firsts["row_min"].combine_chunks())
    if labels is None:
        if rows["weak_label"].null_count:
            raise LabelError(
                f"{place}: {rows['weak_label'].null_count} of {rows.num_rows} images have no "
                "label; give a `labels` table or label the images"
            )
        labels = pa.table(
            {
                "image_id": rows["image_id"],
                "label": rows["weak_label"],
                "mode": pa.nulls(rows.num_rows, pa.string()),
            }
        )
    return _joined(rows, labels, place)


def _joined(rows: pa.Table, labels: pa.Table, place: str) -> pa.Table:
    if pc.count_distinct(rows["image_id"]).as_py() < rows.num_rows:
        raise DataError(f"{place}: an image_id stands in two shards; make the ids unique")
    row_of_id = pc.index_in(labels["image_id"], value_set=rows["image_id"].combine_chunks())
    found = labels.filter(pc.is_valid(row_of_id))
    if found.num_rows == 0:
        raise DataError(
            f"{place}: no image_id of its labels is among its images; the labels have ids like "
            f"{labels['image_id'][0].as_py()!r}, the images like {rows['image_id'][0].as_py()!r}"
        )
    taken = rows.take(pc.drop_null(row_of_id))
    dim = rows.schema.field("embedding").type.list_size
    table = found.append_column("content_hash", taken["content_hash"])
    table = table.append_column("embedding", taken["embedding"])
    features = schemas.conform(table, schemas.labelled_features(dim), place)
    return features.append_column("shard", taken["shard"]).sort_by("image_id")


def fetch_all(store: Store, of: Sequence[Source], rows: pa.Table) -> Mapping[str, bytes]:
    """Encoded images by id, from several sources. rows: table with image_id and shard."""
    return {raw.image_id: raw.data for raw in fetch_each(store, of, rows)}


def fetch(store: Store, source: Source, rows: pa.Table) -> Mapping[str, bytes]:
    """Encoded images by id. rows: table with image_id and shard. Missing images are left out."""
    return fetch_all(store, [source], rows)


def fetch_each(store: Store, of: Sequence[Source], rows: pa.Table) -> Iterator[RawImage]:
    """The images of `fetch_all` one after the other, by shard: for more than memory holds."""
    wanted_shards = set(rows["shard"].to_pylist())
    for source in of:
        shards = {s.name: s for s in shards_from_table(store.read_table(keys.shards(source.id)))}
        for name in sorted(wanted_shards & shards.keys()):
            wanted = rows.filter(pc.equal(rows["shard"], name))["image_id"].to_pylist()
            yield from fetch_images(shards[name], source.data, wanted)
