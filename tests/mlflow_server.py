"""A real MLflow server for tests, which sees this environment's packages beside its own few.

Whole, MLflow has 850 MB and takes minutes to install. What it shares with us is taken from here, so
its environment, which is made once under the user's cache, has 90 MB.
"""

import os
import subprocess
import sys
import sysconfig
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

from tests.s3_server import free_ports

MLFLOW_VERSION = "3.17.2"  # as mlflow-skinny in constraints.txt
_PACKAGES = (
    *(f"{name}=={MLFLOW_VERSION}" for name in ("mlflow", "mlflow-skinny", "mlflow-tracing")),
    *("graphene==3.4.3", "graphql-core==3.2.14", "graphql-relay==3.2.0"),
    *("gunicorn==27.0.1", "huey==3.5.4", "skops==0.16.0"),
)
_SETTINGS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
_START_TIMEOUT_S = 300
_INSTALL_TIMEOUT_S = 600


class MlflowServer:
    """One server over one folder; `url` is its address while it runs."""

    def __init__(self, folder: Path):
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / "mlflow.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(_python(), "-m", "mlflow", "server", "--workers", "1"),
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


def _python() -> Path:
    """The interpreter of an environment with MLflow; made on first use."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    venv = cache / "dcd" / f"mlflow-{MLFLOW_VERSION}-py{version}"
    done, python = venv / "installed", venv / "bin/python"
    if not done.exists():
        make = [sys.executable, "-m", "venv", "--clear", "--without-pip", venv]
        subprocess.run(make, check=True)
        pip = [sys.executable, "-m", "pip", "--python", python]
        subprocess.run(
            [*pip, "install", "-q", "--no-deps", *_PACKAGES], check=True, timeout=_INSTALL_TIMEOUT_S
        )
        done.touch()
    # Each time: the cached environment may have been made from another place.
    beside = venv / "lib" / f"python{version}" / "site-packages" / "beside.pth"
    beside.write_text(sysconfig.get_path("purelib") + "\n")
    return python
