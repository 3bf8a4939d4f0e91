"""`dcd demo`, as a new user runs it: the wheel alone, an empty home, output into a pipe."""

import json

import numpy as np
import pytest

from dcd.demo.clothes import FOLDER
from tests.wheel import install_wheel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
# The clothes come with a package of Debian, which .ci/run installs.
CLOTHES = pytest.mark.skipif(not FOLDER.is_dir(), reason="needs Debian's dataset-fashion-mnist")


@pytest.mark.parametrize("case", ["digits", pytest.param("clothes", marks=CLOTHES)])
def test_the_demo_shows_a_repaired_model_and_nothing_that_frightens(tmp_path, case):
    installed = install_wheel(tmp_path)
    chosen = () if case == "digits" else ("--case", case)
    done = installed.dcd("demo", *chosen, "--json", "metrics.json")
    assert done.returncode == 0, done.stderr
    folder = "demo" if case == "digits" else "demo-clothes"
    assert (installed.folder / folder / "store" / "runs").is_dir()
    assert "report.html" in done.stdout
    for noise in ("Traceback", "Warning", "leaked", "\x1b["):
        assert noise not in done.stderr + done.stdout, done.stderr

    rows = [
        row
        for row in json.loads((installed.folder / "metrics.json").read_text())
        if not row["mode"]
    ]
    assert len({row["seed"] for row in rows}) >= 3

    def accuracy(method: str, split: str) -> float:
        found = [r["accuracy"] for r in rows if (r["method"], r["split"]) == (method, split)]
        return float(np.mean(found))

    assert accuracy("selected", "debug_heldout") > accuracy("none", "debug_heldout") + 0.1
    assert accuracy("selected", "debug_heldout") > accuracy("random", "debug_heldout") + 0.1
    assert accuracy("selected", "test") > accuracy("none", "test") - 0.02
