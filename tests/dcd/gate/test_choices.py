"""Of how many models debug_val may have picked the candidate."""

import pytest

from dcd.cells.stages import points
from dcd.config import parse_config
from dcd.gate.choices import ENSEMBLES, STAGED, n_chosen_among
from dcd.training.ensembling import ALPHAS

_CASE = {
    "name": "toy",
    "store": "runs",
    **{name: {"images": f"{name}/"} for name in ("pool", "train", "test", "error_sample")},
    "debug_val": {"images": "debug_val/"},
    "debug_heldout": {"images": "debug_heldout/"},
    "encoder": {"model": "resnet18", "weights": "random"},
}
_AT_ONCE = {"mode": "full", "pool_stage": None}
_CHOSEN = {**_AT_ONCE, "val_share": 0.1, "ensemble_alpha": "choose"}


@pytest.mark.parametrize(
    ("training", "selection", "n_models"),
    [
        ({}, {}, 1),
        ({"mode": "head"}, {"objective": "both", "k_candidates": [10, 20, 20]}, 2),
        (_AT_ONCE, {}, 1),
        (_CHOSEN, {}, ENSEMBLES),
        ({**_CHOSEN, "patience": 2, "epochs": 4}, {"k_candidates": [10, 20]}, 2 * 4 * ENSEMBLES),
        ({"mode": "full"}, {}, STAGED),
        ({"mode": "full"}, {"objective": "fixed"}, 1),
        ({"mode": "full"}, {"general_images": 0}, 1),
        (
            {
                "mode": "full",
                "val_share": 0.1,
                "pool_stage": {"epochs": 3},
                "patience": 1,
                "epochs": 2,
            },
            {"objective": 2},
            3 * 2 * STAGED,
        ),
    ],
)
def test_models_are_counted_where_debug_val_chooses(
    training: dict[str, object], selection: dict[str, object], n_models: int
):
    document = {**_CASE, "training": training, "selection": selection}
    assert n_chosen_among(parse_config(document, "toy.yaml")) == n_models


def test_the_counts_are_those_of_what_is_judged():
    assert len(points()) == STAGED
    assert len(ALPHAS) == ENSEMBLES
