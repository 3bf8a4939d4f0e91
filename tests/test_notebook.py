"""The notebook runs from its first cell to its last, and stays light."""

import base64
import hashlib
import io
import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

NOTEBOOK = Path(__file__).parents[1] / "examples/notebook.ipynb"
_NO_WIDGETS = "IProgress not found"  # tqdm's, where ipywidgets is not installed
_MAX_BYTES = 200_000
_ABSOLUTE = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|work|Users|var|usr)/|[A-Z]:\\\\")


def few_colours(png: str) -> str:
    """The picture, in base64, at a quarter of its bytes."""
    sink = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        flat = picture.convert("RGB").quantize(
            32, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
        )
    flat.save(sink, "PNG", optimize=True)
    return base64.b64encode(sink.getvalue()).decode()


def code_digest(notebook: nbformat.NotebookNode) -> str:
    """A short digest of all code, by which outputs are known to be of it."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()[:16]


def refreshed(notebook: nbformat.NotebookNode) -> str:
    """The notebook as text, with what each cell printed and drew, but not when and how long."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
            for out in cell.outputs:
                if "image/png" in out.get("data", {}):
                    out.data["image/png"] = few_colours(out.data["image/png"])
    notebook.metadata.language_info = {"name": "python"}
    notebook.metadata["outputs_of"] = code_digest(notebook)
    return nbformat.writes(notebook) + "\n"


def test_it_is_light_and_tells_no_path_of_the_machine_that_ran_it():
    text = NOTEBOOK.read_text("utf-8")
    assert len(text) < _MAX_BYTES
    printed = re.sub(r'"image/png": ".*?"', "", text)
    assert _ABSOLUTE.findall(printed) == []


def test_it_uses_the_names_that_stay_and_nothing_inside():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    assert re.findall(r"^(?:from dcd|import dcd\.).*", code, flags=re.M) == []
    assert "import dcd" in code


def test_what_it_shows_is_of_the_code_that_it_holds():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert notebook.metadata.get("outputs_of") == code_digest(notebook), (
        "a cell was changed; DCD_REFRESH_PICTURES=1 python -m pytest -m slow tests/test_notebook.py"
    )
    drawn = [bool(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]
    assert sum(drawn) == len(drawn) - 1, "all but the cell of helpers show something"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_cell_runs(tmp_path: Path):
    """With DCD_REFRESH_PICTURES set, what the cells printed and drew is kept in the notebook."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=400, kernel_name="python3", resources=where).execute()
    ran = [cell for cell in notebook.cells if cell.cell_type == "code"]
    said = [out.text for cell in ran for out in cell.outputs if out.get("name") == "stderr"]
    assert [text for text in said if _NO_WIDGETS not in text] == []
    drawn = [out for cell in ran for out in cell.outputs if "image/png" in out.get("data", {})]
    assert len(drawn) == 5
    if os.environ.get("DCD_REFRESH_PICTURES"):
        NOTEBOOK.write_text(refreshed(notebook), encoding="utf-8")
