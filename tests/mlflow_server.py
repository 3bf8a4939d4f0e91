"""A real MLflow server for tests, which sees this environment's packages beside its own few.

Whole, MLflow has 850 MB and takes minutes to install. What it shares with us is taken from here, so
its environment, which is made once under the user's cache, has 90 MB.
"""

import os
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

from tests.environments import environment
from tests.s3_server import free_ports

MLFLOW_VERSION = "3.17.2"  # as mlflow-skinny in constraints.txt
_PACKAGES = (
    *(f"{name}=={MLFLOW_VERSION}" for name in ("mlflow", "mlflow-skinny", "mlflow-tracing")),
    *("graphene==3.4.3", "graphql-core==3.2.14", "graphql-relay==3.2.0"),
    *("gunicorn==27.0.1", "huey==3.5.4", "skops==0.16.0"),
)
_SETTINGS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
_START_TIMEOUT_S = 300


class MlflowServer:
    """One server over one folder; `url` is its address while it runs."""

    def __init__(self, folder: Path):
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / "mlflow.log"
        python = environment(f"mlflow-{MLFLOW_VERSION}", *_PACKAGES, beside_ours=True) / "python"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(python, "-m", "mlflow", "server", "--workers", "1"),
                    *("--host", "127.0.0.1", "--port", str(port)),
                    *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
                    *("--artifacts-destination", str(folder / "artifacts")),
                ],
                cwd=folder,
                env=os.environ | _SETTINGS,
                stdout=log,
                stderr=log,
            )
        self._wait_until_ready()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=60)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=5):
                return
            time.sleep(0.2)
        self._process.kill()
        raise RuntimeError(f"MLflow did not start:\n{self._log.read_text()}")
