"""Say what may be wrong with the labels of the pool: those beside it, its map, its true labels."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress

import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import PoolConfig
from dcd.errors import LabelError
from dcd.sources.parquet import UNREADABLE, open_parquet
from dcd.splits.label_map import classes_of, none_in_common, read_pool_table
from dcd.splits.label_table import LabelTable, read_true_labels
from dcd.validation.inventory import Inventory
from dcd.validation.labels import code_hint, label_counts, label_notes
from dcd.validation.problems import Note
from dcd.validation.splits import no_common_id


def pool_labels(
    pool: PoolConfig, inventory: Inventory | None, notes: list[Note]
) -> set[str] | None:
    """Return all labels that pool images can carry; None where that is not known.

    Where not all images were looked at, a table still says which labels there can be.

    Raises LabelError if there are none, and as `read_pool_labels` does.
    """
    found = read_pool_table(pool)
    table = None if found is None else found.rows
    notes += [Note("pool", told) for told in (() if found is None else found.notes)]
    if inventory is None:
        return _of_tables(table)
    if pool.labels is None or table is None:
        labels = label_counts(inventory)
        notes += label_notes("pool.images", labels)
        if table is None:
            notes += _unlabelled(pool, inventory)
        else:
            notes += _unnamed(pool, labels, table)
        if not inventory.complete:
            return _of_tables(table)
        if not labels:
            raise LabelError(
                f"none of its images has a label{_columns_there(inventory)}; give pool.labels or "
                "label_column"
            )
        if table is None:
            return set(labels)
        classes = classes_of(labels.keys(), table)
        if not classes:
            raise none_in_common(pool, set(labels), table)
        return classes
    return _of_table(pool, table, inventory, notes)


def true_label_notes(
    pool: PoolConfig, inventory: Inventory | None, labels: set[str] | None
) -> list[Note]:
    """Read the true labels as the report will, and tell what was cleaned or is missing.

    labels: of the pool; None where they are not known. Raises DataError or LabelError as
    `read_true_labels` does, and LabelError if they name no image or no label of the pool.
    """
    if pool.true_labels is None:
        return []
    place = "pool.true_labels"
    truth: LabelTable = read_true_labels(pool.true_labels, place)
    notes = [Note(place, told) for told in truth.notes]
    true = set(truth.rows["label"].to_pylist())
    if inventory is None or not inventory.complete or not true:
        return notes
    ids = set(truth.rows["image_id"].to_pylist())
    known = ids & inventory.shard_of.keys()
    if not known:
        raise LabelError(
            f"{place}: no image_id in {pool.true_labels} is among {pool.images}: the labels have "
            f"ids such as {min(ids)!r}, the images {min(inventory.shard_of)!r}; give both the same"
        )
    if labels is not None and not true & labels:
        raise LabelError(
            f"{place}: none of its labels, such as {min(true)!r}, is one of the pool's, such as "
            f"{min(labels)!r}{code_hint(true, labels)}; label precision would be 0 for every image"
        )
    n_unknown = len(inventory.shard_of) - len(known)
    if n_unknown:
        notes.append(
            Note(
                place,
                f"{n_unknown:,} of {len(inventory.shard_of):,} pool images have no true label; "
                "label precision is reported only where every pick has one",
            )
        )
    if len(known) < len(ids):
        notes.append(Note(place, f"{len(ids) - len(known):,} of its images are not in the pool"))
    return notes


def _fate(pool: PoolConfig) -> str:
    """What becomes of images without a label."""
    if pool.unlabelled == "left_out":
        return "embedded, but never selected"
    return f"labelled where one class has a probability of at least {pool.min_posterior:g}"


def _unlabelled(pool: PoolConfig, inventory: Inventory) -> Iterator[Note]:
    n, n_all = inventory.n_unlabelled, len(inventory.label_of)
    if 0 < n < n_all:
        first = next(i for i, label in inventory.label_of.items() if label is None)
        yield Note(
            "pool.images",
            f"{n:,} of {n_all:,} images have no label, such as {first!r}: {_fate(pool)}",
        )


def _unnamed(pool: PoolConfig, labels: Mapping[str, int], table: pa.Table) -> Iterator[Note]:
    """Tell of weak labels that the map does not name, and of those that no image has."""
    named = set(table["weak_label"].to_pylist())
    absent = sorted(labels.keys() - named, key=lambda label: (-labels[label], label))
    if absent and len(absent) < len(labels):
        n_images = sum(labels[label] for label in absent)
        yield Note(
            "pool.label_map",
            f"{pool.label_map} does not name {len(absent):,} of the pool's {len(labels):,} weak "
            f"labels ({n_images:,} images), such as {', '.join(map(repr, absent[:3]))}: embedded, "
            "but never selected",
        )
    if unused := sorted(named - labels.keys()):
        yield Note(
            "pool.label_map",
            f"{len(unused):,} of its {len(named):,} weak labels stand on no image of the pool, "
            f"such as {', '.join(map(repr, unused[:3]))}",
        )


def _of_tables(table: pa.Table | None) -> set[str] | None:
    """The labels that a labels table or a label map can give; None without either."""
    return None if table is None else set(pc.unique(table["label"]).to_pylist())


def _of_table(
    pool: PoolConfig, table: pa.Table, inventory: Inventory, notes: list[Note]
) -> set[str] | None:
    if not inventory.complete:
        return _of_tables(table)
    ids = table["image_id"].to_pylist()
    rows = zip(ids, table["label"].to_pylist(), strict=True)
    counts = Counter(label for image_id, label in rows if image_id in inventory.shard_of)
    notes += label_notes("pool.labels", counts)
    if not counts:
        problem = no_common_id("pool", pool, ids[0], inventory)
        raise LabelError(f"{problem.place}: {problem.message}")
    named = set(ids)
    absent = sorted(named - inventory.shard_of.keys())
    if absent:
        notes.append(
            Note(
                "pool.labels",
                f"{len(absent):,} of {len(named):,} image ids in {pool.labels} are not among "
                f"{pool.images}, such as {absent[0]!r}",
            )
        )
    without = [image_id for image_id in inventory.shard_of if image_id not in named]
    if without:
        notes.append(
            Note(
                "pool.labels",
                f"{len(without):,} of {len(inventory.shard_of):,} images are not in "
                f"{pool.labels}, such as {without[0]!r}: {_fate(pool)}",
            )
        )
    return set(counts)


def _columns_there(inventory: Inventory) -> str:
    """The columns of a Parquet file of the pool, which may call its labels otherwise; "" if none is
    read.
    """
    shards = (shard for shard in inventory.shards.values() if shard.format == "parquet")
    for shard in shards:
        with suppress(*UNREADABLE):
            return f" (its files have the columns {open_parquet(shard.uri).schema_arrow.names})"
    return ""
