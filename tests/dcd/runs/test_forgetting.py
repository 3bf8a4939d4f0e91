"""A picture that is forgotten is nowhere in the store, stays away, and the rest is as before."""

import functools
import gc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcd.config import RunConfig, load_config
from dcd.embeddings.embed import embed_shard
from dcd.encoders.encoder import load_encoder
from dcd.errors import DataError
from dcd.failures.intake import take_in_folder
from dcd.runs import loop
from dcd.runs.forgetting import as_json, find_pictures, forget, plan_forgetting
from dcd.sources.source import list_source, source_of
from dcd.store import Store, keys
from dcd.store.forgotten import REASON
from dcd.tables import schemas
from tests.case import write_case
from tests.dcd.failures.failing_images import inbox, write_failures


def rows_of(table: pa.Table) -> list[dict]:
    return [{n: str(v) for n, v in row.items()} for row in table.to_pylist()]


def holders(store: Store, image_id: str, content: bytes) -> list[str]:
    """Every object that holds an id or a content, in any column, in any text."""
    found = []
    for key in store.keys_under(""):
        if key.startswith(keys.FAILURES_INBOX):
            continue
        if key.endswith(".parquet"):
            table = store.read_table(key)
            metadata = str(store.read_metadata(key))
            values = {v for n in table.column_names for v in map(str, table[n].to_pylist())}
            held = {image_id, str(content), content.hex()} & values or image_id in metadata
        else:
            data = store.read_bytes(key)
            held = image_id.encode() in data or content.hex().encode() in data or content in data
        found += [key] if held else []
    return found


def forget_what_this_process_read() -> None:
    """Begin as a new process would: `dcd run` after `dcd forget` is one."""
    for found in gc.get_objects():
        if type(found) is functools._lru_cache_wrapper:
            found.cache_clear()


def content_of(store: Store, image_id: str) -> bytes:
    for key in store.keys_under("embeddings"):
        for row in store.read_table(key, ["image_id", "content_hash"]).to_pylist():
            if row["image_id"] == image_id:
                return row["content_hash"]
    raise AssertionError(image_id)


@pytest.fixture
def case(tmp_path) -> tuple[RunConfig, Store, list[str]]:
    """Two runs in one store, of different selections; their ids."""
    config = load_config(write_case(tmp_path, seeds=(0,)))
    wider = config.selection.model_copy(update={"k": 3})
    other = config.model_copy(update={"name": "wider", "selection": wider})
    return config, Store(config.store), [loop.run(one).run_id for one in (config, other)]


def test_a_pick_of_two_runs_is_nowhere_afterwards(case):
    config, store, runs = case
    picks = store.read_table(keys.run_table(runs[0], "debug_train")).to_pylist()
    image_id = next(p["image_id"] for p in picks if p["role"] == "targeted")
    content = content_of(store, image_id)
    before = {
        key: rows_of(store.read_table(key))
        for key in store.keys_under("")
        if key.endswith(".parquet")
    }
    planned = plan_forgetting(store, find_pictures(store, [image_id]))
    assert {holder.key for holder in planned.holders} >= {
        key for key in holders(store, image_id, content) if key.endswith(".parquet")
    }
    untouched = {k: rows_of(store.read_table(k)) for k in before}
    assert untouched == before, "a plan changes nothing"
    forget(store, planned)

    assert holders(store, image_id, content) == []
    assert planned.runs == tuple(sorted(runs))
    for run in runs:
        assert store.read_json(keys.run(run, "forgotten.json"))["n_pictures"] == 1
        assert "<title>Withdrawn" in store.read_bytes(keys.run_report(run)).decode()
    assert image_id not in as_json(planned)
    fates = {holder.key: holder.fate for holder in planned.holders}
    for key in store.keys_under(""):
        if not key.endswith(".parquet") or key not in before:
            continue
        after = rows_of(store.read_table(key))
        if key not in fates and not key.startswith("rejects/"):
            assert after == before[key], key
        elif fates.get(key) == "loses rows":
            gone = {image_id, str(content)}
            assert after == [row for row in before[key] if not gone & set(row.values())], key
    assert [k for k, fate in fates.items() if k.startswith("splits/")] == []

    forget_what_this_process_read()
    again = loop.run(config)
    assert holders(store, image_id, content) == []
    assert again.run_id == runs[0]
    assert b"<title>Withdrawn" not in store.read_bytes(keys.run_report(again.run_id))


def test_an_image_of_train_takes_the_cells_of_its_runs_along(case):
    config, store, _ = case
    image_id = "train-red-0"
    content = content_of(store, image_id)
    planned = plan_forgetting(store, find_pictures(store, [image_id]))
    cells = {h.key.split("/")[1] for h in planned.holders if h.key.startswith("cells/")}
    assert cells == {key.split("/")[1] for key in store.keys_under("cells")}
    forget(store, planned)
    assert holders(store, image_id, content) == []
    forget_what_this_process_read()
    loop.run(config)
    assert holders(store, image_id, content) == []


def test_the_card_names_a_forgotten_failure_no_more(case):
    _, store, runs = case
    key = keys.run_card(runs[0])
    gap = {"label": "red", "failures": ["error_sample-red-0", "error_sample-red-1"]}
    store.write_json(key, {**store.read_json(key), "pool_lacks": {"far_l2": 1.0, "gaps": [gap]}})
    planned = plan_forgetting(store, find_pictures(store, ["error_sample-red-0"]))
    assert ("loses rows", 1) in {(h.fate, h.n_rows) for h in planned.holders if h.key == key}
    forget(store, planned)
    card = store.read_json(key)
    assert card["pool_lacks"]["gaps"] == [{**gap, "failures": ["error_sample-red-1"]}]
    assert card["run_id"] == runs[0]
    assert plan_forgetting(store, planned.pictures).holders == ()


def test_it_stays_away_from_new_embeddings_and_from_the_inbox(case, tmp_path):
    config, store, _ = case
    image_id = "p000"
    content = content_of(store, image_id)
    forget(store, plan_forgetting(store, find_pictures(store, [content.hex()])))
    smaller = config.encoder.model_copy(update={"input_size": 24})
    encoder_id = load_encoder(smaller).encoder_id
    source = source_of(config.pool)
    outcomes = [
        embed_shard(store, source, shard, smaller, encoder_id)
        for shard in list_source(store, source)
    ]
    assert sum(one.stats.n_rejected for one in outcomes) == 1
    assert sum(one.stats.n_embedded for one in outcomes) == 71
    assert holders(store, image_id, content) == []

    table = pq.read_table(tmp_path / "pool-0.parquet").to_pylist()
    [picture] = [row["image"] for row in table if row["image_id"] == image_id]
    write_failures(inbox(config), 1, seed=3)
    (inbox(config) / "red" / "again.png").write_bytes(picture)
    taken = take_in_folder(store, config)
    assert (taken.n_new, taken.n_bad) == (3, 1)
    receipts = [store.read_table(k).to_pylist() for k in store.keys_under(keys.FAILURE_RECEIPTS)]
    assert REASON in {row["reason"] for rows in receipts for row in rows}


def test_a_registered_failure_is_found_by_its_file(tmp_path):
    config = load_config(write_case(tmp_path, seeds=(0,), failures=True))
    store = Store(config.store)
    path, *_ = write_failures(inbox(config), 1, seed=1)
    take_in_folder(store, config)
    loop.run(config)
    content = schemas.content_hash(Path(path).read_bytes())
    forget(store, plan_forgetting(store, find_pictures(store, [str(path)])))
    assert holders(store, content.hex(), content) == []
    forget_what_this_process_read()
    loop.run(config)
    assert holders(store, content.hex(), content) == []


def test_forgetting_twice_does_nothing_more(case):
    _, store, _ = case
    content = content_of(store, "p001")
    forget(store, plan_forgetting(store, find_pictures(store, ["p001"])))
    again = plan_forgetting(store, find_pictures(store, [content.hex()]))
    assert again.holders == ()


def test_what_is_unknown_or_names_several_pictures_is_refused(case):
    config, store, _ = case
    with pytest.raises(DataError, match="no image of"):
        find_pictures(store, ["nobody"])
    source = source_of(config.test)
    key = store.keys_under(f"embeddings/{source.id}")[0]
    table = store.read_table(key)
    ids = pa.array(["p000", *table["image_id"].to_pylist()[1:]])
    store.write_table(key, table.set_column(0, "image_id", ids))
    with pytest.raises(DataError, match="names 2 pictures"):
        find_pictures(store, ["p000"])
