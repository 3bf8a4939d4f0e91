"""Wrap the registry of failures as tasks."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from prefect import get_client, task
from prefect.events.schemas.events import Event, Resource

from dcd.config import RunConfig
from dcd.failures import intake, registry
from dcd.failures.intake import Intake
from dcd.failures.registry import Pending
from dcd.store import Store, keys
from dcd.store.store_format import open_for_writing
from tasks.retries import RETRY

ARRIVED = "dcd.failures.arrived"


@dataclass(frozen=True)
class Arrival:
    """What one look found, and what now waits for a run; `is_due`: to be announced."""

    intake: Intake
    waiting: Pending
    is_due: bool


@task(name="has-failures", **RETRY)
def has_failures(store: str) -> bool:
    """Tell whether failures are registered; what is damaged of them is refused by name."""
    return bool(registry.check_batches(Store(store)))


@task(name="take-in-failures", **RETRY)
def take_in(config: RunConfig, folder: str | None, remind_after: timedelta) -> Arrival:
    """Register what is new in a folder; None stands for the store's inbox."""
    store = open_for_writing(config.store)
    found = intake.take_in_folder(store, config, folder)
    waiting = registry.pending(store, config.name, registry.read_registry(store))
    is_due = registry.due(store, config.name, waiting, remind_after)
    return Arrival(found, waiting, is_due)


@task(name="announce-failures", **RETRY)
def announce(config: RunConfig, arrival: Arrival) -> None:
    """Emit the event that wakes a run. The run takes all that waits, whatever the event says.

    It is noted as announced only if the server has it.
    """
    waiting = arrival.waiting
    send(
        Event(
            event=ARRIVED,
            resource=Resource(
                {
                    "prefect.resource.id": f"dcd.failures.{keys.slug(config.name)}",
                    "prefect.resource.name": f"failures of {config.name}",
                }
            ),
            payload={
                "batch_id": waiting.id,
                "n_new": waiting.n_failures,
                "n_bad": arrival.intake.n_bad,
            },
        )
    )
    registry.note_announced(Store(config.store), config.name, waiting)


def send(event: Event) -> None:
    """Hand an event to the server, and wait until it has it; `emit_event` tells of no loss."""
    with get_client(sync_client=True) as client:
        client.request("POST", "/events", json=[event.model_dump(mode="json")])


@task(name="note-covered-failures", **RETRY)
def mark_covered(store: str, name: str, run_id: str, batches: Collection[str]) -> None:
    registry.mark_covered(Store(store), name, run_id, batches)
