"""A finished run in MLflow, by MLflow's own client and a database of its own."""

import json
import sys

import pytest

from dcd.config import load_config
from dcd.errors import ConfigError, DataError
from dcd.export.mlflow_runs import EXPERIMENT, hidden, send_run
from dcd.export.tracked import describe_run, flat, write_files
from dcd.runs.finished import list_runs, run_config
from dcd.store import Store, keys
from tests.case import write_case


@pytest.fixture(scope="module")
def run_id(store: Store) -> str:
    return list_runs(store)[0].run_id


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> str:
    """Where MLflow makes its tables, which takes it seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def client(database, tmp_path, monkeypatch):
    """A client of the database, which the environment names for the test."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return mlflow.MlflowClient(database)


def test_a_run_that_is_sent_twice_is_one_run_with_its_figures_and_files(store, run_id, client):
    for _ in range(2):
        send_run(store, run_id)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == run_id
    assert run.data.tags["dcd.run_id"] == run_id
    assert run.data.params["selection.k"] == "2"
    assert run.data.params["encoder.model"] == "test_efficientnet"
    card = json.loads(store.read_bytes(keys.run_card(run_id)))
    (of_test,) = [
        row
        for row in card["metrics"]
        if (row["method"], row["split"], row["mode"]) == ("selected", "test", None)
    ]
    found = run.data.metrics
    assert found["selected/test_accuracy"] == pytest.approx(of_test["accuracy"])
    assert found["selected/n_picks"] == of_test["n_picks"]
    for split in ("test", "debug_heldout", "debug_val"):
        name = f"selected/{split}_accuracy"
        assert found[f"{name}_low"] <= found[name] <= found[f"{name}_high"]
    assert len(client.get_metric_history(run.info.run_id, "selected/test_accuracy")) == 1
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"report.html", "card.json", "card.md", "trade-off.svg", "model"}
    (weights,) = [
        file
        for file in client.list_artifacts(run.info.run_id, "model/seed0")
        if file.path.endswith(keys.MODEL_WEIGHTS)
    ]
    key = f"{keys.run_model(run_id, 0)}/{keys.MODEL_WEIGHTS}"
    assert weights.file_size == len(store.read_bytes(key))


def test_a_send_that_was_broken_off_is_completed(store, run_id, client, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "broken off")
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient.log_artifact", lambda *_: 1 / 0)
        with pytest.raises(DataError, match="ZeroDivisionError"):
            send_run(store, run_id)
    experiment = client.get_experiment_by_name("broken off")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "RUNNING"
    send_run(store, run_id)
    (again,) = client.search_runs([experiment.experiment_id])
    assert again.info.run_id == run.info.run_id
    assert again.info.status == "FINISHED"


def test_a_server_that_is_away_is_one_error_without_its_password(store, run_id, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:geheim@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(DataError, match=f"{run_id}: is not shown in MLflow") as refused:
        send_run(store, run_id)
    assert "geheim" not in str(refused.value)
    assert "http://127.0.0.1:1" in str(refused.value)
    assert refused.value.__suppress_context__


def test_without_a_server_or_without_mlflow_it_says_what_to_do(store, run_id, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI: is not set"):
        send_run(store, run_id)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ConfigError, match=r"pip install 'data-centric-debugging\[mlflow\]'"):
        send_run(store, run_id)


@pytest.mark.parametrize(
    ("server", "secret"),
    [
        ("http://me:p%40ss@host:5000", "p@ss"),
        ("http://me:p%40ss@host:5000", "p%40ss"),
        ("postgresql://me:geheim@host/db", "me:geheim@"),
        ("https://host", "token-of-mine"),
    ],
)
def test_no_message_shows_what_a_server_is_reached_with(server, secret, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "token-of-mine")
    told = hidden(f"cannot reach {server} with {secret}", server)
    assert secret not in told
    assert told.startswith("cannot reach")


def test_parameters_are_the_whole_config_by_dotted_names(tmp_path):
    selections = {"wide": {"k": 5, "general_images": 12}}
    config = load_config(write_case(tmp_path, compare={"selections": selections}))
    told = dict(flat(config))
    assert told["seeds"] == "[0, 1]"
    assert told["selection.k"] == "2"
    assert told["compare.selections.wide.k"] == "5"
    assert told["pool.name"] == "colours"
    assert "not_like_this" not in told
    assert all(name.replace(".", "").replace("_", "").isalnum() for name in told)


def test_the_description_is_whole_without_a_tracker(store, run_id, tmp_path):
    tracked = describe_run(store, run_id)
    assert tracked.tags["dcd.gate"] == "promoted"
    assert tracked.began <= tracked.ended
    assert tracked.parameters["name"] == run_config(store, run_id).name
    write_files(store, tracked, tmp_path)
    assert (tmp_path / "trade-off.svg").read_text().startswith("<svg")
    assert (tmp_path / "report.html").read_bytes() == store.read_bytes(keys.run_report(run_id))
