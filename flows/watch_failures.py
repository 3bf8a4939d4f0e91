"""The `watch-failures` flow: new failures are registered, and a run is woken for them."""

from datetime import timedelta

from prefect import flow

from dcd.config import WatchConfig
from flows.deployment.attend import resume_crashed
from tasks import failures
from tasks.failures import Arrival


@flow(name="watch-failures", flow_run_name="watch {config.run.name}")
def watch_failures(config: WatchConfig) -> Arrival:
    """Look into the inbox once, register what is good, announce what waits for a run.

    The event `dcd.failures.arrived` is a wake-up call: `debug-model` takes everything from
    the registry. One that is lost does no harm, for what still waits is announced again.
    """
    resume_crashed()
    arrival = failures.take_in(config.run, None, timedelta(seconds=config.remind_after_s))
    if arrival.is_due:
        failures.announce(config.run, arrival)
    return arrival
