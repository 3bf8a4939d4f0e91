"""`dcd cache explain` beside a Prefect server, on runs whose tasks keep their results."""

import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.testing.utilities import prefect_test_harness
from typer.testing import CliRunner

from dcd.cells.cell import CellInfo
from flows.cli.app import app
from tasks import reuse
from tasks.result_keys import ResultKey
from tests.operated import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PATH = "results/train-and-evaluate/selected-seed0/enc/splits/picks/{training}/{training}-cell"


@task(name="work", task_run_name="selected seed 0", cache_policy=NO_CACHE)
def work():
    return CellInfo("id", "selected", 0, 6, reused=False)


@task(name="look", task_run_name="look around", cache_policy=NO_CACHE)
def look():
    return None


@flow(name="explained")
def once(config: dict, training: str):
    key = ResultKey(PATH.format(training=training), outputs_stand=True)
    future = reuse.kept(work, config["store"], key).submit()
    future.wait()
    look()


@pytest.fixture(scope="module", autouse=True)
def _server(prefect_home):
    with prefect_test_harness(server_startup_timeout=240):
        yield


def explain(run: str, task: str) -> str:
    """The answer, once the server has written the task run down."""

    def answered() -> str | None:
        ran = CliRunner().invoke(app, ["cache", "explain", run, task])
        return None if ran.exit_code or "not finished" in ran.output else ran.output

    return " ".join(wait_for(f"{task} of {run}", answered, 240).split())


def test_it_says_what_was_reused_and_in_what_the_others_differ(tmp_path):
    config = {"store": str(tmp_path)}

    def run(name: str, training: str) -> None:
        once.with_options(flow_run_name=name)(config, training)

    run("first", "l2-1")
    assert "first of its kind" in explain("first", "selected")
    assert "no result is kept" in explain("first", "look")
    run("second", "l2-1")
    assert "selected seed 0: reused" in explain("second", "selected")
    run("third", "l2-2")
    assert "differs in: training" in explain("third", "selected")


def test_an_unknown_run_and_an_unknown_task_are_told():
    ran = CliRunner().invoke(app, ["cache", "explain", "no such run", "x"])
    assert ran.exit_code == 1
    assert "no such run" in ran.output
