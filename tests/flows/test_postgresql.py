"""The server on a real PostgreSQL, as `make up` with DATABASE_URL starts it."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.case import write_case
from tests.operated import started, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture
def database_url() -> Iterator[str]:
    """A PostgreSQL cluster of its own; it refuses to run as root, so then as its own user."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = str(versions[-1]) if versions else shutil.which("initdb")
    if not found:
        pytest.skip("PostgreSQL is not installed (apt: postgresql)")
    bin_dir = Path(found).parent
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="dcd-postgres-"))
    if as_user:
        shutil.chown(folder, "postgres")
    data = folder / "data"

    def run(*command: str) -> None:
        subprocess.run([*as_user, *command], check=True, cwd="/", timeout=300)

    try:
        run(str(bin_dir / "initdb"), "-D", str(data), "-U", "dcd", "--auth=trust", "-N")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
        control = str(bin_dir / "pg_ctl")
        run(
            control,
            "-D",
            str(data),
            "-w",
            "-t",
            "240",
            "-l",
            f"{folder}/log",
            "-o",
            options,
            "start",
        )
        try:
            run(
                str(bin_dir / "createdb"),
                "-h",
                "127.0.0.1",
                "-p",
                str(port),
                "-U",
                "dcd",
                "prefect",
            )
            yield f"postgresql+asyncpg://dcd@127.0.0.1:{port}/prefect"
        finally:
            run(control, "-D", str(data), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_run_on_postgresql(database_url, tmp_path):
    config = write_case(tmp_path / "case", seeds=(0,))
    with started(tmp_path / "home", config, {"DATABASE_URL": database_url}) as stack:
        ran = stack.prefect("deployment", "run", "debug-model/default")
        assert ran.returncode == 0, ran.stdout + ran.stderr

        def completed():
            return [r for r in stack.runs("debug-model") if r["state_name"] == "Completed"]

        assert wait_for("a completed run", completed)
        assert stack.runs("embed-pool", state={"name": {"any_": ["Scheduled"]}})
        assert not list((tmp_path / "home").rglob("*.db"))
