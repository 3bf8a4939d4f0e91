import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from dcd.config import TrainingConfig
from dcd.training.data import LabelledImages, Recipe
from dcd.training.finetune import finetune, predict_images
from dcd.training.losses import (
    LabelDoubt,
    forward_losses_and_slopes,
    joined,
    likelihoods,
    losses_and_slopes,
)
from dcd.training.torch_losses import batch_loss, kept, robust_losses
from tests.dcd.selection.striped_images import CLASSES, PREPROCESS, striped_images, tiny_network

LABELS = np.array([0, 1, 2, 0, 1, 2])
WEAK = np.array([False, False, True, True, True, True])
DOUBT = LabelDoubt(WEAK, np.where(WEAK[:, None], 1, -1).repeat(4, axis=1))
INDEX = torch.tensor([5, 0, 3, 1])
PLAIN = TrainingConfig(loss="cross_entropy")


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.tensor(np.random.default_rng(0).normal(0, 2, (4, 3)), dtype=torch.float32)


@pytest.mark.parametrize("q", [0.0, 0.7])
def test_loss_and_gradient_are_those_of_the_head(logits: torch.Tensor, q: float):
    rng = np.random.default_rng(1)
    target = rng.dirichlet(np.ones(3), 4).astype(np.float32)
    share = np.array([0, 0.05, 0.3, 0.5], np.float32)
    logits.requires_grad_()
    losses = robust_losses(logits, torch.from_numpy(target), torch.from_numpy(share), q)
    (slopes,) = torch.autograd.grad(losses.sum(), logits)
    expected = losses_and_slopes(logits.detach().numpy(), target, share, q)
    np.testing.assert_allclose(losses.detach(), expected[0], rtol=1e-5)
    np.testing.assert_allclose(slopes, expected[1], atol=1e-6)


def test_gradients_of_hopeless_images_are_finite():
    logits = torch.tensor([[300.0, -300.0]], requires_grad=True)
    losses = robust_losses(logits, torch.tensor([[0.0, 1.0]]), torch.tensor([0.1]), 0.7)
    (slopes,) = torch.autograd.grad(losses.sum(), logits)
    assert torch.isfinite(slopes).all()


def test_without_options_it_is_torchs_cross_entropy(logits: torch.Tensor):
    found = batch_loss(LABELS, DOUBT, PLAIN)(logits, INDEX, 3)
    plain = cross_entropy(logits, torch.from_numpy(LABELS)[INDEX], reduction="none")
    assert found.numpy().tobytes() == plain.numpy().tobytes()


def test_the_forward_correction_is_that_of_the_head(logits: torch.Tensor):
    noise = np.random.default_rng(2).dirichlet(np.ones(3), 3).astype(np.float32)
    doubt = LabelDoubt(WEAK, DOUBT.votes, noise)
    logits.requires_grad_()
    losses = batch_loss(LABELS, doubt, TrainingConfig(loss="forward"))(logits, INDEX, 0)
    (slopes,) = torch.autograd.grad(losses.sum(), logits)
    rows = INDEX.numpy()
    likelihood = likelihoods(LABELS[rows], doubt.take(rows), 3)
    expected = forward_losses_and_slopes(logits.detach().numpy(), likelihood)
    np.testing.assert_allclose(losses.detach(), expected[0], rtol=1e-5)
    np.testing.assert_allclose(slopes, expected[1], atol=1e-6)
    plain = batch_loss(LABELS, DOUBT, PLAIN)(logits, INDEX, 0)
    assert (~torch.isclose(losses, plain)).tolist() == WEAK[rows].tolist()


@pytest.mark.parametrize("soft_labels", ["agreement", "bootstrap"])
def test_only_pool_images_are_softened(logits: torch.Tensor, soft_labels: str):
    config = PLAIN.model_copy(update={"soft_labels": soft_labels, "soft_label_share": 0.5})
    found = batch_loss(LABELS, DOUBT, config)(logits, INDEX, 0)
    plain = batch_loss(LABELS, DOUBT, PLAIN)(logits, INDEX, 0)
    differs = ~torch.isclose(found, plain)
    assert differs.tolist() == WEAK[INDEX.numpy()].tolist()


def test_from_the_second_epoch_on_the_worst_pool_images_of_a_batch_are_left_out():
    config = TrainingConfig(loss="cross_entropy", drop_high_loss=0.5)
    of_label = torch.zeros(6, 3)
    of_label[[0, 1, 3], [0, 1, 0]] = torch.tensor([-50.0, -50.0, -10.0])
    losses_of = batch_loss(LABELS, DOUBT, config)
    every = torch.arange(6)
    assert (losses_of(of_label, every, 0) > 0).all()
    later = losses_of(of_label, every, 1)
    assert later[:2].min() > 10  # true labels, and the highest losses: kept
    assert later[3] == 0
    assert (later == 0).sum() == 2


def test_a_batch_without_pool_images_is_kept():
    assert kept(torch.rand(4), torch.zeros(4, dtype=torch.bool), 0.9).tolist() == [1] * 4
    assert kept(torch.rand(4), torch.ones(4, dtype=torch.bool), 0.1).tolist() == [1] * 4


FULL = {
    "mode": "full",
    "epochs": 6,
    "batch_size": 16,
    "learning_rate": 3e-3,
    "augmentation": "none",
}
NOISE_OPTIONS = [
    {"loss": "forward"},
    {"drop_high_loss": 0.4},
    {"loss": "gce"},
    {"soft_labels": "agreement"},
    {"soft_labels": "bootstrap", "soft_label_share": 0.3},
]


@pytest.mark.parametrize("option", NOISE_OPTIONS, ids=str)
def test_options_against_label_noise_help_amid_wrong_labels(
    option: dict[str, object], plain_amid_wrong_labels: float
):
    assert _amid_wrong_labels(option) > plain_amid_wrong_labels + 0.01


@pytest.fixture(scope="module")
def plain_amid_wrong_labels() -> float:
    return _amid_wrong_labels({})


def _amid_wrong_labels(option: dict[str, object]) -> float:
    """Mean probability of the truth after a training with 40 % wrong labels in the pool."""
    true_images, true_labels = striped_images(32, seed=2)
    images, truth = striped_images(96)
    wrong = np.arange(96) % 10 < 4
    given = [CLASSES[(CLASSES.index(t) + w) % 2] for t, w in zip(truth, wrong, strict=True)]
    votes = np.repeat([CLASSES.index(t) for t in truth], 5).reshape(-1, 5)
    config = FULL | {"loss": "cross_entropy"} | option
    noise = np.array([[0.6, 0.4], [0.4, 0.6]], np.float32)
    doubt = joined([LabelDoubt.none(32), LabelDoubt(np.ones(96, bool), votes, noise)])
    network = finetune(
        tiny_network(),
        LabelledImages([*true_images, *images], [*true_labels, *given], doubt=doubt),
        Recipe(CLASSES, PREPROCESS, TrainingConfig.model_validate(config), 0),
    )
    fresh, fresh_truth = striped_images(100, seed=1, noise=70)
    found = predict_images(network, fresh, CLASSES, PREPROCESS)
    right = np.array(found.labels) == np.array(fresh_truth)
    return float(np.where(right, found.confidence, 1 - found.confidence).mean())
