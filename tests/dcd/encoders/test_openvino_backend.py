"""OpenVINO reports nothing over the network, whoever imports it first and in what order."""

import subprocess
import sys

import pytest

_TOLD = "import sys; print('openvino' in sys.modules, sys.modules.get('openvino_telemetry', 0))"


@pytest.mark.parametrize("module", ["dcd.encoders.openvino_backend", "dcd.encoders.encoder"])
def test_openvino_finds_no_reporter(module: str):
    """A fresh process: another test may have imported openvino long before."""
    code = f"import {module}; import dcd.encoders.openvino_backend; {_TOLD}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["True", "None"]
