"""Every flow that writes refuses the store of a newer dcd, also where no command looked before."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dcd.config import BuildIndexConfig, RunConfig, WatchConfig, load_config
from dcd.errors import StoreError
from dcd.store import Store, keys
from flows.build_index import build_index
from flows.debug_model import debug_model
from flows.embed_pool import embed_pool
from flows.find_neighbors import find_neighbors
from flows.select_images import select_images
from flows.watch_failures import watch_failures
from tests.case import write_case

NEWER = {"format": 99, "note": "vectors are kept elsewhere", "written_by": "dcd 9"}


def _index(config: RunConfig) -> object:
    return build_index(BuildIndexConfig(**dict(config.embedding())))


FLOWS: dict[str, Callable[[RunConfig], object]] = {
    "embed-pool": lambda config: embed_pool(config.embedding()),
    "build-index": _index,
    "select-images": select_images,
    "find-neighbors": lambda config: find_neighbors(config, {}, (), 1),
    "debug-model": debug_model,
    "watch-failures": lambda config: watch_failures(WatchConfig(run=config)),
}


@pytest.mark.parametrize("name", FLOWS)
def test_a_newer_store_is_left_as_it_is(name: str, tmp_path: Path, prefect_home: str):
    config = load_config(write_case(tmp_path))
    store = Store(config.store)
    store.write_json(keys.STORE_FORMAT, NEWER)
    with pytest.raises(StoreError, match="has format 99"):
        FLOWS[name](config)
    assert [found.key for found in store.objects_under()] == [keys.STORE_FORMAT]
