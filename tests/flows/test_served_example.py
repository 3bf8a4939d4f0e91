"""What examples/serve.py hands to Prefect is a deployment of the loop whose parameters it takes."""

import runpy
import sys
from pathlib import Path

import pytest

from dcd.config import RunConfig, load_config
from flows.debug_model import debug_model
from tests.case import write_case

EXAMPLE = Path(__file__).parents[2] / "examples" / "serve.py"


def test_the_example_serves_a_config_that_the_flow_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = write_case(tmp_path)
    served = {}

    def serve(flow: object, name: str, parameters: dict[str, object]) -> None:
        assert flow is debug_model
        served[name] = debug_model.validate_parameters(parameters)["config"]

    monkeypatch.setattr(type(debug_model), "serve", serve)
    monkeypatch.setattr(sys, "argv", ["serve.py", str(path)])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert isinstance(served["try-out"], RunConfig)
    assert served["try-out"] == load_config(path)
