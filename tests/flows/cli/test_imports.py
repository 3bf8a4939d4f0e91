"""`dcd --help` answers at once: what takes seconds to import is imported by the commands."""

import subprocess
import sys

_HEAVY = {
    "torch", "torchvision", "timm", "openvino", "prefect", "duckdb", "pyarrow", "faiss", "sklearn",
    "scipy", "matplotlib", "fsspec", "s3fs", "PIL", "fastapi", "datasets", "numpy",
}  # fmt: skip
_CODE = """
import sys
from flows.cli.app import app
try:
    app(["--help"], prog_name="dcd")
except SystemExit:
    pass
print("imported:", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_help_imports_nothing_heavy():
    done = subprocess.run(
        [sys.executable, "-c", _CODE], capture_output=True, text=True, check=True, timeout=120
    )
    assert "Repair a failing image classifier" in done.stdout
    imported = set(done.stdout.partition("imported:")[2].split())
    assert "typer" in imported
    assert imported & _HEAVY == set()
