"""Images to look at: the first of a data set with their labels, and those that a table names."""

import pytest

import dcd
from dcd.errors import DataError
from tests.case import LABELS, write_case


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return dcd.load_config(write_case(tmp_path_factory.mktemp("case"), seeds=(0,)))


def test_a_peek_shows_the_first_images_with_the_labels_of_the_pool(config):
    seen = dcd.peek(config.pool, 5)
    assert [one.image_id for one in seen] == [f"p{i:03d}" for i in range(5)]
    assert {one.label for one in seen} <= set(LABELS)
    assert {(one.image.size, one.image.mode) for one in seen} == {((16, 16), "RGB")}


def test_a_peek_at_a_split_shows_rows_of_its_table_alone(config):
    seen = dcd.peek(config.dataset("error_sample", 0), 100)
    assert [one.image_id.partition("-")[0] for one in seen] == ["error_sample"] * 9
    assert [one.label for one in seen] == [one.image_id.split("-")[1] for one in seen]


def test_pictures_of_a_selection_are_those_of_their_data_set(config):
    store = dcd.open_store(config.store)
    chosen = dcd.select(config, 0)
    failures = dcd.read_images(store, config.error_sample, chosen.failures)
    assert set(failures) == set(chosen.failures["image_id"].to_pylist())
    by_peeking = {one.image_id: one.image for one in dcd.peek(config.pool, 72)}
    for image_id, image in dcd.read_images(store, config.pool, chosen.neighbors).items():
        assert image.tobytes() == by_peeking[image_id].tobytes()


def test_images_of_another_data_set_are_an_error_not_a_gap(config):
    store = dcd.open_store(config.store)
    failures = dcd.select(config, 0).failures
    with pytest.raises(DataError, match=r"9 of the images are in no shard .* such as error_sample"):
        dcd.read_images(store, config.pool, failures)
