"""Every kind of object of the store, damaged in four ways: the next run ends as if nothing was.

What a run cannot make again it refuses by name.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from dcd.config import RunConfig, load_config
from dcd.errors import DCDError
from dcd.failures.intake import take_in_folder
from dcd.index import read as index_reading
from dcd.label_noise import pool_agreement
from dcd.runs import loop
from dcd.runs.run import RunInfo
from dcd.splits import split as splits
from dcd.store import Store, keys
from dcd.store.kinds import kind_of
from tests.case import write_case
from tests.dcd.failures.failing_images import write_failures

Damage = Callable[[bytes], bytes | None]
DAMAGES: dict[str, Damage] = {
    "truncated": lambda data: data[: len(data) // 2],
    "emptied": lambda data: b"",
    "deleted": lambda data: None,
    "bit": lambda data: flipped(data, len(data) // 3),
}

# One of each, in the default suite.
FEW = (
    ("index vectors", "bit"),
    ("selection picks", "truncated"),
    ("cell model", "bit"),
    ("split", "emptied"),
    ("embeddings", "deleted"),
)
VIEWS = ("metrics", "predictions", "debug_train", "neighbors", "error_sample")


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> tuple[RunConfig, str]:
    """A store with a finished run, registered failures and a champion, and the run's id."""
    folder = tmp_path_factory.mktemp("case")
    every = ["error_sample", "random", "whole_pool", "filtered_pool"]
    config = load_config(
        write_case(folder, seeds=(0,), compare={"baselines": every}, failures=True)
    )
    store = Store(config.store)
    write_failures(Path(store.path(keys.FAILURES_INBOX)), 2, seed=5)
    take_in_folder(store, config)
    info = loop.run(config)
    return config, info.run_id


@pytest.fixture
def store(case, tmp_path) -> Iterator[Store]:
    """A copy of that store in its place, which is put back afterwards."""
    config, _ = case
    shutil.copytree(config.store, tmp_path / "whole")
    forget()
    yield Store(config.store)
    shutil.rmtree(config.store)
    shutil.copytree(tmp_path / "whole", config.store)
    forget()


def forget() -> None:
    """Let go of what a process holds of a store, as a new one would."""
    splits._split_table.cache_clear()
    index_reading.held_sample.cache_clear()
    pool_agreement._reference.cache_clear()


def by_kind(store: Store) -> dict[str, str]:
    """One key of each kind of object, by a name of the kind."""
    found: dict[str, str] = {}
    for key in store.keys_under(""):
        if key.startswith(keys.FAILURES_INBOX):
            continue
        found.setdefault(name_of(key), key)
    return found


def name_of(key: str) -> str:
    folder, _, rest = key.partition("/")
    last = re.sub(r"[-0-9]*\.\w+$", "", key.rpartition("/")[2])
    match folder:
        case "index" | "cells" | "selections" | "runs":
            short = {"index": "index", "cells": "cell", "selections": "selection", "runs": "run"}
            last = "picks" if last == "debug_train" and folder == "selections" else last
            last = "copies" if last.startswith("copies") else last
            return f"{short[folder]} {last}"
        case "failures":
            return f"failures {rest.partition('/')[0].partition('.')[0]}"
        case "splits":
            return "split"
        case _:
            return folder


def damage(store: Store, key: str, how: Damage) -> None:
    data = how(store.read_raw(key))
    if data is None:
        store.delete(key)
    else:
        store.write_raw(key, data)


def views(store: Store, run_id: str) -> dict[str, pa.Table | dict]:
    found: dict = {name: store.read_table(keys.run_table(run_id, name)) for name in VIEWS}
    return {name: table.replace_schema_metadata(None) for name, table in found.items()}


def outcome(config: RunConfig) -> RunInfo | DCDError:
    try:
        return loop.run(config)
    except DCDError as refusal:
        return refusal


def check_next_run(case: tuple[RunConfig, str], store: Store, key: str, how: str) -> None:
    config, run_id = case
    expected = views(store, run_id)
    model = store.read_raw(f"{keys.run_model(run_id, 0)}/{keys.MODEL_WEIGHTS}")
    damage(store, key, DAMAGES[how])
    forget()
    found = outcome(config)
    if isinstance(found, DCDError):
        assert kind_of(key) == "kept", found
        assert key.rpartition("/")[2] in str(found)
        assert "dcd store restore" in str(found)
        return
    assert found.run_id == run_id
    assert views(store, run_id) == expected
    assert store.read_raw(f"{keys.run_model(run_id, 0)}/{keys.MODEL_WEIGHTS}") == model


@pytest.mark.parametrize(("kind", "how"), FEW)
def test_a_damaged_object_is_made_again(case, store, kind, how):
    check_next_run(case, store, by_kind(store)[kind], how)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("how", DAMAGES)
def test_every_kind_of_object(case, store, tmp_path, how):
    """The whole matrix; prints its table."""
    config, _ = case
    failed = {}
    for kind, key in sorted(by_kind(store).items()):
        try:
            check_next_run(case, store, key, how)
        except Exception as err:  # all are told, not the first alone
            failed[kind] = repr(err)[:300]
        shutil.rmtree(config.store)
        shutil.copytree(tmp_path / "whole", config.store)
    assert not failed, json.dumps(failed, indent=1)
