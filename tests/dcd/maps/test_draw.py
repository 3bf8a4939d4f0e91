"""The map of a run: who is on it, where it stands in the store, what becomes of it there."""

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from dcd.config import MapConfig, RunConfig, load_config
from dcd.errors import ObjectUnreadable
from dcd.index import read as index_reading
from dcd.label_noise import pool_agreement
from dcd.maps import draw
from dcd.maps.draw import draw_map, read_map
from dcd.runs import loop
from dcd.runs.finished import read_parts
from dcd.runs.forgetting import find_pictures, forget, plan_forgetting
from dcd.runs.origins import index_of_run, plan_of_run
from dcd.runs.pruning import plan_pruning
from dcd.splits import split
from dcd.store import Store, keys
from dcd.store.kinds import kind_of
from dcd.store.parts import part_of
from dcd.store.verify import repair, verify
from tests.case import LABELS, write_case

N_POOL, N_TRAIN, N_FAILURES = 72, 36, 9


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> tuple[RunConfig, str]:
    """The tiny case, run once with the smallest table."""
    path = write_case(
        tmp_path_factory.mktemp("case"),
        seeds=(0,),
        compare={"baselines": ["none"]},
        map={"max_images": 30},
    )
    config = load_config(path)
    return config, loop.run(config).run_id


def map_of(store: Store, run_id: str) -> str:
    parts = read_parts(store, keys.run_parts(run_id)) or set()
    (key,) = [part for part in parts if part.startswith("maps/")]
    return key


def test_all_failures_and_picks_are_drawn_among_others(ran):
    config, run_id = ran
    store = Store(config.store)
    drawn = read_map(store, map_of(store, run_id))
    picks = store.read_table(keys.run_table(run_id, "debug_train"))
    targeted = picks.filter(pc.equal(picks["role"], "targeted"))
    of = {role: drawn.points.filter(pc.equal(drawn.points["role"], role)) for role in
          ("pool", "train", "pick", "failure")}  # fmt: skip
    assert of["failure"].num_rows == N_FAILURES
    assert set(of["pick"]["image_id"].to_pylist()) == set(targeted["image_id"].to_pylist())
    assert of["train"].num_rows == 10
    assert of["pool"].num_rows == 20
    assert set(of["pool"]["label"].to_pylist()) == set(LABELS)
    contents = drawn.points["content_hash"]
    assert pc.count_distinct(contents).as_py() == len(contents), "a picture is one point"
    assert drawn.n_pool == N_POOL - targeted.num_rows
    assert drawn.n_train == N_TRAIN
    assert "20 of" in drawn.sentences[0]


def test_weak_labels_have_a_posterior_and_true_ones_none(ran):
    config, run_id = ran
    store = Store(config.store)
    points = read_map(store, map_of(store, run_id)).points
    weak = pc.is_in(points["role"], value_set=pa.array(["pool", "pick"]))
    assert points.filter(weak)["posterior"].null_count == 0
    true = points.filter(pc.invert(weak))
    assert true["posterior"].null_count == true.num_rows
    assert pc.max(points["posterior"]).as_py() <= 1


def test_a_second_run_draws_nothing(ran):
    config, run_id = ran
    store = Store(config.store)
    key = map_of(store, run_id)
    written = store.published_at("maps")[key]
    assert loop.run(config).run_id == run_id
    assert store.published_at("maps")[key] == written


def test_a_config_without_a_map_has_none_and_the_same_name(ran):
    config, run_id = ran
    store = Store(config.store)
    plan = plan_of_run(store, run_id)
    assert config.model_copy(update={"map": MapConfig()}).model_dump(mode="json").get("map") is None
    assert draw_map(store, plan.index, plan.splits, "no such", MapConfig(max_images=0)) is None


def test_without_the_library_pca_is_drawn_and_the_page_says_so(ran, monkeypatch):
    config, run_id = ran
    store = Store(config.store)
    plan = plan_of_run(store, run_id)
    selection_id = store.read_json(keys.run_parts(run_id))["seeds"]["0"]["selection"]["id"]
    wanted = MapConfig(method="tsne", max_images=30)
    monkeypatch.setattr(draw, "has_tsne", lambda: False)
    index = index_of_run(store, run_id)
    without = draw_map(store, index, plan.splits, selection_id, wanted)
    assert without is not None
    said = read_map(store, without.part)
    assert (said.asked, said.method) == ("tsne", "pca")
    assert "extra map" in said.sentences[1]
    monkeypatch.undo()
    with_it = draw_map(store, index, plan.splits, selection_id, wanted)
    assert with_it is not None
    assert with_it.id != without.id, "installing it draws the map anew"
    assert read_map(store, with_it.part).method == "tsne"


def test_a_map_is_a_derived_part_that_its_run_needs(ran):
    config, run_id = ran
    store = Store(config.store)
    key = map_of(store, run_id)
    assert kind_of(key) == "derived"
    assert part_of(key) == key
    unneeded = keys.drawn_map("0" * 12)
    store.write_table(unneeded, pa.table({"n": [1]}))
    pruned = [part.key for part in plan_pruning(store, 1, datetime.now(UTC)).unneeded]
    assert unneeded in pruned
    assert key not in pruned
    store.delete(unneeded)


@pytest.mark.parametrize("damage", ["bit", "deleted", "emptied"])
def test_a_damaged_map_is_found_and_made_again(ran, damage):
    config, run_id = ran
    store = Store(config.store)
    key = map_of(store, run_id)
    data, points = store.read_raw(key), read_map(store, key).points
    match damage:
        case "bit":
            at = len(data) // 3
            store.write_raw(key, data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        case "emptied":
            store.write_raw(key, b"")
        case "deleted":
            store.delete(key)
    if damage != "deleted":
        checked = verify(store, deep=True)
        assert [one.key for one in checked if one.fault] == [key]
        with pytest.raises(ObjectUnreadable):
            read_map(store, key)
    if damage == "emptied":
        assert repair(store, checked) == [key]
    assert loop.run(config).run_id == run_id
    assert read_map(store, key).points.equals(points)


def test_a_table_that_is_no_map_is_refused_by_name(ran):
    config, run_id = ran
    store = Store(config.store)
    key = keys.drawn_map("1" * 12)
    store.write_table(key, read_map(store, map_of(store, run_id)).points)
    with pytest.raises(ObjectUnreadable, match=r"maps/1.*is no map"):
        read_map(store, key)
    store.delete(key)


def test_a_forgotten_picture_takes_the_map_along_and_is_not_on_the_next(tmp_path):
    config = load_config(write_case(tmp_path, seeds=(0,), compare={"baselines": ["none"]}))
    store = Store(config.store)
    run_id = loop.run(config).run_id
    key = map_of(store, run_id)
    points = read_map(store, key).points
    of_pool = points.filter(pc.equal(points["role"], "pool"))
    image_id = of_pool["image_id"][0].as_py()
    planned = plan_forgetting(store, find_pictures(store, [image_id]))
    fates = {holder.key: holder.fate for holder in planned.holders}
    assert fates[key] == "is deleted"
    forget(store, planned)
    assert not store.exists(key)
    split._split_table.cache_clear()  # the next command is a process of its own
    index_reading.held_sample.cache_clear()
    pool_agreement._reference.cache_clear()
    again = loop.run(config)
    drawn = read_map(store, map_of(store, again.run_id)).points
    assert image_id not in drawn["image_id"].to_pylist()
    assert drawn.num_rows == points.num_rows - 1
