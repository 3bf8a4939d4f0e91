"""`dcd review plan`: a plan that `dcd review export` opens."""

import re

from typer.testing import CliRunner

from flows.cli.app import app
from tests.case import write_case


def test_a_plan_is_made_and_goes_out(prefect_home, tmp_path):
    config = write_case(tmp_path, seeds=(0,))
    store = str(tmp_path / "store")
    planned = CliRunner().invoke(app, ["review", "plan", str(config), "--n", "6"])
    assert planned.exit_code == 0, planned.output
    assert planned.stdout.startswith("6 of ")  # how far it is goes to stderr
    found = re.search(r"/review/selections/(\w+)", planned.output)
    assert found is not None
    out = tmp_path / "out"
    places = ["--store", store, "--config", str(config)]
    exported = CliRunner().invoke(
        app, ["review", "export", found[1], str(out), "--to", "csv", *places]
    )
    assert exported.exit_code == 0, exported.output
    assert len((out / "reviews.csv").read_text(encoding="utf-8").splitlines()) == 1 + 6
