"""What `import dcd` hands out: lazy, typed, documented, and enough for a notebook."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dcd
from dcd.errors import DataError
from tests.case import write_case

NAMES = sorted(dcd._HOMES)
PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text("utf-8")


def test_the_page_lists_all_names_and_no_others():
    assert sorted(re.findall(r"^\| `dcd\.(\w+)\(", PAGE, flags=re.M)) == NAMES
    assert set(NAMES) <= set(dir(dcd))


@pytest.mark.parametrize("name", NAMES)
def test_each_is_typed_and_documented(name):
    function = getattr(dcd, name)
    assert (inspect.getdoc(function) or "").partition("\n")[0].endswith(".")
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())
    shown = re.search(rf"^\| `dcd\.{name}\(([^)]*)\)", PAGE, flags=re.M)
    assert shown is not None
    assert len(shown[1].split(",")) == len(signature.parameters)


def test_importing_it_imports_nothing_heavy():
    code = "import sys, dcd; print(*{m.partition('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "pyarrow", "pydantic", "numpy", "yaml"} & set(done.stdout.split())


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing"):
        _ = dcd.nothing


def test_a_notebook_runs_the_loop_and_looks_at_what_it_made(tmp_path):
    case = write_case(tmp_path, seeds=(0,), compare={"baselines": ["none"]}, gate={"policy": "off"})
    config = dcd.load_config(case)
    assert dcd.validate(config) == []
    info = dcd.run(config)
    store = dcd.open_store(config.store)
    assert [entry.run_id for entry in dcd.list_runs(store)] == [info.run_id]
    metrics = dcd.read_table(store, info.run_id, "metrics").to_pylist()
    assert {row["model"] for row in metrics} == {"none", "selected"}
    assert dcd.read_table(store, info.run_id, "debug_train").num_rows > 0
    assert dcd.champion(store) is None
    with pytest.raises(DataError, match="no such table"):
        dcd.read_table(store, "another", "metrics")
    assert dcd.run(config).run_id == info.run_id  # and nothing is done again
