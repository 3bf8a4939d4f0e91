"""Tasks run against the Prefect home of the flow tests."""

from tests.flows.conftest import prefect_home

__all__ = ["prefect_home"]
