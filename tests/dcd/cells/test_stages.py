from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dcd.cells.stages import (
    NONE,
    TARGETED,
    WHOLE_POOL,
    Beginnings,
    Ends,
    StagedData,
    choose_network,
    line_of,
    points,
    second_stage,
    train_ends,
)
from dcd.config import Objective, PoolStageConfig, TrainingConfig
from dcd.store import Store
from dcd.training.checkpoints import Checkpoint
from dcd.training.data import LabelledImages, Progress, Recipe
from dcd.training.losses import LabelDoubt
from dcd.training.retrain import right
from tests.dcd.selection.striped_images import (
    CLASSES,
    PREPROCESS,
    striped_images,
    tiny_network,
    weights_of,
)

STAGE = PoolStageConfig(epochs=3, learning_rate=3e-3)
CONFIG = TrainingConfig(
    mode="full", epochs=2, batch_size=16, learning_rate=1e-3, val_share=0.2, pool_stage=STAGE
)


def images(n: int, seed: int, noise: float, **options: Any) -> LabelledImages:
    return LabelledImages(*striped_images(n, seed, noise), **options)


@pytest.fixture(autouse=True)
def _one_thread():
    """Bits are those of one number of threads, which belongs to the process, and not to a test."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data() -> StagedData:
    torch.set_num_threads(1)  # it is made before what each test begins with
    wrong = np.array([[0.7, 0.3], [0.2, 0.8]], np.float32)
    pool = images(96, 2, 40, doubt=LabelDoubt(np.ones(96, bool), np.empty((96, 0), int), wrong))
    aimed = images(24, 3, 90, weight=np.full(24, 15.0), doubt=LabelDoubt.none(24))
    return StagedData(images(40, 1, 20), pool, aimed, images(16, 4, 90), {"test": images(8, 5, 20)})


def recipe(**settings: Any) -> Recipe:
    return Recipe(CLASSES, PREPROCESS, CONFIG.model_copy(update=settings), 0)


BEGIN = Beginnings(tiny_network, tiny_network)


@pytest.fixture(scope="module")
def ends(data: StagedData) -> Ends:
    return train_ends(BEGIN, data, recipe())


def test_the_first_stage_learns_the_pool_and_the_second_goes_on_from_it(ends: Ends):
    clean = images(40, 6, 40)
    accuracy = {name: right(of, clean, recipe()).mean() for name, of in ends.networks.items()}
    assert accuracy[WHOLE_POOL] >= 0.8 > accuracy[NONE]

    def distance(one: nn.Module, other: nn.Module) -> float:
        pairs = zip(one.parameters(), other.parameters(), strict=True)
        return sum(float((a - b).detach().norm()) for a, b in pairs)

    none, first, second = (ends.networks[end] for end in (NONE, WHOLE_POOL, TARGETED))
    assert 0 < distance(first, second) < distance(none, second)


@pytest.mark.parametrize("objective", ["failures_first", "both"])
def test_the_model_is_chosen_on_a_line_that_is_told(
    ends: Ends, data: StagedData, objective: Objective
):
    found = choose_network(ends, data, recipe(), objective)
    assert found.line in ((NONE, WHOLE_POOL), (WHOLE_POOL, TARGETED))
    assert [p.alpha for p in found.curve] == pytest.approx(np.linspace(0, 1, 11).tolist())
    assert {frozenset(p.accuracy) for p in found.curve} == {frozenset({"val", "debug_val", "test"})}
    assert "debug_val" in found.chosen
    at = next(p for p in found.curve if p.alpha == found.alpha)
    of_chosen = right(found.network, data.debug_val, recipe()).mean()
    assert at.accuracy["debug_val"] == pytest.approx(of_chosen)


def test_without_an_objective_the_second_end_is_taken_or_what_alpha_says(
    ends: Ends, data: StagedData
):
    last = choose_network(ends, data, recipe(), "fixed")
    assert (last.alpha, last.curve, last.chosen) == (1.0, (), "")
    half = choose_network(ends, data, recipe(ensemble_alpha=0.5), "fixed")
    name = "layer1.0.conv1.weight"
    first, second = (
        ends.networks[end].get_parameter(name).detach() for end in (WHOLE_POOL, TARGETED)
    )
    middle = half.network.get_parameter(name).detach()
    np.testing.assert_allclose(middle, (first + second) / 2, atol=1e-6)
    chosen = choose_network(ends, data, recipe(ensemble_alpha="choose"), "fixed")
    assert len(chosen.curve) == 11
    assert chosen.line == (WHOLE_POOL, TARGETED)


def test_batchnorm_is_treated_alike_on_all_points(ends: Ends):
    def statistics(alpha: float, batchnorm: str) -> np.ndarray:
        shares = {WHOLE_POOL: 1 - alpha, TARGETED: alpha}
        network = ends.at(shares, recipe(batchnorm=batchnorm))
        return network.get_buffer("bn1.running_mean").numpy()

    start = tiny_network().get_buffer("bn1.running_mean").numpy()
    np.testing.assert_array_equal(statistics(0.5, "frozen"), start)
    first, between, second = (statistics(alpha, "updated") for alpha in (0.0, 0.5, 1.0))
    assert np.abs(first - start).max() > 1e-3  # an end too, though it is nobody's mixture
    assert np.abs(between - second).max() > 0


def test_what_is_aimed_has_its_share_of_the_loss_and_no_more():
    train, aimed = images(40, 1, 20), images(24, 3, 90, weight=np.full(24, 15.0))
    config = CONFIG.model_copy(update={"pool_stage": PoolStageConfig(max_targeted_share=0.25)})
    weight = second_stage(train, aimed, config).weight
    assert weight is not None
    assert weight[40:].sum() / weight.sum() == pytest.approx(0.25)
    light = second_stage(train, images(24, 3, 90, weight=np.full(24, 0.1)), config).weight
    assert light is not None
    np.testing.assert_allclose(light[40:], 0.1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="bits are promised on the CPU only")
@pytest.mark.parametrize("killed_in_epoch", [2, 4])  # of 3 of the first stage, 2 of the second
def test_killed_in_either_stage_it_goes_on_to_the_same_bits(
    ends: Ends, data: StagedData, tmp_path: Path, killed_in_epoch: int
):
    checkpoint = Checkpoint(Store(str(tmp_path)), "cells/one/checkpoint.pt")
    every_step = recipe(checkpoint_every_s=0)
    left = killed_in_epoch

    def interrupt(at: Progress) -> None:
        nonlocal left
        left -= at.step % (at.n_steps // at.n_epochs) == 0
        if left == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_ends(BEGIN, data, every_step, checkpoint=checkpoint, on_progress=interrupt)
    rest: list[Progress] = []
    resumed = train_ends(BEGIN, data, every_step, checkpoint=checkpoint, on_progress=rest.append)
    for end in (WHOLE_POOL, TARGETED):
        assert weights_of(resumed.networks[end]) == weights_of(ends.networks[end])
    # By their epochs: 3 are the first stage's, 2 the second's. A stage that is done stays done.
    assert {at.n_epochs for at in rest} == ({3, 2} if killed_in_epoch == 2 else {2})


def test_points_lie_on_lines_between_the_ends():
    shares = points()
    assert all(sum(one.values()) == pytest.approx(1) for one in shares)
    assert [one for one in shares if len(one) == 1] == [{NONE: 1}, {WHOLE_POOL: 1}, {TARGETED: 1}]
    assert len(shares) == 21
    assert line_of({WHOLE_POOL: 1.0}) == (WHOLE_POOL, TARGETED)
    assert line_of({NONE: 0.3, WHOLE_POOL: 0.7}) == (NONE, WHOLE_POOL)
