"""The picks as a data set: `datasets` loads the folder, with class names and pictures."""

import datasets
import numpy as np
import pytest

from dcd.errors import DataError
from dcd.export.picks import write_picks
from dcd.images.decode import decode
from dcd.runs.finished import list_runs
from dcd.sources.source import fetch_all, source_of
from dcd.store import Store, keys


@pytest.fixture(scope="module")
def loaded(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("picks")
    written = write_picks(store, None, folder / "data set")
    cache = str(folder / "cache")
    return written, datasets.load_dataset(str(folder / "data set"), cache_dir=cache)["train"]


def test_every_pick_is_there_with_its_label_and_weight(loaded, store):
    written, found = loaded
    picks = store.read_table(keys.run_table(written.run_id, "debug_train"))
    assert written.n_images == picks.num_rows == len(found)
    names = found.features["label"].names
    assert tuple(names) == written.labels
    expected = {row["image_id"]: row for row in picks.to_pylist()}
    for row in found.remove_columns("image"):
        assert names[row["label"]] == expected[row["image_id"]]["label"]
        for name in ("role", "weight", "label_agreement"):
            assert row[name] == expected[row["image_id"]][name]


def test_the_pictures_are_those_of_the_pool(loaded, store):
    written, found = loaded
    from dcd.export.champion import open_champion

    pool = source_of(open_champion(store).config.pool)
    picks = store.read_table(keys.run_table(written.run_id, "debug_train"))
    bytes_of = fetch_all(store, [pool], picks.select(["image_id", "shard"]))
    for row in found:
        assert np.array_equal(np.asarray(row["image"]), decode(bytes_of[row["image_id"]]))


def test_a_run_that_is_not_there_is_told_with_the_newest(store, tmp_path):
    newest = list_runs(store)[0].run_id
    with pytest.raises(DataError, match=f"no finished run nothing; the newest is {newest}"):
        write_picks(store, "nothing", tmp_path / "folder")
    with pytest.raises(DataError, match="holds no finished run"):
        write_picks(Store(str(tmp_path / "empty")), None, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
