"""Every kind of object of the store, damaged in four ways: the next run ends as if nothing was.

What a run cannot make again it refuses by name.
"""

import inspect
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from dcd.config import RunConfig, load_config
from dcd.embeddings.status import FailedShard, note_failures
from dcd.errors import DCDError
from dcd.failures.intake import take_in_folder
from dcd.failures.registry import Pending, note_announced
from dcd.gate.promotion import promote_by_hand
from dcd.index import read as index_reading
from dcd.label_noise import pool_agreement
from dcd.reviews.decisions import Decision, record
from dcd.runs import loop
from dcd.runs.run import RunInfo
from dcd.splits import split as splits
from dcd.store import Store, keys, object_log
from dcd.store.forgotten import block
from dcd.store.kinds import kind_of
from dcd.training.checkpoints import Checkpoint
from tests.case import write_case
from tests.dcd.failures.failing_images import write_failures
from tests.dcd.selection.lpips_weights import write_alexnet

Damage = Callable[[bytes], bytes | None]
DAMAGES: dict[str, Damage] = {
    "truncated": lambda data: data[: len(data) // 2],
    "emptied": lambda data: b"",
    "deleted": lambda data: None,
    "bit": lambda data: flipped(data, len(data) // 3),
}

# What the first case leaves behind, and what only the second one does.
PLAIN = {
    *("cell config", "cell curve", "cell model", "cell picks", "cell predictions", "embeddings"),
    *("failures batches", "failures covered", "failures receipts", "hashes", "heads"),
    *("index agreement", "index copies", "index directions", "index index", "index labels"),
    *("index rows", "index sample", "index sources", "index vectors", "index votes", "maps"),
    *("neighbors", "noise", "pools shards", "rejects"),
    *("run card", "run config", "run curve", "run debug_train"),
    *("run error_sample", "run gate", "run metrics", "run model", "run neighbors", "run parts"),
    *("run predictions", "run rejects", "run report", "selection neighbors", "selection picks"),
    *("split", "store.json"),
}
RICH = {
    *("calibrations", "cell out_of_fold", "champion.json", "champions", "evaluations"),
    *("failures announced", "failures registry", "forgotten", "index codec", "index lists"),
    *("lpips", "pools failed", "reviewed", "reviews batches", "reviews decisions", "run ledger"),
    *("selection ledger",),
}
# And what neither does: the test that has it instead.
ELSEWHERE = {
    "cell checkpoint": "test_a_damaged_checkpoint_costs_a_training",
    "copies": "tests/dcd/splits/test_groups.py",
    "results": "tests/tasks/test_reuse.py",
    "comparisons": "tests/flows/test_compare.py",
    "index pseudo_labels": "tests/dcd/label_noise/test_pseudo_labels.py",
    "index shares": "tests/dcd/index/shares/test_build.py",
    ".probe": "none: it is there for a moment",
}
# Functions of dcd.store.keys that give no key of an object.
NO_KEYS = {
    *("digest", "table_digest", "slug", "pool_id", "embeddings_of", "encoders_of", "index"),
    "index_shares",
    *("selection", "cell", "run_models", "run_model"),
    *("run", "run_table", "MODEL_CONFIG"),  # names of files, and what takes any
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


@pytest.fixture(scope="module")
def rich(tmp_path_factory) -> tuple[RunConfig, str]:
    """The same with all that leaves objects of other kinds: int8, lists, LPIPS, rounds, reviews."""
    folder = tmp_path_factory.mktemp("rich")
    lpips = {"backbone": write_alexnet(folder / "alexnet.pth"), "candidates": 6}
    written = write_case(
        folder,
        seeds=(0,),
        failures=True,
        compare={"baselines": ["error_sample"]},
        encoder={"model": "test_resnet", "weights": "random", "input_size": 32}
        | {"precision": "int8"},
        selection={"k": 2, "min_agreement": 0, "general_min_trust": 0, "general_images": 12}
        | {"leak_distance": 0, "lpips": lpips},
        goal={"target": 0.999, "rounds": 2, "budget": 12},
    )
    config = load_config(written)
    # So little that even these few rows have lists, which no config may ask for.
    index = config.index.model_copy(update={"max_scan_bytes": 1024, "storage": "int8"})
    config = config.model_copy(update={"index": index})
    store = Store(config.store)
    write_failures(Path(store.path(keys.FAILURES_INBOX)), 2, seed=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(object_log, "_MAX_LOOSE_OBJECTS", 0)  # so that the views are written
        take_in_folder(store, config)
        first = loop.run(config)
        block(store, [b"0" * 32])  # a picture that is nowhere
        record(store, [_rejected(store, first.run_id)])
        promote_by_hand(store, first.run_id, None, force=True)
        second = loop.run(config)
    (encoder_id,) = (p.rpartition("/")[2] for p in _encoders(store, "colours"))
    note_failures(store, "colours", encoder_id, [FailedShard("pool-9", "was not there")])
    note_announced(store, config.name, Pending(("b-0",), 1))
    return config, second.run_id


def _encoders(store: Store, pool: str) -> set[str]:
    return {key.rpartition("/")[0] for key in store.keys_under(keys.encoders_of(pool))}


def _rejected(store: Store, run_id: str) -> Decision:
    """What somebody says of the first pick of a run."""
    pick = store.read_table(keys.run_table(run_id, "debug_train")).to_pylist()[0]
    columns = ["image_id", "content_hash"]
    tables = [store.read_table(k, columns) for k in store.keys_under(keys.encoders_of("colours"))]
    contents = {row["image_id"]: row["content_hash"] for t in tables for row in t.to_pylist()}
    content = contents[pick["image_id"]]
    return Decision("1", "ann", "colours", pick["image_id"], content, pick["label"], "reject", None)


@pytest.fixture
def store(request, tmp_path) -> Iterator[Store]:
    """A copy of a case's store in its place, which is put back afterwards."""
    name = "rich" if "rich" in request.fixturenames else "case"
    config, _ = request.getfixturevalue(name)
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
            last = next((e for e in ("copies", "checkpoint") if e in last), last)
            last = "shares" if folder == "index" and "shares" in rest.split("/") else last
            return f"{short[folder]} {last}"
        case "failures" | "reviews":
            return f"{folder} {rest.partition('/')[0].partition('.')[0]}"
        case "pools":
            return "pools failed" if last.startswith("failed") else f"pools {last}"
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
    if kind_of(key) == "kept" and how == "deleted":
        return  # nobody knows of it; what hangs on it is as if it had never been
    assert found.run_id == run_id
    assert views(store, run_id) == expected
    assert store.read_raw(f"{keys.run_model(run_id, 0)}/{keys.MODEL_WEIGHTS}") == model


@pytest.mark.parametrize(("kind", "how"), FEW)
def test_a_damaged_object_is_made_again(case, store, kind, how):
    key = by_kind(store)[kind]
    check_next_run(case, store, key, how)
    told = store.read_json(keys.run_card(case[1]))["made_again"]
    assert all(key in one for one in told)
    # The others are not read where all that is made of them stands, or are not there to be read;
    # of the models the run copies that of `selected`, which may be the one that was taken here.
    if kind != "cell model":
        assert len(told) == (kind in ("selection picks", "split"))


_DIGEST = "0123456789ab"
ARGUMENTS = {
    "prefix": keys.index("pool", "encoder", _DIGEST),
    "number": 0,
    "seed": 0,
    "name": "model.safetensors",  # of a cell's model; all other names may be anything
    "checkpoint_key": keys.checkpoint(_DIGEST),
    "segments": ("a",),
}


def every_key() -> Iterator[tuple[str, str]]:
    """What `dcd.store.keys` can name: the name of the function or the constant, and a key."""
    for name, function in inspect.getmembers(keys, inspect.isfunction):
        if name.startswith("_") or name in NO_KEYS or function.__module__ != keys.__name__:
            continue
        asked = inspect.signature(function).parameters
        yield name, function(*(ARGUMENTS.get(each, _DIGEST) for each in asked))
    for name, value in vars(keys).items():
        is_key = isinstance(value, str) and re.fullmatch(r"[\w/]+\.(json|parquet)", value)
        if name.isupper() and name not in NO_KEYS and is_key:
            yield name, value


def test_every_kind_of_key_is_in_the_matrix():
    """Whoever adds a kind of object adds it to a case above, or says where it is damaged."""
    known = PLAIN | RICH | ELSEWHERE.keys()
    found = {name: key for name, key in every_key() if name_of(key) not in known}
    assert not found
    assert [name for name, key in every_key() if kind_of(key) == "foreign"] == ["probe"]


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_damaged_checkpoint_costs_a_training(tmp_path, monkeypatch):
    config = load_config(
        write_case(tmp_path, seeds=(0,), training={"mode": "full", "epochs": 2}, compare={})
    )
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "clear", lambda self: None)  # as if killed just before
        run_id = loop.run(config).run_id
    store = Store(config.store)
    expected = views(store, run_id)
    left = [key for key in store.keys_under("cells") if key.endswith("checkpoint.pt")]
    assert left
    assert {name_of(key) for key in left} == {"cell checkpoint"}
    key, whole = left[0], store.read_raw(left[0])
    for how in DAMAGES.values():
        store.delete(keys.cell_predictions(key.split("/")[1]))
        store.write_raw(key, whole)
        damage(store, key, how)
        assert loop.run(config).run_id == run_id
        assert views(store, run_id) == expected


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("how", DAMAGES)
def test_every_kind_of_object(case, store, tmp_path, how):
    """The whole matrix; prints its table."""
    assert by_kind(store).keys() == PLAIN
    check_all(case, store, tmp_path, how, PLAIN)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("how", DAMAGES)
def test_every_kind_of_object_that_only_some_configs_make(rich, store, tmp_path, how):
    pytest.importorskip("nncf")
    assert by_kind(store).keys() - PLAIN == RICH
    check_all(rich, store, tmp_path, how, RICH)


def check_all(
    case: tuple[RunConfig, str], store: Store, tmp_path: Path, how: str, kinds: set[str]
) -> None:
    config, _ = case
    failed = {}
    for kind, key in sorted(by_kind(store).items()):
        if kind not in kinds:
            continue
        try:
            check_next_run(case, store, key, how)
        except Exception as err:  # all are told, not the first alone
            failed[kind] = repr(err)[:300]
        shutil.rmtree(config.store)
        shutil.copytree(tmp_path / "whole", config.store)
    assert not failed, json.dumps(failed, indent=1)
