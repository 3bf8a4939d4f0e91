"""Runs whose process is gone are marked Crashed: the safety net under the automation.

The automation "dcd: mark dead runs" counts heartbeats while the server is up. A run that died
together with its server, or just before the automation was changed, is found here.
"""

from datetime import UTC, datetime, timedelta

from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events.filters import (
    EventFilter,
    EventNameFilter,
    EventOccurredFilter,
    EventResourceFilter,
)
from prefect.states import Crashed

SILENCE = timedelta(seconds=90)
# Between Pending and Running a worker starts a process, or a cluster a pod.
SLOW_START = timedelta(minutes=30)


def sweep() -> list[str]:
    """Mark every dead run as Crashed and return their names. Live ones send heartbeats."""
    states = FlowRunFilterState(
        type=FlowRunFilterStateType(
            any_=[StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
        )
    )
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(state=states))
        dead = [run for run in runs if _is_dead(client, run)]
        for run in dead:
            message = "Its process is gone: no heartbeat, and it has not ended."
            client.set_flow_run_state(run.id, Crashed(message=message), force=True)
    return [run.name for run in dead]


def _is_dead(client: SyncPrefectClient, run: FlowRun) -> bool:
    now = datetime.now(UTC)
    if run.state is None:
        return False
    age = now - run.state.timestamp
    if run.state.type == StateType.PENDING:
        return age > SLOW_START
    return age > SILENCE and not _heard_since(client, run, now - SILENCE)


def _heard_since(client: SyncPrefectClient, run: FlowRun, since: datetime) -> bool:
    wanted = EventFilter(
        event=EventNameFilter(name=["prefect.flow-run.heartbeat"]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"]),
        occurred=EventOccurredFilter.model_validate({"since": since}),
    )
    answer = client.request(
        "POST", "/events/filter", json={"filter": wanted.model_dump(mode="json"), "limit": 1}
    )
    return bool(answer.json()["events"])
