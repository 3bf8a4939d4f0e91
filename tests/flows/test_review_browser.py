"""`dcd serve --review` as two reviewers use it in Chromium: all that was shown as saved is kept."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from dcd.config import load_config
from dcd.failures.intake import take_in_folder
from dcd.reviews.decisions import read_reviews
from dcd.reviews.standing import standing
from dcd.runs import loop
from dcd.store import Store
from tests.browser import chromium
from tests.case import write_case
from tests.dcd.failures.failing_images import case_with_registry, inbox, write_failures
from tests.reviewing import Served, arrived, enter, order

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

N_DECISIONS = 200
WAIT_MS = 30_000


@pytest.fixture
def served_failures(tmp_path: Path) -> Iterator[tuple[Served, Store]]:
    """A registry of 204 failures, and the server over it."""
    config = case_with_registry(tmp_path)
    write_failures(inbox(config), 68, seed=1)
    store = Store(config.store)
    assert take_in_folder(store, config).n_new == 204
    served = Served(config.store)
    yield served, store
    served.kill()


def test_nothing_that_was_shown_as_saved_is_lost(served_failures):
    served, store = served_failures
    verbs = {"a": "accept", "r": "reject", "s": "skip"}
    with chromium() as browser:
        page = arrived(browser, served, "/review/failures/all", "ann")
        images = order(page)
        expected = {}
        for i, key in zip(range(100), itertools.cycle("aars"), strict=False):
            page.keyboard.press(key)
            expected[images[i]] = verbs[key]
        page.keyboard.press("u")
        undone = images[99]
        del expected[undone]
        expect(page.locator("#saved")).to_have_text("all saved", timeout=WAIT_MS)
        page.reload()
        expect(page.locator("#progress")).to_have_text("99 of 204 decided", timeout=WAIT_MS)

        served.kill()
        for i in range(99, 199):
            page.keyboard.press("a")
            expected[images[i]] = "accept"
        expect(page.locator("#trouble")).to_contain_text("decisions wait in this browser")
        expect(page.locator("#saved")).to_contain_text("not saved yet")
        assert len(standing(read_reviews(store))) == 99
        desk = page.url
        served.start()
        enter(page, served)
        page.goto(desk)
        expect(page.locator("#saved")).to_have_text("all saved", timeout=WAIT_MS)
        page.keyboard.press("l")
        page.locator("#label").press_sequentially("blu" if label_at(page) != "blue" else "gre")
        page.keyboard.press("Enter")
        expected[images[199]] = "relabel"
        expect(page.locator("#saved")).to_have_text("all saved", timeout=WAIT_MS)

        other = arrived(browser.new_context(), served, "/review/failures/all", "bob")
        order(other)
        other.locator(".tile").first.click()
        other.keyboard.press("r")
        expected[images[0]] = "reject"
        expect(other.locator("#saved")).to_have_text("all saved", timeout=WAIT_MS)

    reviews = read_reviews(store)
    assert len(expected) == N_DECISIONS
    found = {one.image_id: one.verb for one in standing(reviews).values()}
    assert found == expected
    # 200 decisions that stand, one that was undone with its undo, one that bob came after.
    assert reviews.num_rows == N_DECISIONS + 3
    of_first = [r for r in reviews.to_pylist() if r["image_id"] == images[0]]
    assert [(r["reviewer"], r["decision"]) for r in of_first] == [
        ("ann", "accept"),
        ("bob", "reject"),
    ]


def label_at(page: Page) -> str:
    return page.locator(".tile[aria-current] .line span").first.inner_text()


def test_a_phone_reviews_the_picks_of_a_run(tmp_path: Path):
    config = load_config(write_case(tmp_path, seeds=(0,)))
    info = loop.run(config)
    served = Served(config.store)
    try:
        with chromium() as browser:
            phone = browser.new_context(
                viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
            )
            said = []
            page = arrived(phone, served, f"/review/runs/{info.run_id}", "ann")
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            first = order(page)[0]
            page.get_by_role("button", name="Reject").tap()
            expect(page.locator("#saved")).to_have_text("all saved", timeout=WAIT_MS)
            assert page.evaluate("document.documentElement.scrollWidth") == 390
            broken = "[...document.images].filter(i => i.complete && !i.naturalWidth).length"
            assert page.evaluate(broken) == 0
            assert said == []
        [row] = read_reviews(Store(config.store)).to_pylist()
        assert (row["image_id"], row["decision"]) == (first, "reject")
    finally:
        served.kill()
