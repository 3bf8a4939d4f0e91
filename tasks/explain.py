"""Explain why a task of a run was reused or not, from Prefect's states and the store's keys."""

from uuid import UUID

from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterName,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, State, TaskRun
from prefect.client.schemas.sorting import FlowRunSort

from dcd.errors import DCDError
from dcd.store import Store, keys
from tasks.result_keys import SEGMENTS, difference


def explanations(run: str, task: str, store_url: str | None) -> list[str]:
    """Explain in a line each task run whose name starts with `task`, of this run and those below.

    Raises DCDError if there is no such run or it names no store.
    """
    with get_client(sync_client=True) as client:
        flow_run = _find(client, run)
        url = store_url or (flow_run.parameters or {}).get("config", {}).get("store")
        if url is None:
            raise DCDError(f"{run}: its parameters name no store; give it with --store")
        below = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[flow_run.id])
            )
        )
        ids = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id, *(r.id for r in below)]))
        found = client.read_task_runs(flow_run_filter=ids)
    store = Store(url)
    kept = list(store.published_at(keys.RESULTS))
    wanted = sorted((t for t in found if t.name.startswith(task)), key=lambda t: t.name)
    return [explain(task_run, store, kept) for task_run in wanted]


def explain(task_run: TaskRun, store: Store, kept: list[str]) -> str:
    """Explain one task run in a line. `kept`: the keys of all results in the store."""
    state = task_run.state
    key = _kept_under(state)
    if state is None or not state.is_final():
        return f"{task_run.name}: not finished yet"
    if key is None or not key.startswith(tuple(SEGMENTS)):
        return (
            f"{task_run.name}: no result is kept for it; it looks at its own output in the store "
            "each time"
        )
    path = f"{keys.RESULTS}/{key}"
    if state.name == "Cached":
        return f"{task_run.name}: reused, for {store.uri(path)} and its outputs were there"
    nearest = difference(path, kept)
    if nearest is None:
        return f"{task_run.name}: computed, it was the first of its kind in {store.url}"
    other, differ = nearest
    return (
        f"{task_run.name}: computed, for no result was kept under {store.uri(path)}, or its "
        f"outputs were gone; the most similar one, {other}, differs in: {', '.join(differ)}"
    )


def _kept_under(state: State[object] | None) -> str | None:
    """Key of the kept result below `results/`: Prefect's state has it from the storage alone."""
    record = state.data if state is not None else None
    return getattr(getattr(record, "metadata", record), "storage_key", None)


def _find(client: SyncPrefectClient, run: str) -> FlowRun:
    try:
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(run)]))
    except ValueError:
        wanted = FlowRunFilter(name=FlowRunFilterName(any_=[run]))
    found = client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.START_TIME_DESC, limit=1)
    if not found:
        raise DCDError(f"{run}: the Prefect server knows no such run; give its id from the UI")
    return found[0]
