import numpy as np
import pytest

from dcd.cells.candidates import Candidates
from dcd.cells.cross_fitting import judge_ends
from dcd.cells.recipe import choose_head
from dcd.training.head import LinearHead
from tests.dcd.cells.recipe_case import CLASSES, CONFIG, images, recipe_candidates


@pytest.fixture(scope="module")
def candidates() -> Candidates:
    return recipe_candidates()


def test_the_recipe_helps_the_failures_and_keeps_val(candidates: Candidates):
    ends = judge_ends(candidates, CONFIG)
    recipe = choose_head(ends, CONFIG, "failures_first")
    by_name = {model.name: model for model in recipe.judged}
    none = by_name["none"]
    assert recipe.chosen.failures.mean() > none.failures.mean() + 0.1
    assert recipe.chosen.val.mean() > none.val.mean() - 0.03
    unseen, truth = images(np.random.default_rng(2), 200, True)

    def right(head: LinearHead) -> float:
        predicted = np.array(CLASSES)[(unseen @ head.weight.T + head.bias).argmax(axis=1)]
        return float((predicted == np.array(truth)).mean())

    assert right(recipe.head) > right(ends.compression.expand(ends.starts["none"])) + 0.05


def test_the_same_data_gives_the_same_model(candidates: Candidates):
    one, two = (choose_head(judge_ends(candidates, CONFIG), CONFIG, "both") for _ in range(2))
    assert one.chosen.name == two.chosen.name
    np.testing.assert_array_equal(one.head.weight, two.head.weight)
