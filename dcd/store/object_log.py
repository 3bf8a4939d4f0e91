"""Read a log that is a set of immutable objects: its state is their union.

Each object is written once, in one step, under a name that says what it holds. So writers that race
or crash lose nothing and register nothing twice, and no object is ever read while it changes.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc

from dcd.errors import ObjectNotFound, ObjectUnreadable, SchemaMismatch
from dcd.store.object_store import Store
from dcd.store.requests import REQUESTS_AT_ONCE

log = logging.getLogger(__name__)
_MAX_LOOSE_OBJECTS = 32  # more than this are gathered in a view


def read_log(
    store: Store,
    prefix: str,
    view_key: str,
    schema: pa.Schema,
    conform: Callable[[pa.Table, pa.Schema, str], pa.Table],
) -> pa.Table:
    """Read the rows of all objects below a prefix, with the column `object` (their names).

    A view of them, at `view_key`, saves reading most; objects are never changed, so it is only ever
    short of some. conform: holds a table, of that name, to a schema (`dcd.tables.schemas.conform`).
    Raises ObjectUnreadable or SchemaMismatch for an object that is damaged.
    """
    names = [key[len(prefix) + 1 : -len(".parquet")] for key in store.keys_under(prefix)]
    full = schema.append(pa.field("object", pa.string(), nullable=False))
    if not names:
        return full.empty_table()
    try:
        view = conform(store.read_table(view_key), full, store.uri(view_key))
    except ObjectNotFound:
        view = full.empty_table()
    except (ObjectUnreadable, SchemaMismatch) as err:
        log.warning("%s: not read, and made again from its objects (%s)", view_key, err)
        store.delete(view_key)
        view = full.empty_table()
    view = view.filter(pc.is_in(view["object"], value_set=pa.array(names)))
    loose = sorted(set(names) - set(view["object"].to_pylist()))

    def read(name: str) -> pa.Table:
        key = f"{prefix}/{name}.parquet"
        rows = conform(store.read_table(key, schema.names), schema, store.uri(key))
        rows = rows.replace_schema_metadata(None)
        return rows.append_column("object", pa.repeat(name, rows.num_rows)).cast(full)

    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as requests:
        table = pa.concat_tables([view.replace_schema_metadata(None), *requests.map(read, loose)])
    if len(loose) > _MAX_LOOSE_OBJECTS:
        store.write_table(view_key, table)
    return table
