"""Draw a map over one store, once for the same index, splits, selection and settings."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import MapConfig, Split
from dcd.errors import ObjectUnreadable
from dcd.index.info import IndexInfo
from dcd.index.read import pool_rows, shared_sample, vectors_of
from dcd.label_noise.pool_agreement import known_votes, pool_reference
from dcd.label_noise.trust import clean_head, judge_labels
from dcd.maps.layout import has_tsne, lay_out
from dcd.maps.plan import plan_sample, stratified
from dcd.report.record import DrawnMap
from dcd.selection.reviewed import FAILING
from dcd.splits.split import SplitInfo, split_table
from dcd.store import Store, keys
from dcd.tables import schemas
from dcd.tables.rows import one_row_a_content, without
from dcd.tables.vectors import stacked_vectors

# Raised whenever the same inputs would get another map.
_FORMAT = 1
_MAX_TEACHING = 5_000  # images of train that teach the judge of labels: more change no colour
_COLUMNS = ["image_id", "label", "shard", "content_hash", "embedding"]


@dataclass(frozen=True)
class MapInfo:
    """A map that was drawn: `id` names it in the store."""

    id: str
    n_points: int
    reused: bool

    @property
    def part(self) -> str:
        """What a run that shows it is a view of."""
        return keys.drawn_map(self.id)


def draw_map(
    store: Store,
    index: IndexInfo,
    splits: Mapping[Split, SplitInfo],
    selection_id: str,
    config: MapConfig,
) -> MapInfo | None:
    """Draw the failures and picks of a seed among images of pool and train; None if none is wanted.

    splits, selection_id: of that seed.
    """
    if config.max_images == 0:
        return None
    method = config.method if config.method == "pca" or has_tsne() else "pca"
    made_from = [index.pool, index.encoder_id, index.index_id, selection_id]
    split_ids = [splits[of].id for of in ("train", "error_sample")]
    map_id = keys.digest("map", _FORMAT, made_from, split_ids, config, method)
    key = keys.drawn_map(map_id)
    reused = store.exists(key)
    if not reused:
        _publish(store, key, index, splits, selection_id, config, method == "tsne")
    return MapInfo(map_id, int(store.read_metadata(key)["n_points"]), reused)


def read_map(store: Store, key: str) -> DrawnMap:
    """Read a map. Raises ObjectNotFound, or ObjectUnreadable where it is damaged."""
    points = schemas.conform(store.read_table(key), schemas.MAP, key)
    said = store.read_metadata(key)
    try:
        return DrawnMap(
            points.replace_schema_metadata(None),
            "tsne" if said["asked"] == "tsne" else "pca",
            "tsne" if said["method"] == "tsne" else "pca",
            float(said["explained"]) if said["explained"] else None,
            int(said["n_pool"]),
            int(said["n_train"]),
        )
    except (KeyError, ValueError) as err:
        raise ObjectUnreadable(f"{store.uri(key)}: is no map ({err!r})", store.uri(key)) from err


def _publish(
    store: Store,
    key: str,
    index: IndexInfo,
    splits: Mapping[Split, SplitInfo],
    selection_id: str,
    config: MapConfig,
    with_tsne: bool,
) -> None:
    train, failures = (split_table(store, splits[of]) for of in ("train", "error_sample"))
    failures, train = _alike(one_row_a_content(failures)), _alike(one_row_a_content(train))
    picks = without(_picked(store, index, selection_id), failures)
    sample = shared_sample(store, index)
    sample = sample.rename_columns([n.removeprefix("weak_") for n in sample.column_names])
    shown = [failures, picks]
    for rows in shown:
        train = without(train, rows)
    pool = one_row_a_content(_alike(sample))
    for rows in (*shown, train):
        pool = without(pool, rows)
    of_pool, of_train = (rows["label"].to_pylist() for rows in (pool, train))
    planned = plan_sample(of_pool, of_train, config.max_images)
    teaching = train.take(pa.array(stratified(of_train, _MAX_TEACHING)))
    drawn = {
        "pool": pool.take(pa.array(planned.pool)),
        "train": train.take(pa.array(planned.train)),
        "pick": picks,
        "failure": failures,
    }
    head = clean_head(teaching, failures)
    judge = judge_labels(pool_reference(store, index), head, known_votes(store, index))
    weak = pa.concat_tables([drawn["pool"], drawn["pick"]])
    posterior = judge(weak).probability if weak.num_rows else np.empty(0, np.float32)
    n_pool = drawn["pool"].num_rows
    posteriors = {
        "pool": pa.array(posterior[:n_pool]),
        "pick": pa.array(posterior[n_pool:]),
    }
    layout = lay_out(stacked_vectors(list(drawn.values())), "tsne" if with_tsne else "pca")
    parts = [
        rows.drop_columns(["embedding"])
        .append_column("role", pa.repeat(role, rows.num_rows))
        .append_column("posterior", posteriors.get(role, pa.nulls(rows.num_rows, pa.float32())))
        for role, rows in drawn.items()
    ]
    points = pa.concat_tables(parts)
    for column, name in enumerate(("x", "y")):
        points = points.append_column(name, pa.array(layout.places[:, column]))
    described = {
        # Very few points are laid out by pca whatever was asked for: nothing is missing then.
        "asked": layout.method if with_tsne else config.method,
        "method": layout.method,
        "explained": "" if layout.explained is None else repr(layout.explained),
        "n_pool": str(pool.num_rows),
        "n_train": str(train.num_rows),
        "n_points": str(points.num_rows),
    }
    store.write_table(key, schemas.conform(points, schemas.MAP, "map"), metadata=described)


def _picked(store: Store, index: IndexInfo, selection_id: str) -> pa.Table:
    """The picks that were chosen for failures or by people, without the general sample."""
    picks = store.read_table(keys.selection_picks(selection_id), ["image_id", "label", "role"])
    picks = picks.filter(pc.not_equal(picks["role"], "general"))
    labels = pc.unique(picks["label"])
    # Reviewed images stand in the index under the label that they had: looked for under all.
    only = None if {"reviewed", FAILING} & set(picks["role"].to_pylist()) else labels
    vectors = vectors_of(store, index, picks["image_id"], only)
    rows = one_row_a_content(vectors)
    given = dict(zip(*(picks[n].to_pylist() for n in ("image_id", "label")), strict=True))
    places = pool_rows(store, index, only).select(["image_id", "shard"])
    places = places.filter(pc.is_in(places["image_id"], value_set=rows["image_id"]))
    shards = dict(zip(*(places[n].to_pylist() for n in ("image_id", "shard")), strict=True))
    ids = rows["image_id"].to_pylist()
    rows = rows.drop_columns(["label"])
    rows = rows.append_column("label", pa.array([given[i] for i in ids], pa.string()))
    return _alike(rows.append_column("shard", pa.array([shards[i] for i in ids], pa.string())))


def _alike(rows: pa.Table) -> pa.Table:
    """The columns that a point is made of, of one type whatever table they are from."""
    rows = rows.select(_COLUMNS).combine_chunks()
    schema = schemas.clustered(rows.schema.field("embedding").type.list_size)
    fields = [schema.field("weak_label").with_name("label") if n == "label" else schema.field(n)
              for n in _COLUMNS]  # fmt: skip
    return rows.cast(pa.schema(fields))
