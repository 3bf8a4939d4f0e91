"""Find what the pool has for a picture, whatever the label, as a table and a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import EncoderConfig
from dcd.encoders.int8 import placed
from dcd.encoders.pictures import embed_pictures
from dcd.errors import LabelError
from dcd.index.info import IndexInfo
from dcd.index.read import pool_rows, vectors_of
from dcd.index.search import in_label_neighbors
from dcd.label_noise.agreement import label_agreement
from dcd.label_noise.pool_agreement import pool_reference
from dcd.report.page import fill_page
from dcd.report.thumbnails import album
from dcd.sources.source import Source, fetch
from dcd.store import Store
from dcd.tables import schemas
from dcd.tables.rows import with_column

_MAX_PAGE_BYTES = 8 * 2**20
_THUMBNAIL_PX = 112


@dataclass(frozen=True)
class Similar:
    """neighbors: schemas.NEIGHBORS with error_image_id naming the picture, rank over all labels.

    page: the contact sheet, one HTML file without links to others.
    """

    neighbors: pa.Table
    page: str


def look_up(
    store_url: str,
    encoder: EncoderConfig,
    source: Source,
    index: IndexInfo,
    pictures: Mapping[str, bytes],
    labels: Sequence[str],
    k: int,
) -> Similar:
    """Find the k pool images nearest to every picture (name → encoded bytes) among some labels.

    No labels: among all. Raises DataError for a picture that does not decode, LabelError for
    labels that no pool image carries.
    """
    store = Store(store_url)
    unknown = sorted(set(labels) - set(index.label_counts))
    if unknown:
        raise LabelError(
            f"neighbors: no image of pool {index.pool} has the label {unknown}; its labels are "
            f"such as {sorted(index.label_counts)[:5]}"
        )
    among = sorted(labels or index.label_counts)
    queries = embed_pictures(placed(encoder, store_url, source.id), pictures)
    neighbors = nearest(store, index, queries, among, k)
    rows = pool_rows(store, index, pa.array(among))
    rows = rows.filter(pc.is_in(rows["image_id"], value_set=neighbors["image_id"]))
    found = fetch(store, source, rows.select(["image_id", "shard"]))
    return Similar(neighbors, contact_sheet(neighbors, pictures, found))


def nearest(
    store: Store, index: IndexInfo, queries: pa.Table, labels: Sequence[str], k: int
) -> pa.Table:
    """Find the k nearest pool images of every query among all of some labels: schemas.NEIGHBORS.

    queries: image_id, content_hash, embedding.

    Exact, also for labels that the index keeps in lists: all of their rows are read. With the label
    agreement of every image found.
    """
    n = queries.num_rows
    asked = pa.concat_tables(
        [queries.append_column("label", pa.repeat(label, n)) for label in labels]
    )
    nothing = pa.table(
        {"content_hash": pa.array([], schemas.CONTENT_HASH), "reason": pa.array([], pa.string())}
    )
    found = in_label_neighbors(store, index, asked, nothing, k, exact=True)
    order = [("error_image_id", "ascending"), ("distance", "ascending"), ("image_id", "ascending")]
    found = found.sort_by(order).to_pylist()
    ranked: dict[str, int] = {}
    rows = []
    for row in found:
        rank = ranked[row["error_image_id"]] = ranked.get(row["error_image_id"], 0) + 1
        if rank <= k:
            rows.append({**row, "rank": rank})
    table = pa.Table.from_pylist(rows, schemas.NEIGHBORS)
    vectors = vectors_of(store, index, table["image_id"], pc.unique(table["label"]))
    agreement = label_agreement(pool_reference(store, index), vectors)
    pairs = zip(vectors["image_id"].to_pylist(), vectors["label"].to_pylist(), strict=True)
    of_row = dict(zip(pairs, agreement.tolist(), strict=True))
    column = pa.array([of_row[row["image_id"], row["label"]] for row in rows], pa.float32())
    return with_column(table, "label_agreement", column)


def contact_sheet(
    neighbors: pa.Table, pictures: Mapping[str, bytes], images: Mapping[str, bytes]
) -> str:
    """Show pictures with their neighbours as one HTML page; ids, labels, names are escaped."""
    by_picture: dict[str, list[dict[str, object]]] = {name: [] for name in pictures}
    for row in neighbors.to_pylist():
        by_picture[row["error_image_id"]].append(row)
    own = {f"picture:{name}": data for name, data in pictures.items()}
    found = {f"pool:{image_id}": data for image_id, data in images.items()}
    both = own | found
    uses = [*own, *(f"pool:{row['image_id']}" for row in neighbors.to_pylist())]
    shown = album(
        uses, lambda ids: {i: both[i] for i in ids if i in both}, _MAX_PAGE_BYTES, _THUMBNAIL_PX
    )
    return fill_page("neighbors.html", by_picture=by_picture, uris=shown.uris)
