"""`dcd serve` over the store of a real run, as Chromium shows it."""

import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import expect

from tests.browser import chromium, take_picture
from tests.reviewing import Served, arrived, order

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, prefect_home: str) -> Path:
    """Where the demonstration ran; its store is demo/store."""
    folder = tmp_path_factory.mktemp("served")
    subprocess.run([sys.executable, "-m", "flows", "demo"], cwd=folder, check=True)
    # What its gate says hangs on the last digits, and so on the CPU: a champion is named by hand.
    run = next(path.name for path in (folder / "demo/store/runs").iterdir())
    promote = [sys.executable, "-m", "flows", "promote", run, "--store", "demo/store", "--force"]
    subprocess.run(promote, cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """The pages over the store of the demonstration, served by the command."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "flows", "serve", "--store", "demo/store"]
    serving = subprocess.Popen([*command, "--port", str(port)], cwd=folder)
    url = f"http://127.0.0.1:{port}/"
    try:
        _wait_for(url, serving)
        yield url
    finally:
        serving.terminate()
        serving.wait(30)


def test_a_visitor_finds_the_run_its_report_and_the_champion(url: str, tmp_path: Path):
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 1100})
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        page.get_by_text("demo-").first.click()
        page.get_by_text(re.compile("^(Promoted|Refused by the gate)")).first.wait_for()
        page.get_by_text("filtered_pool").first.wait_for()
        take_picture(page, "serve.png", tmp_path)
        assert page.evaluate("document.documentElement.scrollWidth") == 1280
        page.get_by_role("link", name="report").first.click()
        page.locator("figure svg").first.wait_for()
        page.goto(f"{url}champions")
        page.get_by_text("demo-").first.wait_for()
    assert said == []
    assert [one for one in asked if not one.startswith((url, "data:"))] == []


def test_a_reviewer_sees_the_picks_beside_their_failures(folder: Path, tmp_path: Path):
    store = str(folder / "demo" / "store")
    run_id = next(path.name for path in Path(store, "runs").iterdir())
    served = Served(store)
    try:
        with chromium() as browser:
            page = arrived(browser, served, f"/review/runs/{run_id}", "Ann")
            page.set_viewport_size({"width": 1280, "height": 900})
            assert len(order(page)) > 400
            for key in "aaraaasaaraa":
                page.keyboard.press(key)
            expect(page.locator("#saved")).to_have_text("all saved", timeout=30_000)
            page.wait_for_timeout(1000)
            take_picture(page, "review.png", tmp_path)
            phone = browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True)
            page = arrived(phone, served, f"/review/runs/{run_id}", "Ann")
            order(page)
            page.wait_for_timeout(1000)
            take_picture(page, "review-phone.png", tmp_path)
    finally:
        served.kill()


def test_a_visitor_moves_about_the_map_and_opens_a_failure(folder: Path, url: str, tmp_path: Path):
    """By t-SNE, of the demonstration's config: nothing but the map is made anew."""
    document = yaml.safe_load((folder / "demo" / "config.yaml").read_text())
    document |= {"name": "map", "store": str(folder / "demo" / "store")}
    document |= {"map": {"method": "tsne", "max_images": 4000}, "gate": {"policy": "off"}}
    (folder / "demo" / "map.yaml").write_text(yaml.safe_dump(document))
    run = [sys.executable, "-m", "flows", "run", "demo/map.yaml"]
    subprocess.run(run, cwd=folder, check=True)
    (run_id,) = [path.name for path in (folder / "demo/store/runs").glob("map-*")]
    take_map_pictures(f"{url}runs/{run_id}", tmp_path)


def take_map_pictures(run_url: str, folder: Path) -> None:
    """Show a failure of the map on a desktop, and the map by posterior on a phone."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 960})
        page.goto(run_url)
        page.get_by_role("link", name="map", exact=True).click()
        expect(page.locator("#map")).to_have_attribute("data-drawn", re.compile(r"\d{4}"))
        page.locator("#map").focus()
        for key in "nnn":
            page.keyboard.press(key)
            page.wait_for_timeout(300)
        expect(page.locator("#panel img")).not_to_have_js_property("naturalWidth", 0)
        page.wait_for_timeout(300)
        take_picture(page, "map.png", folder)
        phone = browser.new_context(
            viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True
        )
        page = phone.new_page()
        page.goto(f"{run_url}/map")
        expect(page.locator("#map")).to_have_attribute("data-drawn", re.compile(r"\d{4}"))
        page.get_by_label("posterior").check()
        page.evaluate("document.querySelector('#choices').scrollIntoView()")
        x, y = page.evaluate("placeOf(nearest(canvas.width / 2, canvas.height / 3, Infinity))")
        box = page.locator("#map").bounding_box()
        assert box is not None
        page.touchscreen.tap(box["x"] + x, box["y"] + y)
        page.locator("#panel").wait_for()
        expect(page.locator("#panel img")).not_to_have_js_property("naturalWidth", 0)
        page.wait_for_timeout(300)
        take_picture(page, "map-phone.png", folder)


def _wait_for(url: str, serving: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert serving.poll() is None, "dcd serve has ended"
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise AssertionError(f"{url}: no answer within 60 s")
