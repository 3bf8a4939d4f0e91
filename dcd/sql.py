"""DuckDB: the only module that holds SQL. Each query is a named constant with bound parameters."""

import duckdb
import pyarrow as pa

from dcd.errors import ConfigError

_ROW = "__row"


def connect(threads: int | None = None) -> duckdb.DuckDBPyConnection:
    """A fresh in-memory database that can reach no file, no network and no Python variable."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "enable_external_access": False,
        "python_enable_replacements": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if threads is not None:
        config["threads"] = threads
    return duckdb.connect(":memory:", config=config)


def filter_rows(table: pa.Table, where: str | None, name: str) -> pa.Table:
    """The rows of a labels table for which the predicate `where` holds, in their order.

    `where` is the user's own SQL over the table's columns; None keeps all. It runs where neither
    files nor network can be reached. Raises ConfigError naming `name`, the predicate and the
    columns there are.
    """
    if where is None:
        return table
    numbered = table.append_column(_ROW, pa.array(range(table.num_rows), pa.int64()))
    with connect() as connection:
        try:
            rows = connection.from_arrow(numbered).filter(where).project(_ROW).fetchnumpy()[_ROW]
        except duckdb.Error as err:
            raise ConfigError(
                [
                    f"{name}: where {where!r} is no SQL predicate over the columns "
                    f"{table.column_names}: {' '.join(str(err).split())}; mend the predicate"
                ]
            ) from err
    rows.sort()
    return table.take(pa.array(rows))
