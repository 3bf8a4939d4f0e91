"""Tables of labels: from a file of any form to an image_id and a label for every row.

What counts as a label or an id is decided by `dcd.tables.labels` alone; a blank cell is a missing
label, whatever the file. What was cleaned or guessed is told in notes.
"""

import logging
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import DataConfig, PoolConfig
from dcd.errors import LabelError
from dcd.sources.tables import TableFile, open_table
from dcd.tables import predicates
from dcd.tables.labels import LabelColumn, cleaned, id_column, spelling_notes

log = logging.getLogger(__name__)
_LABELS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("mode", pa.string()),
    ]
)


@dataclass(frozen=True)
class LabelTable:
    """rows: image_id, label and, of a data set, mode. notes: what was cleaned or guessed.

    blank: image_id of rows without a label, where such may be.
    """

    rows: pa.Table
    notes: tuple[str, ...] = ()
    blank: pa.Array | pa.ChunkedArray | None = None

    def told(self) -> pa.Table:
        """Return the rows, and log the notes: a flow that nobody validated tells them too."""
        for note in self.notes:
            _log_once(note)
        return self.rows


@lru_cache(maxsize=1024)  # a table is read for every seed and stage
def _log_once(note: str) -> None:
    log.warning("%s", note)


def read_label_table(
    data: DataConfig,
    place: str,
    *,
    several_per_image: bool = False,
    may_lack_labels: bool = False,
) -> LabelTable | None:
    """Read the rows (image_id, label, mode) of a data set's labels table; None if it names none.

    `place` is the config section, for messages. `mode` is null where the table has no such
    column. Rows are sorted by image_id, then label. Rows without a label are refused or, with
    `may_lack_labels`, left out, counted in the notes and named in `blank`. Raises DataError if the
    table cannot be read, ConfigError if `where` is no predicate over it, LabelError if columns,
    labels or ids are missing or, unless `several_per_image`, an image stands in two rows that
    differ.
    """
    if data.labels is None:
        return None
    column = data.label_column or "label"
    what = f"{place}.labels: {data.labels}"
    file = open_table(data.labels, f"{place}.labels")
    absent = {"image_id", column} - set(file.names)
    if absent:
        raise LabelError(
            f"{what} has no column {sorted(absent)}; it has {file.names}; "
            + _mended_columns(absent, file.names)
        )
    asked = predicates.named_columns(data.where, file.names)
    table = file.read({"image_id", column, *asked, *({"mode"} & set(file.names))})
    if data.where is not None:
        table = table.take(_rows_where(file, table.select(asked), data.where, place))
    if table.num_rows == 0:
        raise LabelError(
            f"{place}: no row of {data.labels} is left"
            + (f" where {data.where}" if data.where else "")
            + "; check `labels` and `where`"
        )
    labels = cleaned(table[column], file.code_book(column))
    columns = {
        "image_id": _ids(table["image_id"], what),
        "label": _known(labels, column, what)
        if may_lack_labels
        else _complete(labels, column, what),
        "mode": pa.nulls(table.num_rows, pa.string()),
    }
    if "mode" in file.names:
        columns["mode"] = cleaned(table["mode"], file.code_book("mode")).column()
    notes = [file.note] if file.note else []
    rows, blank = _with_label(pa.table(columns), what, notes)
    if pc.count_distinct(rows["image_id"]).as_py() < rows.num_rows:
        distinct = rows.group_by(_LABELS.names, use_threads=False).aggregate([]).cast(_LABELS)
        n_again = rows.num_rows - distinct.num_rows
        if n_again:
            notes.append(f"{data.labels}: {n_again:,} rows repeat another whole row; passed over")
        rows = distinct
        if not several_per_image:
            _refuse_repeats(rows, what)
    rows = rows.sort_by([("image_id", "ascending"), ("label", "ascending")])
    notes += [f"{data.labels}: {note}" for note in spelling_notes(labels.spellings())]
    return LabelTable(rows, tuple(notes), blank)


def _with_label(rows: pa.Table, what: str, notes: list[str]) -> tuple[pa.Table, pa.ChunkedArray]:
    """The rows that have a label, and the ids of the others, which are told.

    Raises LabelError if none has one.
    """
    lacking = rows["label"].is_null()
    blank = rows["image_id"].filter(lacking)
    if len(blank) == rows.num_rows:
        raise LabelError(f"{what}: none of its rows has a label; name another label_column")
    if len(blank):
        notes.append(f"{what}: {len(blank):,} of {rows.num_rows:,} rows have no label")
    return rows.filter(pc.invert(lacking)).cast(_LABELS), blank


def read_labels(
    data: DataConfig, place: str, *, several_per_image: bool = False
) -> pa.Table | None:
    """Read the rows of `read_label_table`."""
    found = read_label_table(data, place, several_per_image=several_per_image)
    return None if found is None else found.told()


def read_true_labels(uri: str, place: str) -> LabelTable:
    """image_id, label of the images whose true label is known, each once, by image_id.

    Raises DataError if the table cannot be read, LabelError if a column is missing or an image has
    two true labels.
    """
    pairs = read_pairs(uri, ("image_id", "label"), place, may_lack_labels=True)
    if len(pc.unique(pairs.rows["image_id"])) < pairs.rows.num_rows:
        _refuse_repeats(pairs.rows, f"{place}: {uri}")
    return pairs


def read_truth(pool: PoolConfig) -> pa.Table | None:
    """Read the rows of the pool's true labels, as `read_true_labels`; None if it names none."""
    if pool.true_labels is None:
        return None
    return read_true_labels(pool.true_labels, "pool.true_labels").told()


def read_pairs(
    uri: str, names: tuple[str, str], place: str, *, may_lack_labels: bool = False
) -> LabelTable:
    """Read the two columns of a table of labels, each pair once, sorted.

    A column named image_id holds ids, others labels. Rows without a label are refused or, with
    `may_lack_labels`, left out and counted in the notes. Raises DataError, LabelError.
    """
    what = f"{place}: {uri}"
    file = open_table(uri, place)
    if not set(names) <= set(file.names):
        raise LabelError(
            f"{what}: expected the columns {' and '.join(names)}, found {file.names}; rename its "
            "columns"
        )
    table = file.read(names)
    notes = [file.note] if file.note else []
    columns = {}
    for name in names:
        if name == "image_id":
            columns[name] = _ids(table[name], what)
            continue
        found = cleaned(table[name], file.code_book(name))
        columns[name] = (
            _known(found, name, what) if may_lack_labels else _complete(found, name, what)
        )
        notes += [f"{uri}: {note}" for note in spelling_notes(found.spellings())]
    pairs = pa.table(columns)
    n_lacking = pairs.num_rows - pairs.drop_null().num_rows
    if n_lacking:
        notes.append(f"{uri}: {n_lacking:,} of {pairs.num_rows:,} rows have no label; passed over")
    distinct = pairs.drop_null().group_by(list(names), use_threads=False).aggregate([])
    return LabelTable(distinct.sort_by([(name, "ascending") for name in names]), tuple(notes))


def _mended_columns(absent: Set[str], names: Sequence[str]) -> str:
    """Say what to do about missing columns of ids or labels."""
    told = []
    for name in sorted(absent):
        twin = next((other for other in names if other.casefold() == name.casefold()), None)
        if twin is not None:
            told.append(f"rename {twin!r} to {name!r}")
        elif name == "image_id":
            told.append("rename the column that names the images to 'image_id'")
        else:
            told.append("name the label column with label_column")
    return " and ".join(told)


def _rows_where(file: TableFile, asked: pa.Table, where: str, place: str) -> pa.Array:
    seen = {
        name: predicates.as_seen(
            asked[name], file.code_book(name), is_text_table=file.separator is not None
        )
        for name in asked.column_names
    }
    return predicates.rows_where(
        pa.table(seen), asked.num_rows, where, f"{place}.where", file.names
    )


def _ids(column: pa.ChunkedArray, what: str) -> pa.Array | pa.ChunkedArray:
    try:
        ids = id_column(column)
    except ValueError as err:
        kind = column.type
        raise LabelError(f"{what}: column image_id is {kind}; give ids as text or numbers") from err
    if ids.null_count:
        raise LabelError(f"{what} has {ids.null_count} rows without image_id; fill or remove them")
    return ids


def _known(labels: LabelColumn, column: str, what: str) -> pa.Array:
    """The labels, null where there is none. Raises LabelError for what cannot be one."""
    if faults := labels.faults():
        reason, n = faults.most_common(1)[0]
        raise LabelError(
            f"{what}: column {column} has {sum(faults.values()):,} rows that hold no label, such "
            f"as {n:,} of which: {reason}; mend them or name another label_column"
        )
    return labels.column()


def _complete(labels: LabelColumn, column: str, what: str) -> pa.Array:
    """The labels. Raises LabelError if some are missing."""
    found = _known(labels, column, what)
    if found.null_count:
        raise LabelError(
            f"{what} has {found.null_count:,} rows without {column}{_alias(column)}; fill or "
            "remove them"
        )
    return found


def _alias(column: str) -> str:
    return "" if column in ("label", "weak_label") else " (that is, without label)"


def _refuse_repeats(rows: pa.Table, what: str) -> None:
    """Raises LabelError if an image stands in two rows. rows: image_id, label, by image_id."""
    n_repeated = rows.num_rows - pc.count_distinct(rows["image_id"]).as_py()
    if not n_repeated:
        return
    counts = Counter(rows["image_id"].to_pylist())
    twice = {image_id for image_id, n in counts.items() if n > 1}
    labels_of: dict[str, set[str]] = {}
    of_twice = rows.filter(pc.is_in(rows["image_id"], value_set=pa.array(sorted(twice))))
    for row in of_twice.select(["image_id", "label"]).to_pylist():
        labels_of.setdefault(row["image_id"], set()).add(row["label"])
    torn = {image_id: labels for image_id, labels in labels_of.items() if len(labels) > 1}
    shown = min(torn or labels_of)
    raise LabelError(
        f"{what} lists {len(twice):,} images twice or more, {len(torn):,} of them under different "
        f"labels, such as {shown!r} as {sorted(labels_of[shown])}; give every image one row (or "
        "narrow `where`)"
    )
