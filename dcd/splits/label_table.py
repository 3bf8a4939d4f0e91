"""Tables of labels: from a CSV or Parquet file to an image_id and a label for every row."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from dcd.config import DataConfig
from dcd.errors import DataError, LabelError
from dcd.store.filesystems import locate
from dcd.tables import sql

_LABELS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("mode", pa.string()),
    ]
)


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
