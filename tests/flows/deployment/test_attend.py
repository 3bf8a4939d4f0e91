"""The whole thing as it is operated: a real server, a real worker, a real object store.

All six tests passed in each of two runs since the leases of the deployments' limits are on disk
(`PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE` in `flows/deployment/stack.py`), in 668 and 733 seconds.
Before, with leases in the server's memory, a run failed: the cut came while `watch-failures` ran,
its place in the limit stayed taken, every later watch was cancelled, and so nothing resumed the
crashed run. In another the server on SQLite was busy and answered 503; the test did not ask again
then, and does now.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import numpy as np
import pytest
from playwright.sync_api import Page

from dcd.store import Store
from tests.browser import chromium
from tests.case import LABELS, png, write_case
from tests.operated import TERMINAL, Stack, started, wait_for
from tests.s3_server import SwiftServer, client, use

pytestmark = [pytest.mark.operated, pytest.mark.s3, pytest.mark.timeout(900)]


N_CELLS = 7  # six baselines and the selection, at one seed


@pytest.fixture(scope="module")
def store(swift_server: SwiftServer) -> Iterator[Store]:
    bucket = f"operated-{uuid4().hex[:12]}"
    client(swift_server.url).create_bucket(Bucket=bucket)
    with pytest.MonkeyPatch.context() as patch:
        use(swift_server.url, patch)
        yield Store(f"s3://{bucket}/dcd")


@pytest.fixture(scope="module")
def stack(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("operated")
    config = write_case(folder / "case", seeds=(0,), store=store.url)
    with started(folder / "home", config, {}) as stack:
        yield stack


@pytest.fixture(scope="module")
def triggered(stack: Stack, store: Store) -> dict:
    """The run of debug-model that failing images in the inbox started, at its end."""
    rng = np.random.default_rng(7)
    dropped = datetime.now(UTC)
    for label in LABELS:
        for i in range(3):
            store.write_bytes(f"failures/inbox/{label}/evening{i}.png", png(rng, label, dark=True))
    run = wait_for("a triggered run", lambda: next(iter(_begun(stack)), None))
    _tell("the start of debug-model", run["start_time"], dropped)
    ended = wait_for("its end", lambda: _at_end(stack, run["id"]))
    _tell("its end, the champion in place", ended["end_time"], dropped)
    return ended


def test_failing_images_in_the_bucket_give_a_judged_model_and_a_report(triggered, store):
    assert triggered["state_name"] == "Completed", triggered["state"]
    assert triggered["created_by"]["type"] == "AUTOMATION"
    (report,) = [key for key in store.keys_under("runs") if key.endswith("report.html")]
    gate = json.loads(store.read_bytes(report.replace("report.html", "gate.json")))
    assert gate
    errors = store.read_table(report.replace("report.html", "error_sample.parquet"))
    assert errors.num_rows == 3 * len(LABELS) + 3 * len(LABELS)  # the case's own and the new ones


def test_a_second_run_elsewhere_reuses_every_result(stack, triggered):
    """As a user: from the command line, with another parameter."""
    config = json.loads(json.dumps(triggered["parameters"]["config"]))
    config["selection"]["k"] = 3
    ran = stack.prefect(
        *("deployment", "run", "debug-model/default", "--param", f"config={json.dumps(config)}"),
        "--watch",
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    run = stack.runs("debug-model")[0]
    assert run["parameters"]["config"]["selection"]["k"] == 3

    def states() -> dict[str, str] | None:
        rows = stack.post("task_runs/filter", flow_runs={"id": {"any_": [run["id"]]}})
        found = {row["name"]: row["state_name"] for row in rows}
        return found if "none seed 0" in found else None

    found = wait_for("its task runs", states)
    assert found["none seed 0"] == "Cached"
    assert found["selected seed 0"] == "Completed"


@pytest.mark.browser
def test_the_ui_shows_our_artifacts(stack, triggered):
    pages = {
        artifact["key"]: f"{stack.url}/artifacts/artifact/{artifact['latest_id']}"
        for artifact in stack.post("artifacts/latest/filter")
    }
    assert {"tiny-metrics", "tiny-trade-off", "tiny-report", "train-progress"} <= pages.keys()
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(pages["tiny-trade-off"])
        picture = page.locator("img[src^='data:image/svg+xml']").first
        picture.wait_for()
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        page.goto(pages["tiny-metrics"])
        page.get_by_text("debug_heldout").first.wait_for()
        page.goto(pages["tiny-report"])
        page.get_by_text("report").first.wait_for()
        page.goto(f"{stack.url}/runs/flow-run/{triggered['id']}")
        page.locator("li#artifacts").click()
        wait_for(
            "tiny-metrics among the run's artifacts", lambda: _scrolled_to(page, "tiny-metrics")
        )


def test_a_power_cut_loses_nothing_and_nothing_is_done_twice(stack, store, triggered):
    """Server, worker and run are killed at once; `make up` brings all back, and the run ends."""
    config = json.loads(json.dumps(triggered["parameters"]["config"]))
    config["training"]["l2"] = 0.01
    before = _finished_cells(store)
    (deployment,) = stack.post(
        "deployments/filter", flows={"name": {"any_": ["debug-model"]}}, limit=1
    )
    run = stack.post(
        f"deployments/{deployment['id']}/create_flow_run",
        parameters={"config": config},
        idempotency_key="power cut",  # asked twice, it is one run
    )
    wait_for("a finished cell", lambda: _finished_cells(store) - before)
    stack.kill(*stack.flow_processes(run["id"]), stack.pid("worker"), stack.pid("server"))
    done, finished = store.versions_under("cells"), _finished_cells(store)
    assert finished - before  # in mid-run: some of its cells are there, …
    assert len(finished - before) < N_CELLS  # … others are not
    stack.up()
    ended = wait_for("the end of the run", lambda: _at_end(stack, run["id"]), 900)
    assert ended["state_name"] == "Completed", ended["state"]
    after = store.versions_under("cells")
    assert len(_finished_cells(store) - before) == N_CELLS
    again = {key for key in done if key.rpartition("/")[0] in finished and after[key] != done[key]}
    assert again == set()
    states = {r["name"]: r["state_name"] for r in stack.runs("debug-model")}
    assert "Running" not in states.values()


def test_up_twice_starts_nothing_twice(stack):
    names = ("server", "worker", "watcher")
    pids = [stack.pid(name) for name in names]
    stack.up()
    assert [stack.pid(name) for name in names] == pids


def test_the_schedules_fire(stack, triggered):
    """Last, since the first of them is up to five minutes away."""

    def fired() -> bool:
        finished = [r for r in stack.runs("watch-failures") if r["state_name"] == "Completed"]
        return any(run["auto_scheduled"] for run in finished)

    wait_for("a scheduled look at the inbox", fired, 400)
    # `up` deploys, which removes what was planned; the server's next look, within 5 s, plans anew.
    planned = {"name": {"any_": ["Scheduled"]}}
    wait_for("the nightly run", lambda: stack.runs("embed-pool", state=planned), 120)


def _scrolled_to(page: Page, text: str) -> bool:
    """The page fetches the artifacts of task runs once they are near what is in sight."""
    page.mouse.move(760, 700)
    page.mouse.wheel(0, 400)
    return page.get_by_text(text).first.is_visible()


def _tell(what: str, at: str, dropped: datetime) -> None:
    waited = datetime.fromisoformat(at) - dropped
    print(f"from the drop to {what}: {waited.total_seconds():.0f} s")


def _finished_cells(store: Store) -> set[str]:
    """The cells whose predictions, written last, are there."""
    found = store.keys_under("cells")
    return {key.rpartition("/")[0] for key in found if key.endswith("/predictions.parquet")}


def _begun(stack: Stack) -> list[dict]:
    return [run for run in stack.runs("debug-model") if run["start_time"]]


def _at_end(stack: Stack, run_id: str) -> dict | None:
    (run,) = stack.runs("debug-model", id={"any_": [run_id]})
    # A crashed run is not at its end: it is resumed.
    ended = run["state_type"] in TERMINAL - {"CRASHED"}
    return run if ended else None
