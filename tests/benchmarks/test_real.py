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
    added = {name: after[name] for name in after.keys() - before.keys()}
    assert {method.objective for method in added.values()} == set(OBJECTIVES) - {
        config.selection.objective
    }
    for name, method in added.items():
        assert name == method.objective
        assert method.selection == config.selection.model_copy(update={"objective": name})
        assert method.with_error_sample
