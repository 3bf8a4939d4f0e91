"""Hold the ids of a pool to one image each, while its rows pass by, whatever their labels.

Selection, training and the report name an image by its id within the pool. An id that two shards
give to different images would bring the vector of one under the label of the other.
"""

from collections.abc import Iterable, Iterator
from itertools import chain

import pyarrow as pa

from dcd.errors import DataError
from dcd.scratch import scratch_folder
from dcd.tables.sql import connect, ids_of_two_images, note_ids

ID_COLUMNS = ["image_id", "shard", "content_hash"]
_ROWS_AT_ONCE = 100_000


def refuse_two_images(
    rows: Iterable[pa.Table], there: Iterable[pa.Table], max_memory_bytes: int
) -> Iterator[pa.Table]:
    """Hand `rows` on; once all have passed, raise DataError if an id names two images.

    rows, there: image_id, shard, content_hash and others; `there` is in the index already. An
    image that stands in several shards or under several labels is one image. What does not fit
    in a part of max_memory_bytes goes to disk.
    """
    with (
        scratch_folder("ids") as scratch,
        connect(max_memory_bytes // 8, scratch) as connection,
    ):
        waiting: list[pa.Table] = []
        n_waiting = 0
        known = ((piece, False) for piece in there)
        for piece, is_new in chain(known, ((piece, True) for piece in rows)):
            waiting.append(piece.select(ID_COLUMNS))
            n_waiting += piece.num_rows
            if n_waiting >= _ROWS_AT_ONCE:
                note_ids(connection, pa.concat_tables(waiting))
                waiting, n_waiting = [], 0
            if is_new:
                yield piece
        if waiting:
            note_ids(connection, pa.concat_tables(waiting))
        torn = ids_of_two_images(connection)
    if torn.num_rows:
        first = torn.slice(0, 1).to_pylist()[0]
        more = f" ({torn.num_rows:,} ids are of this kind)" if torn.num_rows > 1 else ""
        raise DataError(
            f"pool: image_id {first['image_id']!r} names different images in the shards "
            f"{first['one']} and {first['other']}{more}; make the ids unique"
        )
