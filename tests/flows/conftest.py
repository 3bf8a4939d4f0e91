"""Flows run against a Prefect home of their own, so that a user's ~/.prefect stays as it is."""

import os
import tempfile

import pytest

from flows.cli.console import configure_prefect

# Prefect reads its settings when it is imported, which collecting the test modules does.
_HOME = tempfile.mkdtemp(prefix="dcd-prefect-")
os.environ["PREFECT_HOME"] = _HOME
configure_prefect(verbose=False)


@pytest.fixture(scope="session")
def prefect_home() -> str:
    return _HOME
