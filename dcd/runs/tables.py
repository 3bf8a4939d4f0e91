"""Read the tables that a finished run keeps."""

from typing import Literal, get_args

import pyarrow as pa

from dcd.errors import DataError, ObjectNotFound
from dcd.store import Store, keys

RunTable = Literal["metrics", "predictions", "debug_train", "neighbors", "error_sample", "rejects"]
RUN_TABLES: tuple[RunTable, ...] = get_args(RunTable)


def read_table(store: Store, run_id: str, name: RunTable) -> pa.Table:
    """Read one table of a finished run.

    - `metrics`: accuracies by method, seed, split and mode
    - `predictions`: an image, a model and a seed a row
    - `debug_train`: the images that were picked
    - `neighbors`: what was looked at for each failure, and why it was refused
    - `error_sample`: the failures
    - `rejects`: what could not be read

    Args:
        store: of the run.
        run_id: as `dcd.list_runs` or `dcd.run` gives it.
        name: one of the tables above.

    Raises:
        DataError: the run has no such table, or there is no such run.
    """
    if name not in RUN_TABLES:
        raise DataError(f"{name}: a run has no such table; take one of {', '.join(RUN_TABLES)}")
    try:
        return store.read_table(keys.run_table(run_id, name))
    except ObjectNotFound as err:
        raise DataError(
            f"{store.uri(keys.run_table(run_id, name))}: no such table; `dcd.list_runs` names the "
            "finished runs"
        ) from err
