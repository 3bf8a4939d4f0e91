"""Hold the ids of a pool to one image each, while its rows pass by, whatever their labels.

Selection, training and the report name an image by its id within the pool. An id that two shards
give to different images would bring the vector of one under the label of the other.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from dcd.errors import DataError
from dcd.index.external_sort import ExternalSort
from dcd.scratch import scratch_folder
from dcd.tables import schemas

ID_COLUMNS = ["image_id", "shard", "content_hash"]
_IDS = pa.schema([schemas.clustered(1).field(name) for name in ID_COLUMNS])
_IDS_ORDER = ["image_id", "shard"]


def refuse_two_images(
    rows: Iterable[pa.Table], there: Iterable[pa.Table], max_memory_bytes: int
) -> Iterator[pa.Table]:
    """Hand `rows` on; once all have passed, raise DataError if an id names two images.

    rows, there: image_id, shard, content_hash and others; `there` is in the index already. An
    image that stands in several shards or under several labels is one image. What does not fit
    in a part of max_memory_bytes goes to disk.
    """
    with (
        scratch_folder("ids") as folder,
        ExternalSort(_IDS, _IDS_ORDER, folder, max_memory_bytes // 4) as sort,
    ):
        for piece in there:
            sort.take(piece.select(_IDS.names).cast(_IDS))
        for piece in rows:
            sort.take(piece.select(_IDS.names).cast(_IDS))
            yield piece
        torn = _torn(sort.sorted())
    if torn.n_ids:
        more = f" ({torn.n_ids:,} ids are of this kind)" if torn.n_ids > 1 else ""
        raise DataError(
            f"pool: image_id {torn.first!r} names different images in the shards "
            f"{torn.shards[0]} and {torn.shards[1]}{more}; make the ids unique"
        )


@dataclass(frozen=True)
class _Torn:
    """How many ids name two images; the first of them and two shards that differ in it."""

    n_ids: int = 0
    first: str = ""
    shards: tuple[str, str] = ("", "")


def _torn(tables: Iterator[pa.Table]) -> _Torn:
    """tables: of _IDS, in order."""
    found, last_torn, last = _Torn(), None, _IDS.empty_table()
    for table in tables:
        joined = pa.concat_tables([last, table]).combine_chunks()
        above, below = joined.slice(0, joined.num_rows - 1), joined.slice(1)
        is_torn = pc.and_(
            pc.equal(above["image_id"], below["image_id"]),
            pc.not_equal(above["content_hash"], below["content_hash"]),
        )
        if pc.any(is_torn).as_py():
            above, below = above.filter(is_torn), below.filter(is_torn)
            n_ids = len(pc.unique(above["image_id"])) - (above["image_id"][0].as_py() == last_torn)
            shards = (above["shard"][0].as_py(), below["shard"][0].as_py())
            first = found if found.n_ids else _Torn(0, above["image_id"][0].as_py(), shards)
            found = replace(first, n_ids=first.n_ids + n_ids)
            last_torn = above["image_id"][-1].as_py()
        last = joined.slice(joined.num_rows - 1)
    return found
