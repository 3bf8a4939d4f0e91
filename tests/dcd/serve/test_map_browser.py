"""The map in a real browser: points are drawn, move, and open their pictures."""

from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from dcd.config import load_config
from dcd.maps.draw import read_map
from dcd.report.record import DrawnMap
from dcd.runs import loop
from dcd.serve.app import create_app
from dcd.serve.map_pages import map_of_run
from dcd.store import Store
from tests.browser import chromium
from tests.case import write_case
from tests.served import served

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[tuple[str, DrawnMap]]:
    """The address of a run's map, and its points."""
    path = write_case(tmp_path_factory.mktemp("case"), seeds=(0,), compare={"baselines": ["none"]})
    config = load_config(path)
    run_id = loop.run(config).run_id
    store = Store(config.store)
    with served(create_app(store)) as url:
        yield f"{url}/runs/{run_id}/map", read_map(store, str(map_of_run(store, run_id)))


@pytest.fixture(params=["desktop", "phone"])
def page(request, place) -> Iterator[Page]:
    """The map, opened; at the end nothing was complained about and nothing else was asked for."""
    url, drawn = place
    sizes = {
        "desktop": {"viewport": {"width": 1280, "height": 900}},
        "phone": {
            "viewport": {"width": 390, "height": 844},
            "device_scale_factor": 2,
            "is_mobile": True,
            "has_touch": True,
        },
    }
    with chromium() as browser:
        page = browser.new_context(**sizes[request.param]).new_page()
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        expect(page.locator("#map")).to_have_attribute("data-drawn", str(drawn.points.num_rows))
        yield page
        assert said == []
        host = url.partition("/runs/")[0]
        assert [one for one in asked if not one.startswith((host, "data:"))] == []


def shown_at(page: Page, i: int) -> tuple[float, float]:
    """Where a point is on the page, in CSS pixels."""
    page.locator("#map").scroll_into_view_if_needed()
    return tuple(
        page.evaluate(
            """i => { const [x, y] = placeOf(i), box = canvas.getBoundingClientRect(),
            s = box.width / canvas.width; return [box.left + x * s, box.top + y * s] }""",
            i,
        )
    )


def panel_point(page: Page) -> int:
    page.locator("#panel").wait_for()
    return int(page.locator("#panel").get_attribute("data-point") or -1)


def ink(page: Page) -> int:
    """How many pixels of the canvas are not empty."""
    return page.evaluate(
        """() => { const d = new Uint32Array(pen.getImageData(0, 0, canvas.width, canvas.height)
        .data.buffer); return d.reduce((n, word) => n + (word ? 1 : 0), 0) }"""
    )


def test_a_click_opens_the_picture_of_the_point_that_is_there(page, place):
    _, drawn = place
    assert ink(page) > 100
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    number = drawn.points["role"].to_pylist().index("failure")
    page.mouse.click(*shown_at(page, number))
    found = drawn.points.slice(panel_point(page), 1).to_pylist()[0]
    asked_for = drawn.points.slice(number, 1).to_pylist()[0]
    # Points may lie on one another; the one that is opened is where the click was.
    assert np.hypot(found["x"] - asked_for["x"], found["y"] - asked_for["y"]) < 0.05
    panel = page.locator("#panel")
    expect(panel).to_contain_text(found["image_id"])
    expect(panel).to_contain_text(found["label"])
    expect(page.locator("#panel img")).not_to_have_js_property("naturalWidth", 0)
    page.locator("#close").click()
    expect(panel).to_be_hidden()


def test_it_is_used_by_keys_alone(page, place):
    _, drawn = place
    roles = drawn.points["role"].to_pylist()
    page.locator("#map").focus()
    page.keyboard.press("n")
    assert roles[panel_point(page)] == "failure"
    page.keyboard.press("n")
    expect(page.locator("#panel")).not_to_have_attribute("data-point", str(len(roles) - 1))
    page.keyboard.press("Escape")
    expect(page.locator("#panel")).to_be_hidden()
    before = page.evaluate("view.half")
    page.keyboard.press("+")
    assert page.evaluate("view.half") == pytest.approx(1.5 * before)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("0")
    assert page.evaluate("view.half") == pytest.approx(before)
    page.keyboard.press("Enter")
    page.locator("#panel").wait_for()


def test_roles_and_labels_are_filtered_and_coloured(page, place):
    _, drawn = place
    canvas = page.locator("#map")
    page.get_by_label("pool").uncheck()
    others = drawn.points.num_rows - drawn.count("pool")
    expect(canvas).to_have_attribute("data-drawn", str(others))
    page.get_by_label("pool").check()
    page.get_by_label("Only").select_option(label="red")
    red = drawn.points["label"].to_pylist().count("red")
    expect(canvas).to_have_attribute("data-drawn", str(red))
    page.get_by_label("label", exact=True).check()
    expect(page.locator("#colours li")).to_have_count(3)
    page.get_by_label("posterior").check()
    expect(page.locator("#colours li")).to_have_count(5)


def test_it_is_dragged_and_zoomed_by_hand(page):
    box = page.locator("#map").bounding_box()
    assert box is not None
    page.locator("#map").scroll_into_view_if_needed()
    box = page.locator("#map").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    before = page.evaluate("[view.x, view.y]")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 40, steps=4)
    page.mouse.up()
    scale = page.evaluate("canvas.width / canvas.clientWidth")
    after = page.evaluate("[view.x, view.y]")
    assert after[0] - before[0] == pytest.approx(60 * scale, abs=2)
    assert after[1] - before[1] == pytest.approx(40 * scale, abs=2)
    expect(page.locator("#panel")).to_be_hidden()
    half = page.evaluate("view.half")
    page.get_by_label("Zoom in").click()
    assert page.evaluate("view.half") > half
    page.get_by_label("Show all").click()
    assert page.evaluate("view.half") == pytest.approx(half)
