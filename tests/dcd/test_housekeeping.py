import json
import os
from datetime import UTC, datetime, timedelta

import pytest

from dcd import keys
from dcd.errors import ObjectUnreadable
from dcd.housekeeping import Usage, newest, newest_indexes, parts, plan, plan_pruning, prune, usage
from dcd.store import Store, StoredObject

NOW = datetime(2026, 1, 31, tzinfo=UTC)


def stored(key: str, days_ago: float = 30, n_bytes: int = 10) -> StoredObject:
    return StoredObject(key, n_bytes, NOW - timedelta(days=days_ago))


def test_objects_belong_to_cells_selections_indexes_and_splits():
    objects = [
        stored("cells/c1/model/model.safetensors", n_bytes=100),
        stored("cells/c1/predictions.parquet", days_ago=2),
        stored("index/pool/encoder/i1/reference-1/rows.parquet"),
        stored("index/pool/encoder/i1/index.json"),
        stored("selections/s1/debug_train.parquet"),
        stored("splits/t1.parquet"),
        stored("embeddings/pool/encoder/shard.parquet"),
        stored("runs/r/model/seed0/model.safetensors"),
        stored("failures/batches/b.parquet"),
        stored("champion.json"),
    ]
    found = parts(objects)
    assert [part.key for part in found] == [
        "cells/c1",
        "index/pool/encoder/i1",
        "selections/s1",
        "splits/t1.parquet",
    ]
    assert (found[0].kind, found[0].n_bytes) == ("cells", 110)
    assert found[0].written == NOW - timedelta(days=2)
    assert [keys.says_done(part.key) for part in found] == [
        "cells/c1/predictions.parquet",
        "index/pool/encoder/i1/index.json",
        "selections/s1/debug_train.parquet",
        "splits/t1.parquet",
    ]


def test_what_is_needed_or_new_stays():
    found = parts(
        [
            stored("cells/needed/predictions.parquet"),
            stored("cells/old/predictions.parquet"),
            stored("cells/new/predictions.parquet", days_ago=6),
            stored("cells/under-way/picks.parquet", days_ago=30),
            stored("cells/under-way/checkpoint.pt", days_ago=1),
        ]
    )
    pruning = plan(found, {"cells/needed"}, NOW - timedelta(days=7))
    assert [part.key for part in pruning.unneeded] == ["cells/old"]
    assert len(pruning.kept) == 3


def test_of_every_pool_and_encoder_the_newest_finished_index_stays():
    objects = [
        stored("index/p/e/one/index.json", days_ago=3),
        stored("index/p/e/two/index.json", days_ago=2),
        stored("index/p/e/unfinished/labels.parquet", days_ago=1),
        stored("index/p/f/three/index.json", days_ago=9),
    ]
    assert newest_indexes(parts(objects)) == {"index/p/e/two", "index/p/f/three"}


def test_the_newest_of_each_name():
    written = {f"a-b-{n}": NOW + timedelta(hours=n) for n in range(4)} | {"c-0": NOW}
    assert newest(written, 2) == ["a-b-2", "a-b-3", "c-0"]


def test_usage_is_by_folder_the_largest_first():
    objects = [stored("cells/a/b", n_bytes=5), stored("champion.json", n_bytes=1)]
    objects += [stored("cells/a/c", n_bytes=6), stored("index/x", n_bytes=90)]
    assert usage(objects) == [
        Usage("index", 1, 90),
        Usage("cells", 2, 11),
        Usage("champion.json", 1, 1),
    ]


@pytest.fixture
def store(tmp_path) -> Store:
    """Two runs of one name and a comparison, each with a cell of its own; nobody asks for more."""
    store = Store(str(tmp_path / "store"))
    for run, days_ago in (("runs/r-1", 3), ("runs/r-2", 2), ("comparisons/c-1", 1)):
        last = "report.html" if run.startswith("runs") else "comparison.md"
        cell = f"cells/of-{run.rpartition('/')[2]}"
        store.write_bytes(f"{run}/parts.json", json.dumps([cell]).encode())
        write(store, f"{run}/{last}", days_ago)
        write(store, f"{cell}/model/model.safetensors")
        write(store, f"{cell}/predictions.parquet")
    return store


def write(store: Store, key: str, days_ago: float = 30, data: bytes = b"data") -> None:
    store.write_bytes(key, data)
    at = (NOW - timedelta(days=days_ago)).timestamp()
    os.utime(store.path(key), (at, at))


def unneeded(store: Store, n_kept_runs: int = 1) -> list[str]:
    return [part.key for part in plan_pruning(store, n_kept_runs, NOW).unneeded]


def test_what_recent_runs_and_comparisons_are_views_of_stays(store: Store):
    assert unneeded(store) == ["cells/of-r-1"]
    assert unneeded(store, n_kept_runs=2) == []


def test_a_run_that_does_not_say_what_it_needs_is_counted(store: Store):
    store.delete("runs/r-2/parts.json")
    pruning = plan_pruning(store, 1, NOW)
    assert pruning.n_silent == 1
    assert [part.key for part in pruning.unneeded] == ["cells/of-r-1", "cells/of-r-2"]


def test_an_unfinished_run_does_not_count(store: Store):
    store.write_bytes("runs/r-3/parts.json", b'["cells/of-r-3"]')
    assert unneeded(store) == ["cells/of-r-1"]


@pytest.mark.parametrize("damaged", [b"{", b"{}", b"[1]", b"\xff"])
def test_a_damaged_list_of_parts_is_refused(store: Store, damaged: bytes):
    store.write_bytes("runs/r-2/parts.json", damaged)
    with pytest.raises(ObjectUnreadable, match=r"runs/r-2/parts\.json.*run it again"):
        plan_pruning(store, 1, NOW)


def test_an_index_keeps_those_whose_files_it_uses(store: Store):
    for name, segments, days_ago in (
        ("base", ["base"], 9),
        ("appended", ["base", "appended"], 8),
        ("lost", ["lost"], 20),
    ):
        info = json.dumps({"segments": segments}).encode()
        write(store, f"index/p/e/{name}/index.json", days_ago, info)
    assert unneeded(store) == ["cells/of-r-1", "index/p/e/lost"]
    write(store, "index/p/e/appended/index.json", 8, b"{}")
    with pytest.raises(ObjectUnreadable, match="names no segments"):
        plan_pruning(store, 1, NOW)


def test_pruning_deletes_what_says_that_a_part_is_whole_first(store: Store, monkeypatch):
    deleted = []
    delete = Store.delete

    def noted(self: Store, key: str) -> None:
        deleted.append(key)
        if len(deleted) == 2:
            raise KeyboardInterrupt  # as a kill between two requests
        delete(self, key)

    monkeypatch.setattr(Store, "delete", noted)
    with pytest.raises(KeyboardInterrupt):
        prune(store, plan_pruning(store, 1, NOW).unneeded)
    assert deleted[0] == "cells/of-r-1/predictions.parquet"
    monkeypatch.undo()
    assert unneeded(store) == ["cells/of-r-1"]
    done = []
    prune(store, plan_pruning(store, 1, NOW).unneeded, done.append)
    assert [part.key for part in done] == ["cells/of-r-1"]
    assert not store.keys_under("cells/of-r-1")
    assert store.exists("cells/of-r-2/model/model.safetensors")
    assert unneeded(store) == []


def test_objects_of_a_real_object_store_have_sizes_and_times(tmp_path, s3_url):
    began = datetime.now(UTC) - timedelta(minutes=1)
    for url in (str(tmp_path / "local"), s3_url):
        store = Store(url)
        assert store.objects_under() == []
        store.write_bytes("cells/a/predictions.parquet", b"12345")
        store.write_bytes("champion.json", b"{}")
        found = store.objects_under()
        assert [(f.key, f.n_bytes) for f in found] == [
            ("cells/a/predictions.parquet", 5),
            ("champion.json", 2),
        ]
        assert all(began < f.written < began + timedelta(hours=1) for f in found)
        prune(store, plan_pruning(store, 1, datetime.now(UTC) + timedelta(hours=1)).unneeded)
        assert store.keys_under("") == ["champion.json"]
