import pytest

from dcd.store import Store
from tests.champion_store import champion_store


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Store:
    """Read only: the tests of this folder share it."""
    return champion_store(tmp_path_factory.mktemp("champion"))
