import json
import os
from datetime import UTC, datetime, timedelta

import pytest

from dcd.errors import DataError, ObjectUnreadable
from dcd.runs.pruning import Usage, newest, newest_indexes, parts, plan, plan_pruning, prune, usage
from dcd.store import Store, StoredObject, keys
from dcd.store.parts import says_done

NOW = datetime(2026, 1, 31, tzinfo=UTC)
NEEDED, OLD, NEW, UNDER_WAY = (12 * digit for digit in "abcd")


def stored(key: str, days_ago: float = 30, n_bytes: int = 10) -> StoredObject:
    return StoredObject(key, n_bytes, NOW - timedelta(days=days_ago))


def test_objects_belong_to_cells_selections_indexes_and_splits():
    objects = [
        stored("cells/cccccccccccc/model/model.safetensors", n_bytes=100),
        stored("cells/cccccccccccc/predictions.parquet", days_ago=2),
        stored("index/pool/encoder/1d1d1d1d1d1d/reference-1/rows.parquet"),
        stored("index/pool/encoder/1d1d1d1d1d1d/index.json"),
        stored("selections/5e5e5e5e5e5e/debug_train.parquet"),
        stored("splits/717171717171.parquet"),
        stored("embeddings/pool/encoder/shard.parquet"),
        stored("runs/r/model/seed0/model.safetensors"),
        stored("failures/batches/b.parquet"),
        stored("champion.json"),
        stored("cells/notes.txt"),
        stored("cells/mine/predictions.parquet"),
        stored("index/a/b/c/index.json"),
        stored("splits/train.parquet"),
    ]
    found = parts(objects)
    assert [part.key for part in found] == [
        "cells/cccccccccccc",
        "index/pool/encoder/1d1d1d1d1d1d",
        "selections/5e5e5e5e5e5e",
        "splits/717171717171.parquet",
    ]
    assert (found[0].kind, found[0].n_bytes) == ("cells", 110)
    assert found[0].written == NOW - timedelta(days=2)
    assert [says_done(part.key) for part in found] == [
        "cells/cccccccccccc/predictions.parquet",
        "index/pool/encoder/1d1d1d1d1d1d/index.json",
        "selections/5e5e5e5e5e5e/debug_train.parquet",
        "splits/717171717171.parquet",
    ]


def test_what_only_saves_work_goes_by_its_age(store: Store):
    digest = keys.digest("x")
    cached = [
        *(
            f"{folder}/{digest}.parquet"
            for folder in ("evaluations", "heads", "lpips", "neighbors")
        ),
        f"noise/{digest}.parquet",
        f"results/embed-shards/pool/encoder/v1/{digest}/{digest}",
    ]
    for key in cached:
        write(store, key)
    write(store, "results/plot.png")  # of a user who keeps more than a store there
    fresh = f"heads/{keys.digest('y')}.parquet"
    write(store, fresh, days_ago=-1)
    assert sorted({*unneeded(store), cell_of("r-1")}) == sorted([*cached, cell_of("r-1")])
    prune(store, plan_pruning(store, 1, NOW).unneeded)
    assert not any(store.exists(key) for key in cached)
    assert store.exists(fresh)
    assert store.exists("results/plot.png")


def test_what_is_needed_or_new_stays():
    found = parts(
        [
            stored(f"cells/{NEEDED}/predictions.parquet"),
            stored(f"cells/{OLD}/predictions.parquet"),
            stored(f"cells/{NEW}/predictions.parquet", days_ago=6),
            stored(f"cells/{UNDER_WAY}/picks.parquet", days_ago=30),
            stored(f"cells/{UNDER_WAY}/checkpoint.pt", days_ago=1),
        ]
    )
    pruning = plan(found, {f"cells/{NEEDED}"}, NOW - timedelta(days=7))
    assert [part.key for part in pruning.unneeded] == [f"cells/{OLD}"]
    assert len(pruning.kept) == 3


def test_of_every_pool_and_encoder_the_newest_finished_index_stays():
    objects = [
        stored(f"index/p/e/{OLD}/index.json", days_ago=3),
        stored(f"index/p/e/{NEW}/index.json", days_ago=2),
        stored(f"index/p/e/{UNDER_WAY}/labels.parquet", days_ago=1),
        stored(f"index/p/f/{NEEDED}/index.json", days_ago=9),
    ]
    assert newest_indexes(parts(objects)) == {f"index/p/e/{NEW}", f"index/p/f/{NEEDED}"}


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


def cell_of(run_id: str) -> str:
    return f"cells/{keys.digest(run_id)}"


@pytest.fixture
def store(tmp_path) -> Store:
    """Two runs of one name and a comparison, each with a cell of its own; nobody asks for more."""
    store = Store(str(tmp_path / "store"))
    for run, days_ago in (("runs/r-1", 3), ("runs/r-2", 2), ("comparisons/c-1", 1)):
        last = "report.html" if run.startswith("runs") else "comparison.md"
        cell = cell_of(run.rpartition("/")[2])
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
    assert unneeded(store) == [cell_of("r-1")]
    assert unneeded(store, n_kept_runs=2) == []


def test_a_run_that_does_not_say_what_it_needs_is_counted(store: Store):
    store.delete("runs/r-2/parts.json")
    pruning = plan_pruning(store, 1, NOW)
    assert pruning.n_silent == 1
    assert [part.key for part in pruning.unneeded] == [cell_of("r-1"), cell_of("r-2")]


def test_a_folder_without_a_finished_run_is_refused(tmp_path):
    store = Store(str(tmp_path))
    write(store, f"cells/{OLD}/predictions.parquet")
    with pytest.raises(DataError, match=r"no finished run .*is this the store"):
        plan_pruning(store, 1, NOW)


def test_an_unfinished_run_does_not_count(store: Store):
    store.write_bytes("runs/r-3/parts.json", json.dumps([cell_of("r-3")]).encode())
    assert unneeded(store) == [cell_of("r-1")]


@pytest.mark.parametrize("damaged", [b"{", b"{}", b"[1]", b"\xff"])
def test_a_damaged_list_of_parts_is_refused(store: Store, damaged: bytes):
    store.write_bytes("runs/r-2/parts.json", damaged)
    with pytest.raises(ObjectUnreadable, match=r"runs/r-2/parts\.json.*run its config again"):
        plan_pruning(store, 1, NOW)


def test_an_index_keeps_those_whose_files_it_uses(store: Store):
    for name, segments, days_ago in (
        ("base", ["base"], 9),
        ("appended", ["base", "appended"], 8),
        ("lost", ["lost"], 20),
    ):
        info = json.dumps({"segments": [keys.digest(one) for one in segments]}).encode()
        write(store, f"index/p/e/{keys.digest(name)}/index.json", days_ago, info)
    assert unneeded(store) == [cell_of("r-1"), f"index/p/e/{keys.digest('lost')}"]
    write(store, f"index/p/e/{keys.digest('appended')}/index.json", 8, b"{}")
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
    assert deleted[0] == cell_of("r-1") + "/predictions.parquet"
    monkeypatch.undo()
    assert unneeded(store) == [cell_of("r-1")]
    done = plan_pruning(store, 1, NOW).unneeded
    prune(store, done)
    assert [part.key for part in done] == [cell_of("r-1")]
    assert not store.keys_under(cell_of("r-1"))
    assert store.exists(cell_of("r-2") + "/model/model.safetensors")
    assert unneeded(store) == []


def test_objects_of_a_real_object_store_have_sizes_and_times(tmp_path, s3_url):
    began = datetime.now(UTC) - timedelta(minutes=1)
    for url in (str(tmp_path / "local"), s3_url):
        store = Store(url)
        assert store.objects_under() == []
        store.write_bytes(f"cells/{OLD}/predictions.parquet", b"12345")
        store.write_bytes("champion.json", b"{}")
        store.write_bytes("runs/r-1/report.html", b"<html>")
        found = store.objects_under()
        assert [(f.key, f.n_bytes) for f in found] == [
            (f"cells/{OLD}/predictions.parquet", 5),
            ("champion.json", 2),
            ("runs/r-1/report.html", 6 + len("\n<!-- crc32 01234567 -->\n")),
        ]
        assert all(began < f.written < began + timedelta(hours=1) for f in found)
        prune(store, plan_pruning(store, 1, datetime.now(UTC) + timedelta(hours=1)).unneeded)
        assert store.keys_under("") == ["champion.json", "runs/r-1/report.html"]
