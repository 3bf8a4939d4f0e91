"""Fill the page of the notebook from examples/notebook.ipynb, as MkDocs builds the site.

The page holds what the notebook holds: its text, its code, and what each cell printed and drew when
it last ran. It is made anew at each build, so it cannot be older than the notebook.
"""

import base64
import binascii
import json
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PAGE = "notebook.md"
_NOTEBOOK = Path("examples/notebook.ipynb")
_TERMINAL_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pictures that the cells drew to the files of the site."""
    for name, picture in pictures(_cells(config)).items():
        files.append(File.generated(config, name, content=picture))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the notebook in place of what the page says on GitHub."""
    return as_markdown(_cells(config)) if page.file.src_uri == PAGE else markdown


def as_markdown(cells: list[dict]) -> str:
    """Write the cells one below the other; pictures under the names of `pictures`."""
    parts: list[str] = []
    for i, cell in enumerate(cells):
        if cell["cell_type"] == "markdown":
            parts.append(_text(cell["source"]))
            continue
        parts.append(_block("python", _text(cell["source"])))
        for j, output in enumerate(cell["outputs"]):
            data = output.get("data", {})
            if "image/png" in data:
                parts.append(f"![What the cell above drew]({_picture_name(i, j)})")
            elif output["output_type"] == "error":
                raise PluginError(f"{_NOTEBOOK}: cell {i} ended in an error; run it again")
            else:
                parts.append(_block("text", _text(output.get("text", data.get("text/plain", "")))))
    return "\n\n".join(parts) + "\n"


def pictures(cells: list[dict]) -> dict[str, bytes]:
    """Return the PNG bytes of all that the cells drew, by file name."""
    found: dict[str, bytes] = {}
    for i, cell in enumerate(cells):
        for j, output in enumerate(cell.get("outputs", [])):
            drawn = output.get("data", {}).get("image/png")
            if drawn is not None:
                try:
                    found[_picture_name(i, j)] = base64.b64decode(_text(drawn), validate=False)
                except binascii.Error as err:
                    raise PluginError(f"{_NOTEBOOK}: the picture of cell {i}: {err}") from err
    return found


def _cells(config: MkDocsConfig) -> list[dict]:
    path = Path(config.config_file_path).parent / _NOTEBOOK
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    if not any(cell.get("outputs") for cell in cells):
        raise PluginError(
            f"{_NOTEBOOK} has no outputs; DCD_REFRESH_PICTURES=1 python -m pytest -m slow "
            "tests/test_notebook.py runs it and keeps them"
        )
    return cells


def _picture_name(cell: int, output: int) -> str:
    return f"notebook-{cell}-{output}.png"


def _text(source: str | list[str]) -> str:
    """The notebook's format allows a text, or its lines."""
    return source if isinstance(source, str) else "".join(source)


def _block(language: str, text: str) -> str:
    return f"````{language}\n{_TERMINAL_COLOURS.sub('', text).rstrip()}\n````"
