import json

import pytest

from dcd.config import load_config
from dcd.errors import ConfigError
from dcd.store import keys
from tests.case import write_case


def written(folder, **overrides):
    return load_config(write_case(folder, seeds=(0,), **overrides))


def test_a_config_without_a_goal_is_written_as_before_there_were_goals(tmp_path):
    config = written(tmp_path)
    document = json.loads(config.model_dump_json())
    assert "goal" not in document
    assert keys.digest(config) == keys.digest(document)
    with_goal = written(tmp_path, goal={"target": 0.9, "budget": 10})
    assert keys.digest(with_goal) != keys.digest(config)
    assert with_goal.model_validate_json(with_goal.model_dump_json()) == with_goal


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        ({"budget": 10}, "target"),
        ({"target": 90, "budget": 10}, "0.9"),
        ({"target": 0.9, "budget": 3}, "rounds"),
        ({"target": 0.9, "budget": 9, "metric": "recall"}, "label"),
        ({"target": 0.9, "budget": 9, "label": "red"}, "label"),
        ({"target": 0.9, "budget": 9, "metric": "command"}, "command"),
    ],
)
def test_a_goal_that_cannot_be_met_or_asked_is_refused(tmp_path, goal, words):
    with pytest.raises(ConfigError, match=words):
        written(tmp_path, goal=goal)


def test_a_goal_needs_debug_val_and_no_other_choice_of_k(tmp_path):
    with pytest.raises(ConfigError, match="debug_val"):
        written(tmp_path, goal={"target": 0.9, "budget": 9}, debug_val=None)
    with pytest.raises(ConfigError, match="k_candidates"):
        written(tmp_path, goal={"target": 0.9, "budget": 9}, selection={"k_candidates": [1, 2]})
