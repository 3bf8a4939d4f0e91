"""Show a finished run in MLflow, once: sent again it is the same MLflow run, brought up to date.

Where, and with which rights, the environment says as it does to MLflow itself. MLflow is imported
when something is sent.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from dcd.errors import ConfigError, DataError
from dcd.export.tracked import RUN_ID, STORE, TrackedRun, describe_run, write_files
from dcd.scratch import scratch_folder
from dcd.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

URI = "MLFLOW_TRACKING_URI"
EXPERIMENT = "data-centric-debugging"
INSTALL = "pip install 'data-centric-debugging[mlflow]'"
_SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_QUIET = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}  # the address may hold a password
# Unless the user says otherwise: a server that is away holds nobody up for the minutes of MLflow's
# own defaults, and nothing is told to MLflow's makers.
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_PARAMETERS_AT_ONCE = 100  # what MLflow's servers take in one request


def named_server() -> str | None:
    """Return where runs are to be shown, as the environment names it; None where it does not."""
    return os.environ.get(URI) or None


def send_run(store: Store, run_id: str) -> str:
    """Make or update the MLflow run of a finished run; returns its address, without credentials.

    Raises ConfigError if no server is named or MLflow is not installed, DataError with what MLflow
    said if that failed. What was sent until then stays, and is completed by another try.
    """
    server = named_server()
    if server is None:
        raise ConfigError([f"{URI}: is not set; name MLflow's server, as in http://HOST:5000"])
    if find_spec("mlflow") is None:
        raise ConfigError([f"{URI}: is set, but MLflow is not installed: {INSTALL}"])
    tracked = describe_run(store, run_id)
    settings = _SETTINGS | {k: v for k, v in os.environ.items() if k in _SETTINGS} | _QUIET
    with _environment(settings), scratch_folder("mlflow") as folder:
        write_files(store, tracked, folder)
        try:
            return _send(server, tracked, folder)
        # MLflow's stores are plugins, of databases and clouds, each with errors of its own.
        except Exception as err:
            said = hidden(" ".join(str(err).split()), server)
            raise DataError(
                f"{run_id}: is not shown in MLflow at {hidden(server, server)}: "
                f"{type(err).__name__}: {said:.500}"
            ) from None


def hidden(text: str, server: str) -> str:
    """Return text without the user, password or token that MLflow is reached with."""
    user_part = urlsplit(server).netloc.rpartition("@")[0]
    _, _, password = user_part.partition(":")
    secrets = [f"{user_part}@" if user_part else "", password, unquote(password)]
    for secret in (*secrets, *(os.environ.get(name, "") for name in _SECRETS)):
        text = text.replace(secret, "" if secret.endswith("@") else "***") if secret else text
    return text


def _send(server: str, tracked: TrackedRun, folder: Path) -> str:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    client = MlflowClient(server)
    experiment = _experiment(client)
    run = _found(client, experiment, tracked) or client.create_run(
        experiment,
        start_time=_milliseconds(tracked.began.timestamp()),
        tags=dict(tracked.tags),
        run_name=tracked.run_id,
    )
    id_there = run.info.run_id
    ended = run.info.end_time or _milliseconds(tracked.ended.timestamp())
    given = [Param(name, value) for name, value in tracked.parameters.items()]
    metrics = [Metric(name, value, ended, 0) for name, value in tracked.metrics.items()]
    tags = [RunTag(name, value) for name, value in tracked.tags.items()]
    tags.append(RunTag("mlflow.note.content", tracked.note))
    client.log_batch(id_there, metrics=metrics, tags=tags)
    for at in range(0, len(given), _PARAMETERS_AT_ONCE):
        client.log_batch(id_there, params=given[at : at + _PARAMETERS_AT_ONCE])
    _send_files(client, id_there, folder)
    client.set_terminated(id_there, "FINISHED", ended)
    shown = hidden(server, server).rstrip("/")
    if not shown.startswith("http"):  # a database: no pages
        return f"{shown}, run {id_there}"
    return f"{shown}/#/experiments/{experiment}/runs/{id_there}"


def _experiment(client: "MlflowClient") -> str:
    """The id of the experiment that the environment names, or of ours."""
    if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return given
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    found = client.get_experiment_by_name(name)
    if found is not None:
        return found.experiment_id
    return client.create_experiment(
        name, tags={"mlflow.experimentKind": "custom_model_development"}
    )


def _found(client: "MlflowClient", experiment: str, tracked: TrackedRun) -> "Run | None":
    """The MLflow run that an earlier send made, whole or not."""
    runs = client.search_runs([experiment], f"tags.`{RUN_ID}` = '{tracked.run_id}'")
    ours = [run for run in runs if run.data.tags.get(STORE) == tracked.tags[STORE]]
    return min(ours, key=lambda run: run.info.start_time, default=None)


def _send_files(client: "MlflowClient", id_there: str, folder: Path) -> None:
    """Send each file, but not weights that are there in their whole size."""
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        place = path.relative_to(folder).parent.as_posix()
        there = client.list_artifacts(id_there, place) if place != "." else ()
        sizes = {file.path.rpartition("/")[2]: file.file_size for file in there}
        if sizes.get(path.name) != path.stat().st_size:
            client.log_artifact(id_there, str(path), None if place == "." else place)


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment for the block."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
