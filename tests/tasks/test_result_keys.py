from dataclasses import replace
from typing import Any

import pytest

from dcd.cells.cell import CellPlan
from dcd.cells.methods import Method
from dcd.config import CompareConfig, DataConfig, EncoderConfig, TrainingConfig
from dcd.index.info import IndexInfo
from dcd.selection.select import SelectionInfo
from dcd.sources.records import Shard
from dcd.sources.source import Source
from dcd.store import Store, keys
from tasks.result_keys import SEGMENTS, cell_key, difference, embed_key

SHARDS = [Shard(f"s{i}", f"s{i}.tar", "webdataset", None, f"etag{i}") for i in range(2)]
EMBEDDINGS = {keys.embeddings("pool", "enc", s.name): f"version of {s.name}" for s in SHARDS}


def embed(**changes):
    arguments: dict[str, Any] = {
        "pool": "pool",
        "encoder_id": "enc",
        "shards": SHARDS,
        "versions": EMBEDDINGS,
    }
    return embed_key(**(arguments | changes))


def test_equal_inputs_have_one_key_and_each_input_changes_it():
    assert embed() == embed()
    changed = [
        embed(pool="other"),
        embed(encoder_id="other"),
        embed(shards=[SHARDS[0], replace(SHARDS[1], etag="new")]),
        embed(versions=EMBEDDINGS | {keys.embeddings("pool", "enc", "s1"): "written again"}),
    ]
    assert len({key.path for key in [embed(), *changed]}) == 5


def test_a_batch_stands_only_if_all_its_embeddings_do():
    assert embed().outputs_stand
    assert not embed(versions={}).outputs_stand
    assert not embed(versions=dict(list(EMBEDDINGS.items())[:1])).outputs_stand


@pytest.fixture
def plan() -> CellPlan:
    source = Source("pool", DataConfig(images="pool-*.tar"))
    return CellPlan(
        method=Method("selected", "selection"),
        seed=3,
        pool=source,
        index=index("index"),
        splits={},
        selection=SelectionInfo("selection", 3, 6, False),
        encoder=EncoderConfig(),
        training=TrainingConfig(),
        compare=CompareConfig(),
    )


def index(index_id: str) -> IndexInfo:
    fields: dict[str, Any] = dict.fromkeys(IndexInfo.__dataclass_fields__)
    return replace(IndexInfo(**fields), index_id=index_id, encoder_id="enc", pool="pool")


def test_the_segments_say_in_what_two_keys_differ(plan):
    before = cell_key(plan, predictions_stand=True).path
    after = cell_key(replace(plan, training=TrainingConfig(l2=0.5)), predictions_stand=True).path
    assert before != after
    assert difference(after, [before]) == (before, ("training",))
    elsewhere = cell_key(replace(plan, seed=4), predictions_stand=True).path
    assert difference(elsewhere, [before, after]) == (before, ("method and seed",))


def test_a_method_that_draws_nothing_is_reused_whatever_was_selected(plan):
    def keys_of(draw) -> set[str]:
        drawing = replace(plan, method=Method("m", draw))
        other = replace(drawing, selection=replace(plan.selection, id="other"))
        return {cell_key(p, predictions_stand=True).path for p in (drawing, other)}

    assert len(keys_of("none")) == 1
    assert len(keys_of("random")) == 2


def test_only_results_of_the_same_task_are_compared(plan):
    path = cell_key(plan, predictions_stand=True).path
    assert difference(path, [embed().path]) is None
    assert difference(path, []) is None
    assert difference(path, [path]) is None


def test_every_key_has_its_named_segments(plan):
    for key, n_unnamed in [(embed(), 0), (cell_key(plan, predictions_stand=True), 1)]:
        _, task, *segments = key.path.split("/")
        assert len(segments) == len(SEGMENTS[task]) + n_unnamed


def test_a_rewritten_object_has_another_version(tmp_path, s3_url):
    for url in (str(tmp_path), s3_url):
        store = Store(url)
        assert store.versions_under("embeddings/none") == {}
        store.write_bytes("embeddings/a/x", b"one")
        first = store.versions_under("embeddings")
        assert set(first) == {"embeddings/a/x"}
        store.write_bytes("embeddings/a/x", b"two!")
        assert store.versions_under("embeddings") != first
