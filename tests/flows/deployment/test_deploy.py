"""The files of a deployment against the code that they name; nothing is started."""

import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint

from dcd.config import load_config
from dcd.errors import ConfigError
from flows.deployment.attend import MAX_STARTS, CrashedTooOften, attend
from flows.deployment.deploy import PREFECT_FILE, deploy, parameters_of, read_automations
from tests.case import write_case

DOCUMENT = yaml.safe_load(PREFECT_FILE.read_text())
ENTRIES = {each["entrypoint"].split(".")[1]: each for each in DOCUMENT["deployments"]}


@pytest.fixture
def config(tmp_path):
    return load_config(write_case(tmp_path))


@pytest.mark.parametrize("name", ENTRIES)
def test_every_deployment_gets_the_parameters_that_its_flow_takes(
    name, config, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # an installed package has no checkout
    entry = ENTRIES[name]
    flow = load_flow_from_entrypoint(entry["entrypoint"])
    variable = entry["parameters"]["config"].strip("{} ").removeprefix("prefect.variables.")
    given = flow.validate_parameters({"config": parameters_of(config)[variable]})
    assert given["config"].model_dump(mode="json") == parameters_of(config)[variable]


@pytest.mark.parametrize("name", ENTRIES)
def test_every_deployment_says_what_it_is_and_never_runs_beside_itself(name):
    entry = ENTRIES[name]
    assert len(entry["description"]) > 40
    assert "dcd" in entry["tags"]
    assert entry["work_pool"]["name"] == "dcd"
    # With a command a worker starts one process for a run, and otherwise three.
    assert entry["work_pool"]["job_variables"]["command"].endswith(" -m prefect.engine")
    assert entry["concurrency_limit"]["limit"] == 1
    assert entry["concurrency_limit"]["collision_strategy"] in ("ENQUEUE", "CANCEL_NEW")


def test_all_parameters_are_used(config):
    text = PREFECT_FILE.read_text()
    assert all(f"prefect.variables.{name} " in text for name in parameters_of(config))


def test_a_run_that_failures_start_takes_them(config):
    assert not config.failures
    deployed = parameters_of(config)
    assert deployed["dcd_debug_model"]["failures"]
    assert deployed["dcd_watch_failures"]["run"] == deployed["dcd_debug_model"]


def test_a_late_event_does_not_wait_for_the_next_window():
    (trigger,) = ENTRIES["debug_model"]["triggers"]
    assert trigger["schedule_after"] >= trigger["within"]


def test_the_automations_are_what_the_server_takes_and_name_flows_that_exist():
    automations = read_automations(PREFECT_FILE.with_name("automations.yaml"))
    assert [a.name for a in automations] == ["dcd: mark dead runs", "dcd: resume crashed runs"]
    resumed = automations[1].trigger.model_dump()["match_related"]["prefect.resource.name"]
    flows = {yaml_name.replace("_", "-") for yaml_name in ENTRIES}
    assert set(resumed) >= {"embed-pool", "debug-model"}
    assert flows - set(resumed) <= {"watch-failures"}  # runs again by itself in a few minutes


def test_a_run_that_crashes_again_and_again_gives_up(monkeypatch):
    listened = []
    monkeypatch.setattr("dcd.progress.live.listen", listened.append)
    attend()  # no deployment: nothing happens
    assert listened == []
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "some-deployment")
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__RUN_COUNT", str(MAX_STARTS))
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__NAME", "debug tiny")
    attend()
    assert len(listened) == 1
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__RUN_COUNT", str(MAX_STARTS + 1))
    with pytest.raises(CrashedTooOften, match="debug tiny: started 4 times"):
        attend()


def test_a_folder_with_packages_that_would_hide_ours_is_refused(config, tmp_path, monkeypatch):
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="flows: would be taken for dcd's own package"):
        deploy(config, PREFECT_FILE)
