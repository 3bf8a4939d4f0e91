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


# As two embedding threads do with their first batches.
FIRST_ARRAYS_AT_ONCE = """
import os, threading
import dcd.encoders.openvino_backend as backend
start = threading.Barrier(2)

def first_array():
    start.wait()
    backend.ov.Type.f32.to_dtype()

threads = [threading.Thread(target=first_array, daemon=True) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(30)
os._exit(any(thread.is_alive() for thread in threads))
"""


def test_two_threads_may_show_openvino_their_first_arrays_at_once():
    # With openvino 2026.4.1 alone six of twelve such processes waited for ever.
    command = [sys.executable, "-c", FIRST_ARRAYS_AT_ONCE]
    codes = [subprocess.run(command, timeout=120, check=False).returncode for _ in range(6)]
    assert codes == [0] * 6
