"""Watch an inbox without end: what arrives is registered, and a run woken, within seconds.

The deployment `watch-failures` does the same every few minutes and stays as the safety net: it also
looks after dead runs, reminds of what waits, and needs no process of its own.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from httpx import HTTPError
from prefect import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.settings import PREFECT_API_URL

from dcd.config import RunConfig, WatchConfig
from dcd.errors import ConfigError, DCDError
from dcd.failures.known_content import known_content
from dcd.failures.settling import Settling
from dcd.store import Store, keys
from dcd.store.store_format import open_for_writing
from tasks import failures

QUIET_S, AT_MOST_S = 2.0, 30.0  # a picture that is being copied; a copy of thousands
_MAX_PAUSE_S = 60.0
_SHARE_OF_TIME = 0.1  # that looking may take, however full the inbox is
_SOON = timedelta(minutes=1)


def watch_inbox(config: WatchConfig, every_s: float, tell: Callable[[str], object]) -> NoReturn:
    """Look into the inbox every few seconds; a fault is told, and the look made again later.

    Raises ConfigError where no Prefect server is named that could be told of failures.
    """
    if not PREFECT_API_URL.value():
        raise ConfigError(
            [
                "--every: needs the Prefect server that runs are deployed to; name it by "
                "PREFECT_API_URL, or let `dcd up` start one"
            ]
        )
    settling = Settling(QUIET_S, AT_MOST_S)
    prepare(config)
    n_faults = 0
    while True:
        started_s = time.monotonic()
        try:
            look(config, settling, started_s, tell)
            n_faults = 0
        except (DCDError, HTTPError) as fault:
            n_faults += 1
            tell(f"looked in vain, {n_faults} times: {type(fault).__name__}: {fault}")
        looked_s = time.monotonic() - started_s
        time.sleep(pause_s(every_s, looked_s, n_faults))


def prepare(config: WatchConfig) -> None:
    """Do while nothing waits what the first picture would wait for.

    The contents of train and of the judging splits are hashed, which the store keeps, and whatever
    taking pictures in needs is imported. A fault is left to the looks, which tell it.
    """
    with suppress(DCDError):
        known_content(open_for_writing(config.run.store), config.run)


def look(
    config: WatchConfig, settling: Settling, now_s: float, tell: Callable[[str], object]
) -> None:
    """List the inbox; take in what has come to rest there, and wake a run for it.

    Of two watchers that take in the same one registers it, as `dcd.failures.intake` says.
    """
    if not settling.has_rested(Store(config.run.store).versions_under(keys.FAILURES_INBOX), now_s):
        return
    remind_after = timedelta(seconds=config.remind_after_s)
    arrival = failures.take_in.fn(config.run, None, remind_after)
    woken = ""
    if arrival.is_due:
        if run_waits(config.run):
            woken = "; the run that waits takes them"
        else:
            failures.announce.fn(config.run, arrival)
            woken = "; announced"
    settling.taken()
    found = arrival.intake
    tell(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: {found.n_files} new files: {found.n_new} "
        f"failures registered, {found.n_bad} refused{woken}"
    )


def run_waits(config: RunConfig) -> bool:
    """Tell whether a deployed run of this config is about to start: it will take all that waits."""
    soon = datetime.now(UTC) + _SOON
    not_begun = FlowRunFilter(
        state=FlowRunFilterState(
            type=FlowRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING])
        ),
        expected_start_time=FlowRunFilterExpectedStartTime.model_validate({"before_": soon}),
    )
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=["debug-model"])),
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=["default"])),
            flow_run_filter=not_begun,
        )
    return any(_takes_failures(run, config) for run in runs)


def _takes_failures(run: FlowRun, config: RunConfig) -> bool:
    of_run = run.parameters.get("config")
    wanted = {"name": config.name, "store": config.store, "failures": True}
    return (
        isinstance(of_run, dict)
        and wanted.items() <= {name: of_run.get(name) for name in wanted}.items()
    )


def pause_s(every_s: float, looked_s: float, n_faults: int) -> float:
    """How long to wait for the next look: longer where a look takes long, and after faults."""
    pause = max(every_s, looked_s / _SHARE_OF_TIME)
    return max(pause, min(every_s * 2**n_faults, _MAX_PAUSE_S)) if n_faults else pause
