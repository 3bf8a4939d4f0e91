"""`dcd run` with a real MLflow server, as Chromium shows it."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.browser import chromium, take_picture
from tests.case import write_case
from tests.mlflow_server import MlflowServer

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    yield server
    server.stop()


def run_twice(config: Path, server: MlflowServer) -> str:
    """What the second of two identical runs prints; the first makes, the second reuses."""
    environ = os.environ | {
        "MLFLOW_TRACKING_URI": server.url.replace("//", "//me:geheim@"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "flows", "run", config.name],
            cwd=config.parent,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        assert done.returncode == 0, done.stderr
        assert "geheim" not in done.stdout + done.stderr
    return done.stdout


def test_two_identical_runs_are_one_run_in_mlflows_pages(server, s3_url, tmp_path, prefect_home):
    baselines = {"baselines": ["none", "random"]}
    config = write_case(tmp_path, store=s3_url, compare=baselines)
    config.write_text(config.read_text().replace(f"{tmp_path}/", ""))  # the picture shows them
    said = run_twice(config, server)
    (told,) = [line for line in said.splitlines() if line.startswith("MLflow: ")]
    page_url = told.removeprefix("MLflow: ")
    experiment, mlflow_run = page_url.split("/")[-3], page_url.split("/")[-1]
    asked = urllib.request.Request(
        f"{server.url}/api/2.0/mlflow/runs/search",
        json.dumps({"experiment_ids": [experiment]}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        (run,) = json.load(answer)["runs"]
    assert run["info"]["run_id"] == mlflow_run
    name = run["info"]["run_name"]
    assert name.startswith("tiny-")
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 1300})
        page.goto(page_url)
        page.get_by_role("heading", name=name).wait_for(timeout=120_000)
        page.get_by_text("selected/debug_heldout_accuracy", exact=True).first.wait_for()
        assert page.get_by_text("Finished").count() == 1
        if page.get_by_text("MLflow Assistant").count():
            page.get_by_role("button", name="Close").first.click()
        take_picture(page, "mlflow.png", tmp_path)
        page.get_by_role("tab", name="Artifacts").click()
        page.get_by_text("trade-off.svg").click()
        page.get_by_text("report.html").first.wait_for()
