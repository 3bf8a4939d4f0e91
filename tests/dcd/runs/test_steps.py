"""The loop's first steps alone: they make what the whole loop makes, and show it."""

import pytest

import dcd
from dcd.errors import ConfigError
from dcd.selection.picks import targeted_picks
from dcd.store import Store
from tests.case import write_case

_FEW = {"compare": {"baselines": ["none"]}, "gate": {"policy": "off"}}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return dcd.load_config(write_case(tmp_path_factory.mktemp("case"), seeds=(0, 1), **_FEW))


def test_embedding_counts_all_images_and_says_where_they_are(config):
    embedded = dcd.embed(config)
    n_own = 3 * (12 + 8 + 3 + 3 + 6)
    assert (embedded.n_images, embedded.n_rejected, embedded.rejects) == (72 + n_own, 0, ())
    assert len(embedded.shards["colours"]) == 3
    made = set(Store(config.store).keys_under("embeddings"))
    assert dcd.embed(config) == embedded
    assert set(Store(config.store).keys_under("embeddings")) == made


def test_a_selection_shows_failures_neighbours_and_picks(config):
    chosen = dcd.select(config, 0)
    assert chosen.failures.num_rows == 9
    assert set(chosen.failures["mode"].to_pylist()) == {"dark red", "dark green", "dark blue"}
    kept = {row["image_id"] for row in chosen.neighbors.to_pylist() if row["kept"]}
    assert kept == set(targeted_picks(chosen.picks)["image_id"].to_pylist())
    assert chosen.neighbors["shard"].null_count == 0
    asked = chosen.neighbors["error_image_id"].to_pylist()
    assert set(asked) <= set(chosen.failures["image_id"].to_pylist())
    assert asked == sorted(asked)


def test_the_loop_goes_on_with_the_same_selection(config):
    chosen = dcd.select(config, 0)
    info = dcd.run(config)
    picks = dcd.read_table(dcd.open_store(config.store), info.run_id, "debug_train")
    assert picks.to_pylist() == chosen.picks.to_pylist()


def test_a_seed_that_the_config_lacks_is_refused(config):
    with pytest.raises(ConfigError, match=r"seeds: 7 is none of \[0, 1\]"):
        dcd.select(config, 7)
