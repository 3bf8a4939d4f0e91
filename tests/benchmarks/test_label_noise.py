import pyarrow as pa
import pytest

from benchmarks.label_noise import OPTIONS, config_of, line, scores


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_a_run_of_the_product(option: str):
    config = config_of("cifar100", option)
    assert config.training.mode == "head"
    assert config.selection == config_of("cifar100", "forward").selection
    assert (config.training == config_of("cifar100", "forward").training) == (option == "forward")
    assert config.test.images == config.pool.images


def test_held_out_train_images_are_scored_as_val():
    rows = [
        {
            "model": model,
            "seed": seed,
            "split": split,
            "image_id": image,
            "label": "a",
            "predicted": "a" if (image, seed) != ("pool-1", 1) else "b",
        }
        for model in ("none", "whole_pool", "filtered_pool", "selected")
        for seed in (0, 1)
        for split, image in [
            ("test", "pool-1"),
            ("test", "test-1"),
            ("debug_val", "test-2"),
            ("debug_heldout", "test-3"),
        ]
    ]
    found = scores(pa.Table.from_pylist(rows), pa.chunked_array([["pool-1", "pool-2"]]), (0, 1))
    assert found["selected", "val"] == [1, 0]
    assert found["selected", "test"] == found["none", "debug_val"] == [1, 1]
    assert line("cifar100", "gce", "none", found) == (
        "| cifar100 | gce | none | 100.0 ± 0.0 | 50.0 ± 70.7 | 100.0 ± 0.0 | 100.0 ± 0.0 |"
    )
