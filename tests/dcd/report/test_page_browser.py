"""The report as Chromium shows it, offline."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser

from dcd.report.page import render
from tests.browser import chromium
from tests.dcd.report.run_records import hostile, noise

pytestmark = pytest.mark.browser

_COLORS_OF = """selector => {
  const style = getComputedStyle(document.querySelector(selector));
  const front = selector.endsWith("text") ? style.fill : style.color;
  return [front, getComputedStyle(document.body).backgroundColor]
    .map(color => color.match(/[\\d.]+/g).slice(0, 3).map(Number));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(hostile(), noise(32)), encoding="utf-8")
    return path


@pytest.mark.parametrize("width_px", [360, 768, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_renders_whole_and_silent(
    browser: Browser, file: Path, width_px: int, scheme: Literal["light", "dark"]
):
    page = browser.new_page(viewport={"width": width_px, "height": 800}, color_scheme=scheme)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    for _ in range(page.locator("details:not([open]) > summary:visible").count()):
        page.locator("details:not([open]) > summary:visible").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width_px
    for image in page.locator("img").all():
        image.scroll_into_view_if_needed()
    page.wait_for_function("[...document.images].every(i => i.complete && i.naturalWidth)")
    assert page.locator("img").count() > 40
    assert page.locator("figure svg:visible").count() == 1
    assert page.title() != "owned"
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    page.close()


def test_dark_and_light_are_both_legible(browser: Browser, file: Path):
    grounds = []
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(file.as_uri())
        for selector in ("body", ".note", ".fell", "figure text", "summary"):
            front, back = page.evaluate(_COLORS_OF, selector)
            assert contrast(front, back) >= 4.5, (scheme, selector, front, back)
        grounds.append(back)
        page.close()
    assert contrast(*grounds) > 10


def test_it_prints_with_every_failure_unfolded(browser: Browser, file: Path):
    page = browser.new_page()
    page.emulate_media(media="print")
    page.goto(file.as_uri())
    rows = page.locator("#failures article.failure")
    assert rows.count() == 6
    assert all(row.evaluate("row => row.checkVisibility()") for row in rows.all())
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.close()


def contrast(one: list[float], other: list[float]) -> float:
    """Contrast ratio of two sRGB colours (WCAG 2.2, relative luminance)."""

    def luminance(color: list[float]) -> float:
        linear = [
            v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
            for v in (channel / 255 for channel in color)
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
