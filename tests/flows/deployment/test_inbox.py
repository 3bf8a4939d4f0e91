"""The watcher of the inbox: what it waits for, what it lives through, what it tells a server."""

import os
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun

from dcd.config import DataConfig, RunConfig, WatchConfig
from dcd.errors import StoreError
from dcd.failures.known_content import known_content
from dcd.failures.settling import Settling
from dcd.store import Store
from flows.deployment import inbox
from flows.deployment.stack import Watch
from flows.server.temporary import temporary_server
from tasks import failures as failure_tasks
from tests.dcd.failures.failing_images import case_with_registry, write_failures
from tests.dcd.failures.failing_images import inbox as inbox_of


@pytest.fixture
def sent(monkeypatch) -> list[dict]:
    """The events that would go to the server."""
    told: list[dict] = []
    monkeypatch.setattr(failure_tasks, "send", lambda event: told.append(event.payload))
    return told


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return case_with_registry(tmp_path)


def looks(config: RunConfig, seconds: range, settling: Settling) -> list[str]:
    """What looks at these seconds tell."""
    told: list[str] = []
    for second in seconds:
        inbox.look(WatchConfig(run=config), settling, float(second), told.append)
    return told


@pytest.mark.parametrize("a_run_waits", [False, True])
def test_what_came_to_rest_is_registered_and_told_once(config, sent, monkeypatch, a_run_waits):
    monkeypatch.setattr(inbox, "run_waits", lambda config: a_run_waits)
    settling = Settling(inbox.QUIET_S, inbox.AT_MOST_S)
    for seed in range(5):
        write_failures(inbox_of(config), 1, seed)
        assert looks(config, range(seed, seed + 1), settling) == []
    (told,) = looks(config, range(5, 60), settling)
    assert "15 new files: 15 failures registered, 0 refused" in told
    assert [payload["n_new"] for payload in sent] == ([] if a_run_waits else [15])


def test_what_cannot_be_taken_in_is_tried_again(config, sent, monkeypatch):
    monkeypatch.setattr(inbox, "run_waits", lambda config: False)
    settling = Settling(inbox.QUIET_S, inbox.AT_MOST_S)
    write_failures(inbox_of(config), 1, seed=1)
    with monkeypatch.context() as away:

        def refuse(event):
            raise httpx.ConnectError("no server")

        away.setattr(failure_tasks, "send", refuse)
        with pytest.raises(httpx.ConnectError):
            looks(config, range(10), settling)
    (told,) = looks(config, range(10, 60), settling)
    assert told.endswith("announced")
    assert len(sent) == 1


def test_a_watcher_lives_through_a_store_that_is_away(config, monkeypatch):
    told, waits = [], []
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 9:
            raise KeyboardInterrupt

    def away(*looked):
        raise StoreError("s3://away: does not answer")

    monkeypatch.setattr(inbox, "look", away)
    monkeypatch.setattr(inbox.PREFECT_API_URL, "value", lambda: "http://127.0.0.1:9/api")
    monkeypatch.setattr(time, "sleep", wait)
    with pytest.raises(KeyboardInterrupt):
        inbox.watch_inbox(WatchConfig(run=config), 2, told.append)
    assert waits == [4, 8, 16, 32, 60, 60, 60, 60, 60]
    assert told[-1] == "looked in vain, 9 times: StoreError: s3://away: does not answer"


def test_what_the_first_picture_would_wait_for_is_done_before_it_comes(config):
    store = Store(config.store)
    assert not store.keys_under("hashes")
    inbox.prepare(WatchConfig(run=config))
    hashed = store.versions_under("hashes")
    assert hashed
    known_content(store, config)
    assert store.versions_under("hashes") == hashed
    nowhere = config.model_copy(update={"train": DataConfig(images="no such folder")})
    inbox.prepare(WatchConfig(run=nowhere))  # the looks tell it


def test_looking_at_a_full_inbox_takes_a_tenth_of_the_time():
    assert inbox.pause_s(2, looked_s=0.01, n_faults=0) == 2
    assert inbox.pause_s(2, looked_s=3, n_faults=0) == pytest.approx(30)


def test_only_a_run_of_this_config_takes_its_failures(config):
    def takes(**changed: object) -> bool:
        parameters = {"config": config.model_copy(update=changed).model_dump(mode="json")}
        return inbox._takes_failures(FlowRun(flow_id=uuid4(), parameters=parameters), config)

    assert takes()
    assert takes(seeds=(7,))
    assert not takes(failures=False)
    assert not takes(name="another")
    assert not takes(store="another")
    assert not inbox._takes_failures(FlowRun(flow_id=uuid4(), parameters={}), config)


@pytest.mark.slow
def test_a_real_server_hears_of_five_drops_once(config, prefect_home):
    """As `dcd up` starts it: a process, until it is ended; the server's own events are asked."""
    with temporary_server() as ready:
        ready()
        url = os.environ["PREFECT_API_URL"]
        since = datetime.now(UTC) - timedelta(minutes=1)
        (config_file,) = Path(config.store).parent.glob("*.yaml")
        command = Watch(config_file, every_s=1).command
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as it:
            try:
                for seed in range(5):
                    write_failures(inbox_of(config), 1, seed)
                    time.sleep(0.3)
                assert it.stdout is not None
                told = it.stdout.readline()
                assert "15 failures registered, 0 refused; announced" in told
            finally:
                it.terminate()
        wanted = {
            "filter": {
                "event": {"name": ["dcd.failures.arrived"]},
                "occurred": {"since": since.isoformat()},
            }
        }
        deadline = time.monotonic() + 60
        while not (found := httpx.post(f"{url}/events/filter", json=wanted).json()["events"]):
            assert time.monotonic() < deadline, "the server has no such event"
            time.sleep(0.5)
    assert [event["payload"]["n_new"] for event in found] == [15]
