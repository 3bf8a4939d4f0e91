"""No command imports what it does not use: `dcd --help` answers at once, the others soon."""

import subprocess
import sys
from pathlib import Path

import pytest

_NETWORKS = {"torch", "torchvision", "timm", "openvino", "safetensors"}
_STATISTICS = {"sklearn", "scipy", "faiss", "matplotlib"}
_ORCHESTRATION = {"prefect", "fastapi", "starlette", "uvicorn"}
_S3 = {"s3fs", "botocore", "aiohttp"}
_SEARCH = {"duckdb", "pyarrow.dataset"}
_TRACKERS = {"mlflow"}
_HEAVY = _NETWORKS | _STATISTICS | _ORCHESTRATION | _S3 | _SEARCH | _TRACKERS
_CODE = """
import sys
from flows.cli.app import app
try:
    app(sys.argv[1:], prog_name="dcd")
except SystemExit as done:
    print("exit code:", done.code or 0)
print("imported:", *sorted(sys.modules))
"""


def imported(*arguments: object) -> set[str]:
    """What a command imports until it has done its work."""
    done = subprocess.run(
        [sys.executable, "-c", _CODE, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    said, _, modules = done.stdout.partition("imported:")
    assert "exit code: 0" in said, done.stdout[-2000:] + done.stderr
    return set(modules.split())


def test_help_imports_nothing_heavy():
    modules = imported("--help")
    assert "typer" in modules
    assert modules & (_HEAVY | {"pyarrow", "numpy", "fsspec", "PIL", "pydantic"}) == set()


@pytest.mark.parametrize("command", [("champions",), ("store", "usage")], ids=" ".join)
def test_looking_at_the_names_in_a_store_imports_no_arrow(command: tuple[str, ...], tmp_path: Path):
    modules = imported(*command, "--store", tmp_path / "store")
    assert "fsspec" in modules
    assert modules & (_HEAVY | {"pyarrow", "numpy", "PIL"}) == set()
    assert command == ("store", "usage") or "dcd.config.run" not in modules


def test_the_flow_begins_without_networks_figures_and_statistics():
    code = "import sys, flows.debug_model; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    modules = set(done.stdout.split())
    assert "prefect" in modules
    drawn_and_reckoned_later = {"matplotlib", "scipy", "sklearn"}
    unused = _NETWORKS | _TRACKERS | drawn_and_reckoned_later | {"botocore", "s3fs"}
    assert modules & unused == set()
