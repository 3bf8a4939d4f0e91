"""Every fault that a config or its data can have is found before work starts, with its place."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch
import yaml
from torch import nn

from dcd.config import load_config
from dcd.errors import EncoderError
from dcd.failures.intake import take_in_folder
from dcd.store import Store
from dcd.training.head import LinearHead
from dcd.training.saved_models import with_head
from dcd.validation.problems import Problem
from dcd.validation.run import examine, validate
from dcd.validation.splits import unmet_failures
from tests.case import LABELS, png, write_case
from tests.dcd.failures.failing_images import case_with_registry, inbox, write_failures


def edit(config: Path, section: str, **changes: object) -> Path:
    document = yaml.safe_load(config.read_text())
    document[section].update(changes)
    config.write_text(yaml.safe_dump(document))
    return config


def problems(config: Path) -> dict[str, str]:
    found = validate(load_config(config))
    assert all(isinstance(problem, Problem) and problem.message for problem in found)
    places = {problem.place for problem in found}
    return {p: "; ".join(f.message for f in found if f.place == p) for p in places}


def labels_table(path: Path, **columns: list[Any]) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


@pytest.fixture
def case(tmp_path: Path) -> Path:
    return write_case(tmp_path, seeds=(0,))


def test_a_good_case_has_no_problem_and_leaves_nothing_in_the_store(case, tmp_path):
    assert problems(case) == {}
    assert [p for p in (tmp_path / "store").rglob("*") if p.is_file()] == []


def test_missing_images(case, tmp_path):
    found = problems(edit(case, "pool", images=str(tmp_path / "nowhere-*.parquet")))
    assert "nowhere" in found["pool.images"]


def test_labels_that_are_lists_are_named_as_the_cause(case, tmp_path):
    rows = {"image": [png(np.random.default_rng(0), "red", dark=False)], "label": [["red"]]}
    pq.write_table(pa.table(rows), tmp_path / "lists.parquet")
    found = problems(edit(case, "pool", images=str(tmp_path / "lists.parquet"), label_map=None))
    assert "holds no readable image: 1 is a reject" in found["pool.images"]
    assert "the label is a list" in found["pool.images"]


def test_two_label_columns_of_the_same_images(case):
    document = yaml.safe_load(case.read_text())
    document["train"] = {"images": document["pool"]["images"], "label_column": "truth"}
    case.write_text(yaml.safe_dump(document))
    assert "which are read with None" in problems(case)["train"]


def test_a_missing_labels_table(case, tmp_path):
    found = problems(edit(case, "test", labels=str(tmp_path / "absent.parquet")))
    assert "absent.parquet" in str(found)
    assert any(place.startswith("test") for place in found)


def test_a_predicate_over_a_column_that_is_not_there(case):
    found = problems(edit(case, "test", where="roll = 'test'"))
    assert "roll" in found["test.where"]
    assert "role" in found["test.where"]  # the columns that there are


def test_a_predicate_without_a_table(case, tmp_path):
    document = yaml.safe_load(case.read_text())
    document["pool"]["where"] = "weak_label = 'red'"
    case.write_text(yaml.safe_dump(document))
    assert "no table" in problems(case)["pool.where"]


def test_a_predicate_that_leaves_no_row(case):
    found = problems(edit(case, "error_sample", where="role = 'none of them'"))
    assert "no row" in str(found)


@pytest.mark.parametrize("placeholder", ["{split}", "{}"])
def test_an_unknown_placeholder(case, placeholder):
    found = problems(edit(case, "test", labels=f"labels-{placeholder}.parquet"))
    assert placeholder in found["test.labels"]


def test_a_pool_that_depends_on_the_seed(case, tmp_path):
    found = problems(edit(case, "pool", images=str(tmp_path / "pool-{seed}.parquet")))
    assert "same for every seed" in found["pool.images"]


def test_an_encoder_that_is_no_network(case):
    """Its head is trained, and could be saved as no model: better said before the work."""
    config = edit(case, "encoder", model="pixels", input_size=16)
    assert "take a timm model" in problems(config)["encoder.model"]
    with pytest.raises(EncoderError, match="pixels is no network"):
        with_head(nn.Flatten(), LinearHead(("a", "b"), np.zeros((2, 3)), np.zeros(2)))


def test_splits_that_overlap(case):
    found = problems(edit(case, "debug_heldout", where="role in ('debug_heldout', 'test')"))
    assert "shares 24 images with test" in found["debug_heldout"]


def test_a_label_that_train_does_not_know(case, tmp_path):
    ids = [f"error_sample-red-{i}" for i in range(3)]
    table = labels_table(tmp_path / "errors.parquet", image_id=ids, label=["rde"] * 3)
    document = yaml.safe_load(case.read_text())
    document["error_sample"] = {"images": str(tmp_path / "own.parquet"), "labels": table}
    case.write_text(yaml.safe_dump(document))
    assert "'rde' (did you mean 'red'?)" in problems(case)["error_sample"]


def test_a_goal_for_a_class_that_debug_val_does_not_have(tmp_path):
    goal = {"metric": "recall", "target": 0.9, "budget": 9, "rounds": 3, "label": "red"}
    case = write_case(tmp_path, seeds=(0,), goal=goal)
    assert problems(case) == {}
    found = problems(edit(case, "goal", label="rde"))
    assert "did you mean 'red'?" in found["goal.label"]


def test_failures_whose_label_no_pool_image_carries(case, tmp_path):
    rng = np.random.default_rng(0)
    pool = pa.table(
        {
            "image_id": [f"q{i}" for i in range(4)],
            "image": [png(rng, "red", dark=False) for _ in range(4)],
            "weak_label": ["red"] * 4,
        }
    )
    pq.write_table(pool, tmp_path / "small-pool.parquet")
    found = problems(edit(case, "pool", images=str(tmp_path / "small-pool.parquet")))
    assert "carried by no pool image" in found["error_sample"]
    assert all(label in found["error_sample"] for label in LABELS if label != "red")


def test_registered_failures_whose_label_no_pool_image_carries(tmp_path):
    config = case_with_registry(tmp_path / "case")
    store = Store(config.store)
    write_failures(inbox(config), 2, seed=3)
    take_in_folder(store, config)
    assert list(unmet_failures(store, set(LABELS))) == []
    (problem,) = unmet_failures(store, {"red", "green"})
    assert problem.place == "failures"
    assert "label 'blue' is carried by no pool image, but by 2 registered" in problem.message


def test_images_that_the_labels_name_but_nobody_has(case, tmp_path):
    ids = ["test-red-0", "test-red-1", "gone-0"]
    table = labels_table(tmp_path / "t.parquet", image_id=ids, label=["red"] * 3)
    found = problems(edit(case, "test", labels=table, where=None))
    assert "1 of 3 image ids" in found["test.labels"]
    assert "'gone-0'" in found["test.labels"]


def test_labels_and_images_without_a_common_id(case, tmp_path):
    table = labels_table(tmp_path / "t.parquet", image_id=["x"], label=["red"])
    found = problems(edit(case, "test", labels=table, where=None))
    assert "'x'" in found["test.labels"]


def test_an_error_sample_without_labels(case, tmp_path):
    rng = np.random.default_rng(0)
    bare = pa.table({"image_id": ["a", "b"], "image": [png(rng, "red", dark=True)] * 2})
    pq.write_table(bare, tmp_path / "bare.parquet")
    document = yaml.safe_load(case.read_text())
    document["error_sample"] = {"images": str(tmp_path / "bare.parquet")}
    case.write_text(yaml.safe_dump(document))
    assert "no label" in str(problems(case))


def test_an_empty_pool(case, tmp_path):
    empty = pa.table({"image_id": pa.array([], "string"), "image": pa.array([], "binary")})
    pq.write_table(empty, tmp_path / "empty.parquet")
    found = problems(edit(case, "pool", images=str(tmp_path / "empty.parquet")))
    assert "empty.parquet" in str(found)
    assert any(place.startswith("pool") for place in found)


def test_true_labels_without_the_right_columns(case, tmp_path):
    table = labels_table(tmp_path / "truth2.parquet", id=["a"], species=["red"])
    found = problems(edit(case, "pool", true_labels=table))
    assert "expected the columns image_id and label" in found["pool.true_labels"]


def test_an_encoder_that_is_not_there(case):
    found = problems(edit(case, "encoder", model="test_resnett"))
    assert "test_resnett" in found["encoder"]


def test_a_checkpoint_that_is_not_there(case, tmp_path):
    found = problems(edit(case, "encoder", checkpoint=str(tmp_path / "no.safetensors")))
    assert "no.safetensors" in found["encoder"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("no.pth", "no.pth"),
        ("classes.txt", "weights"),
        ("here.pth", "tensors taken"),
    ],
)
def test_the_start_of_training_is_opened(case, tmp_path, model, message):
    (tmp_path / "classes.txt").write_text("red\ngreen\nblue\n")
    torch.save(timm.create_model("test_resnet", num_classes=3).state_dict(), tmp_path / "here.pth")
    start = {"model": str(tmp_path / model), "architecture": "test_resnet", "input_size": 32}
    document = yaml.safe_load(case.read_text())
    document["training"] = {"mode": "full", "start": start | {"classes": list(LABELS)}}
    case.write_text(yaml.safe_dump(document))
    found = examine(load_config(case))
    told = [*found.problems, *found.notes] if model == "here.pth" else found.problems
    words = [one.message for one in told if one.place == "training.start"]
    assert re.search(message, " ".join(words))
    assert bool(found.problems) == (model != "here.pth")


def test_a_store_that_cannot_be_written(case, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    document = yaml.safe_load(case.read_text())
    document["store"] = str(tmp_path / "file" / "store")
    case.write_text(yaml.safe_dump(document))
    assert "store" in problems(case)


def test_all_problems_are_named_at_once(case, tmp_path):
    edit(case, "test", where="roll = 'test'")
    edit(case, "encoder", model="nonesuch")
    edit(case, "debug_val", labels=str(tmp_path / "absent.parquet"))
    found = problems(case)
    assert {"test.where", "encoder"} <= set(found)
    assert "absent.parquet" in str(found)


def test_problems_of_one_seed_say_which(tmp_path):
    case = write_case(tmp_path, seeds=(0, 1))
    table = pq.read_table(tmp_path / "seed1.parquet").to_pylist()
    rows = [{**row, "label": "violet"} if row["role"] == "test" else row for row in table]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "seed1.parquet")
    found = problems(case)
    assert "'violet'" in found["test"]
    assert "(seed 1)" in found["test"]


def test_a_label_map_gives_the_pool_its_classes(case, tmp_path):
    rows = labels_table(tmp_path / "map.parquet", weak_label=list(LABELS), label=list(LABELS))
    assert problems(edit(case, "pool", label_map=rows)) == {}


def test_a_label_map_that_does_not_fit_the_pool(case, tmp_path):
    rows = labels_table(tmp_path / "map.parquet", weak_label=["boat"], label=["red"])
    found = problems(edit(case, "pool", label_map=rows))
    assert "boat" in found["pool.label_map"]
    assert "names none" in found["pool.label_map"]
    found = problems(edit(case, "pool", label_map=str(tmp_path / "absent.csv")))
    assert "absent.csv" in found["pool.label_map"]


def test_a_label_map_that_lacks_a_class(case, tmp_path):
    rows = labels_table(tmp_path / "map.parquet", weak_label=["red", "green"], label=["red"] * 2)
    found = problems(edit(case, "pool", label_map=rows))
    assert "blue" in str(found)


def test_lpips_without_its_weights_or_with_too_many_comparisons(case, tmp_path):
    lpips = {"backbone": str(tmp_path / "absent.pth"), "candidates": 10}
    compare = {"baselines": ["none"], "selections": {"perceptual": {"k": 2, "lpips": lpips}}}
    edit(case, "selection", lpips=lpips | {"max_comparisons": 89})
    document = yaml.safe_load(case.read_text()) | {"compare": compare}
    case.write_text(yaml.safe_dump(document))
    found = problems(case)
    assert found.keys() == {"selection.lpips", "compare.selections.perceptual.lpips"}
    assert "9 failures with 10 candidates each are 90 comparisons" in found["selection.lpips"]
    assert "absent.pth: weights cannot be read" in found["compare.selections.perceptual.lpips"]
