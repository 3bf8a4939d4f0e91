"""A served store and a reviewer in a real browser, for tests."""

import itertools
import os
import re
import signal
import socket
import subprocess
import sys

from playwright.sync_api import Browser, BrowserContext, Page


class Served:
    """`dcd serve --review` over a store, at one port however often it is started."""

    def __init__(self, store: str):
        self._store = store
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = str(free.getsockname()[1])
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "flows", "serve", "--review", "--store", self._store]
        self._serving = subprocess.Popen(
            [*command, "--port", self._port], stdout=subprocess.PIPE, text=True
        )
        assert self._serving.stdout is not None
        said = itertools.islice(self._serving.stdout, 2)
        self.address = next(m[1] for line in said if (m := re.search(r"(http\S+token=\S+)", line)))

    def kill(self) -> None:
        os.kill(self._serving.pid, signal.SIGKILL)
        self._serving.wait(30)


def arrived(browser: Browser | BrowserContext, served: Served, path: str, name: str) -> Page:
    """Open the printed address, then a page to review, and give a name where it is asked."""
    page = browser.new_page()
    enter(page, served)
    page.goto(page.url.removesuffix("/review") + path)
    page.locator("#reviewer").fill(name)
    page.get_by_role("button", name="Begin").click()
    return page


def enter(page: Page, served: Served) -> None:
    for _ in range(100):
        try:
            page.goto(served.address)
            return
        except Exception:  # not listening yet
            page.wait_for_timeout(200)
    raise AssertionError("the server does not answer")


def order(page: Page) -> list[str]:
    page.locator(".tile").first.wait_for()
    return page.eval_on_selector_all(".tile", "tiles => tiles.map(tile => tile.title)")
