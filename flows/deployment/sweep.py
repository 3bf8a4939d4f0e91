"""Mark dead runs Crashed and resume crashed ones: the safety net under the automations.

The automations count heartbeats and wait for events while the server is up. What died together with
its server is found here: a server that starts anew holds the events of older runs back for a
quarter of an hour (Prefect 3.8 orders them in memory).
"""

from datetime import UTC, datetime, timedelta

from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
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
from prefect.states import AwaitingRetry, Crashed

SILENCE = timedelta(seconds=90)

# Between Pending and Running a worker starts a process, or a cluster a pod.
SLOW_START = timedelta(minutes=30)

# The automation resumes after 90 seconds: whoever waits longer was forgotten by it.
FORGOTTEN_AFTER, TOO_OLD = timedelta(minutes=3), timedelta(days=1)
RESUMED_FLOWS = ["embed-pool", "build-index", "debug-model", "compare"]


def sweep() -> list[str]:
    """Mark dead runs as Crashed and resume crashed ones; a line for each."""
    return [f"{name}: its process is gone; marked Crashed" for name in mark_dead()] + [
        f"{name}: crashed; it starts again, and what is done is reused" for name in resume_crashed()
    ]


def resume_crashed() -> list[str]:
    """Start crashed runs of deployments again that no automation did; return their names."""
    crashed = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CRASHED]))
    resumed = FlowFilter(name=FlowFilterName(any_=RESUMED_FLOWS))
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_filter=resumed, flow_run_filter=FlowRunFilter(state=crashed)
        )
        forgotten = [run for run in runs if _is_forgotten(run, datetime.now(UTC))]
        for run in forgotten:
            message = "Resumed after a crash; what is done is reused."
            client.set_flow_run_state(run.id, AwaitingRetry(message=message), force=True)
    return [run.name for run in forgotten]


def _is_forgotten(run: FlowRun, now: datetime) -> bool:
    if run.state is None or run.deployment_id is None:
        return False
    return FORGOTTEN_AFTER < now - run.state.timestamp < TOO_OLD


def mark_dead() -> list[str]:
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
