"""Show a finished run in MLflow where the environment names a server."""

import logging

from prefect import task

from dcd.export.mlflow_runs import named_server, send_run
from dcd.store import Store

log = logging.getLogger("dcd.tracking")


def track(store: str, run_id: str) -> str | None:
    """Send a finished run; says where it is shown, or why not. None where no server is named."""
    return track_run(store, run_id) if named_server() else None


@task(name="track-run")
def track_run(store: str, run_id: str) -> str:
    try:
        told = f"MLflow: {send_run(Store(store), run_id)}"
    # Whatever it is, a bug of ours included: the run is finished and stays so.
    except Exception as err:
        later = f"dcd export mlflow {run_id} --store {store}"
        told = f"{str(err) or repr(err)}. The run is finished; send it later: {later}"
        log.warning(told)
        return told
    log.info(told)
    return told
