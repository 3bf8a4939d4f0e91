"""From the inbox to the rerun: what arrives is announced once, embedded once, covered once."""

import json
import re

import pytest

from dcd.config import WatchConfig
from dcd.store import Store, keys
from flows.debug_model import debug_model
from flows.watch_failures import watch_failures
from tasks import failures as failure_tasks
from tests.dcd.failures.failing_images import case_with_registry, inbox, write_failures


@pytest.fixture
def events(monkeypatch) -> list[dict]:
    """The events that would go to the server."""
    sent: list[dict] = []
    monkeypatch.setattr(failure_tasks, "send", lambda event: sent.append(event.model_dump()))
    return sent


@pytest.mark.slow
def test_new_failures_wake_one_run_that_embeds_only_them(tmp_path, prefect_home, events):
    config = case_with_registry(tmp_path, compare={"baselines": ["none"]})
    store = Store(config.store)
    watch = WatchConfig(run=config)
    assert watch_failures(watch).waiting.n_failures == 0
    first = debug_model(config)
    assert events == []

    for seed in range(5):  # five batches, and a server that heard of none
        write_failures(inbox(config), 1, seed)
        arrival = watch_failures(watch)
    (inbox(config) / "red" / "broken.png").write_bytes(b"broken")
    watch_failures(watch)
    assert arrival.waiting.n_failures == 15
    assert len(events) == 5
    assert events[-1]["event"] == "dcd.failures.arrived"
    assert events[-1]["resource"]["prefect.resource.id"] == "dcd.failures.tiny"
    assert events[-1]["payload"] == {"batch_id": arrival.waiting.id, "n_new": 15, "n_bad": 0}

    again = watch_failures(WatchConfig(run=config, remind_after_s=0))
    assert again.is_due, "what nobody has worked off is announced again"
    rerun = debug_model(config)
    assert rerun.run_id != first.run_id
    after = watch_failures(WatchConfig(run=config, remind_after_s=0))
    assert (after.waiting.n_failures, after.is_due) == (0, False)

    stages = json.loads(store.read_bytes(keys.run(rerun.run_id, "card.json")))["stages"]
    n_new = {s["stage"]: s["n"] for s in stages if s["stage"].startswith("embed ")}
    assert n_new.pop("embed failures") == 15
    assert set(n_new.values()) == {0}
    failures = store.read_table(keys.run(rerun.run_id, "error_sample.parquet"))
    assert failures.num_rows == 9 + 15
    page = store.read_bytes(keys.run(rerun.run_id, "report.html")).decode()
    assert "not a readable JPEG" in page
    assert re.search(r"Cost: 15 images embedded", page)


@pytest.mark.slow
def test_a_registry_alone_is_an_error_sample(tmp_path, prefect_home, events):
    config = case_with_registry(tmp_path, compare={"baselines": ["none"]})
    config = config.model_copy(update={"error_sample": None})
    write_failures(inbox(config), 2, seed=1)
    watch_failures(WatchConfig(run=config))
    run = debug_model(config)
    failures = Store(config.store).read_table(keys.run(run.run_id, "error_sample.parquet"))
    assert failures.num_rows == 6
