"""The documentation as a site: built strictly, with every page and name, nothing fetched."""

import base64
import html
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import nbformat
import pytest
import yaml

import dcd

ROOT = Path(__file__).parents[1]
# What a browser fetches by itself; `a` is followed by people only.
_FETCHED = {
    "audio": "src",
    "embed": "src",
    "iframe": "src",
    "img": "src",
    "link": "href",
    "object": "data",
    "script": "src",
    "source": "src",
    "video": "src",
}
_REMOTE = re.compile(r"^(?:https?:)?//")
_REMOTE_STYLE = re.compile(r"""(?:url\(|@import)\s*["']?(?:https?:)?//""")
_UNREAD_MARKUP = re.compile(r"<p>(?:[-*|#] |\d\. )")


class _Assets(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name == _FETCHED.get(tag)]


def assets(page: str) -> list[str]:
    """The addresses that a browser fetches for a page."""
    parser = _Assets()
    parser.feed(page)
    return parser.found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-d", str(folder)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(
        command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False, timeout=240
    )
    assert built.returncode == 0, built.stderr
    return folder


def test_every_page_is_built(site: Path):
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")} - {"README"} | {"index"}
    assert {page.stem for page in site.glob("*.html")} - {"404"} == pages


def test_no_page_fetches_anything_from_elsewhere(site: Path):
    found = [url for page in site.rglob("*.html") for url in assets(page.read_text("utf-8"))]
    assert any(url.endswith(".js") for url in found)
    assert [url for url in found if _REMOTE.match(url)] == []
    styles = [*site.rglob("*.css"), *site.rglob("*.html")]
    assert [s for s in styles if _REMOTE_STYLE.search(s.read_text("utf-8"))] == []


def test_no_markup_stands_as_text_on_a_page(site: Path):
    found = {p.name: _UNREAD_MARKUP.findall(p.read_text("utf-8")) for p in site.glob("*.html")}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_the_reference_tells_of_every_name_that_the_package_hands_out(site: Path):
    page = (site / "reference.html").read_text("utf-8")
    told = dict(re.findall(r'<h3 id="dcd\.(\w+)".*?</h3>(.*?)(?=<h[23] )', page, re.S))
    assert set(told) == set(dcd._HOMES)
    assert [name for name, text in told.items() if not re.search(r"<p>[A-Z]\w+ .*\.", text)] == []


def test_the_notebook_is_a_page_with_all_that_it_says_prints_and_draws(site: Path):
    cells = nbformat.read(ROOT / "examples/notebook.ipynb", as_version=4).cells
    page = (site / "notebook.html").read_text("utf-8")
    shown = [address for address in assets(page) if re.fullmatch(r"notebook-\d+-\d+\.png", address)]
    outputs = [out for cell in cells if cell.cell_type == "code" for out in cell.outputs]
    drawn = [out.data["image/png"] for out in outputs if "image/png" in out.get("data", {})]
    assert [(site / name).read_bytes() for name in shown] == [base64.b64decode(d) for d in drawn]
    text = html.unescape(re.sub(r"<[^>]+>", "", page))
    for out in outputs:
        for line in out.get("text", "").splitlines():
            assert line in text
    for cell in cells:
        title = re.match(r"#+ (.*)", cell.source) if cell.cell_type == "markdown" else None
        assert title is None or title[1] in text
    assert "make site" not in text.split("Mending a classifier", 1)[1].split("And now?")[0]


def test_the_menu_is_grouped_as_the_home_page_is():
    # The whole file names a Python function, which only MkDocs' own loader reads.
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    nav = yaml.safe_load(text[text.index("\nnav:") :])["nav"]
    menu = {title: pages for entry in nav for title, pages in entry.items()}
    assert menu.pop("Home") == "README.md"
    home = (ROOT / "docs/README.md").read_text("utf-8")
    _, *parts = re.split(r"^\*\*(.+)\*\*$", home, flags=re.M)
    groups = {
        title: re.findall(r"^\| \[\w+\]\((\w+\.md)\)", rows, flags=re.M)
        for title, rows in zip(parts[::2], parts[1::2], strict=True)
    }
    assert menu == groups


@pytest.mark.browser
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)], ids=["desktop", "phone"])
def test_pages_fit_the_screen_and_ask_nobody_else(site: Path, width: int, height: int):
    from tests.browser import chromium

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def __init__(self, *args: object):
            super().__init__(*args, directory=str(site))  # pyright: ignore[reportArgumentType]

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}/"
    asked: list[str] = []
    try:
        with chromium() as browser:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.on("request", lambda request: asked.append(request.url))
            for name in ("index", "reference", "notebook", "results", "inputs", "architecture"):
                page.goto(f"{base}{name}.html")
                too_wide = page.evaluate(
                    "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                )
                assert too_wide <= 0, name
            page.goto(f"{base}index.html?q=champion")
            page.wait_for_selector(".md-search-result__link", state="attached")
    finally:
        server.shutdown()
        server.server_close()
    local = (base, "data:", "blob:")
    assert [url for url in asked if not url.startswith(local)] == []
