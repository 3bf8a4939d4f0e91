"""What an operator sees of a run in Prefect's own pages, as Chromium shows them."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from dcd.demo.case import write_demo
from tests.browser import chromium, take_picture
from tests.operated import Stack, started

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

BROWSE_URL = "http://127.0.0.1:4280"
PATIENCE_MS = 120_000


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`make up` for the demonstration, then one run by hand as docs/operations.md says."""
    folder = tmp_path_factory.mktemp("ui")
    config = write_demo(folder / "demo")
    with started(folder / "home", config, {"DCD_BROWSE_URL": BROWSE_URL}) as stack:
        ran = stack.prefect("deployment", "run", "debug-model/default", "--watch")
        assert ran.returncode == 0, ran.stdout + ran.stderr
        yield stack


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 1160})  # down to the last card
        page.set_default_timeout(PATIENCE_MS)
        yield page


@pytest.fixture(scope="module")
def artifacts(stack: Stack) -> dict[str, str]:
    """The address of each artifact's page, by its key."""
    return {
        artifact["key"]: f"{stack.url}/artifacts/artifact/{artifact['latest_id']}"
        for artifact in stack.post("artifacts/latest/filter")
    }


def test_the_run_shows_its_stages_and_artifacts(stack: Stack, page: Page, tmp_path: Path):
    (run,) = stack.runs("debug-model")
    assert run["state_name"] == "Completed"
    page.goto(f"{stack.url}/runs/flow-run/{run['id']}")
    page.get_by_text("debug demo").first.wait_for()
    page.get_by_text("Artifacts", exact=True).last.click()
    for key in ("train-progress", "demo-metrics", "demo-trade-off", "demo-report"):
        page.get_by_text(key, exact=True).first.wait_for()
    page.get_by_text("models trained").first.wait_for()
    page.locator("canvas").first.wait_for()  # the stages over time
    page.wait_for_timeout(3000)  # it comes into place by and by
    take_picture(page, "prefect-ui.png", tmp_path)


def test_the_table_is_a_table_with_the_verdict(
    page: Page, artifacts: dict[str, str], tmp_path: Path
):
    page.goto(artifacts["demo-metrics"])
    page.get_by_text("Better on the failures").last.wait_for()
    rows = page.locator("table tr").filter(has_text=re.compile("^selected"))
    assert rows.first.locator("td").count() == 5
    assert page.locator("table tr").count() == 8  # the head, six baselines, the selection
    assert re.search(r"\d\d\.\d \(\d\d\.\d to \d\d\.\d\)", rows.first.inner_text())
    page.set_viewport_size({"width": 1280, "height": 950})  # down to the end of the table
    take_picture(page, "prefect-metrics.png", tmp_path)


def test_the_figure_is_drawn(page: Page, artifacts: dict[str, str]):
    page.goto(artifacts["demo-trade-off"])
    picture = page.locator("img[src^='data:image/svg+xml']").first
    picture.wait_for()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


def test_the_report_is_a_link_to_dcd_serve(page: Page, artifacts: dict[str, str]):
    page.goto(artifacts["demo-report"])
    page.locator(f"a[href^='{BROWSE_URL}/runs/demo-'][href$='/report.html']").first.wait_for()
