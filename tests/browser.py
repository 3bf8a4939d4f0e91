"""A real Chromium for tests, without any traffic of its own."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

DOCS = Path(__file__).parents[1] / "docs"

_SILENT = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    assert path, "Chromium is missing: install it from the system's packages (apt: chromium)"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_SILENT))
        try:
            yield browser
        finally:
            browser.close()


def take_picture(page: Page, name: str, folder: Path) -> None:
    """Save what the page shows in `folder`; as docs/`name` where DCD_REFRESH_PICTURES is set."""
    path = (DOCS if os.environ.get("DCD_REFRESH_PICTURES") else folder) / name
    page.screenshot(path=path)
    with Image.open(path) as picture:
        grey = np.asarray(picture.convert("L"))
    # A page of text and tables has ink in many rows; an empty state or a spinner in few.
    inked = (np.abs(grey.astype(int) - int(np.median(grey))) > 40).any(axis=1)
    assert inked.mean() > 0.3, f"{path}: hardly anything is to be seen"
