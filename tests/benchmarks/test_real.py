from pathlib import Path

import pytest

import benchmarks
from benchmarks.real import OBJECTIVES, with_objectives
from dcd.cells.methods import methods
from dcd.config import load_config

FOLDER = Path(benchmarks.__file__).parent


@pytest.mark.parametrize("name", ["cifar10n", "cifar100", "domains"])
def test_the_same_selection_is_compared_by_every_objective(name: str):
    config = load_config(FOLDER / f"{name}.yaml")
    before, after = (
        {method.name: method for method in methods(of)} for of in (config, with_objectives(config))
    )
    assert before.keys() < after.keys()
    assert {name: after[name].objective for name in after.keys() - before.keys()} == {
        str(objective): objective for objective in OBJECTIVES
    }
    for objective in map(str, OBJECTIVES):
        selection = after[objective].selection
        assert selection is not None
        assert selection.model_copy(update={"objective": "fixed"}) == config.selection
        assert after[objective].with_error_sample
