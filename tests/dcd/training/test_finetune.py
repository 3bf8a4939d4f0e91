import random
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dcd.config import TrainingConfig
from dcd.errors import DataError, EncoderError, LabelError, StoreError
from dcd.images.decode import BadImage
from dcd.store import Store
from dcd.training.checkpoints import Checkpoint
from dcd.training.data import LabelledImages, Progress, Recipe
from dcd.training.finetune import finetune, learning_rate_scale, predict_images
from dcd.training.losses import LabelDoubt
from tests.dcd.selection.striped_images import (
    CLASSES,
    PREPROCESS,
    striped_images,
    tiny_network,
    weights_of,
)

CONFIG = TrainingConfig(mode="full", epochs=4, batch_size=16, learning_rate=3e-3)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Tiny layers gain nothing from threads, and lose a lot where other work fills the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_finetuning_learns():
    images, labels = striped_images(96)
    network = _finetuned(images, labels, CONFIG, 0)
    fresh, truth = striped_images(40, seed=1)
    predicted = predict_images(network, fresh, CLASSES, PREPROCESS, batch_size=16)
    assert np.mean([p == t for p, t in zip(predicted.labels, truth, strict=True)]) >= 0.9
    assert predicted.confidence.shape == (40,)
    assert not network.training


@pytest.mark.skipif(torch.cuda.is_available(), reason="bits are promised on the CPU only")
def test_a_seed_decides_every_bit():
    images, labels = striped_images(32)
    config = CONFIG.model_copy(update={"epochs": 2})
    first = weights_of(_finetuned(images, labels, config, 0))
    torch.rand(7)
    assert weights_of(_finetuned(images, labels, config, 0)) == first
    assert weights_of(_finetuned(images, labels, config, 1)) != first


def _finetuned(images, labels, config, seed) -> nn.Module:
    return finetune(
        tiny_network(), LabelledImages(images, labels), Recipe(CLASSES, PREPROCESS, config, seed)
    )


def test_progress_is_told_and_time_left_falls_to_zero():
    images, labels = striped_images(40)
    told: list[Progress] = []
    data, recipe = LabelledImages(images, labels), Recipe(CLASSES, PREPROCESS, CONFIG, 0)
    finetune(tiny_network(), data, recipe, on_progress=told.append)
    assert [(p.epoch, p.step) for p in told] == [(1, 2), (2, 4), (3, 6), (4, 8)]
    assert told[-1].loss < told[0].loss
    assert told[0].remaining_s > 0 == told[-1].remaining_s


@pytest.mark.parametrize(
    "option",
    [
        {"ema_decay": 0.9},
        {"layer_decay": 0.95},
        {"precision": "bf16"},
        {"augmentation": "none"},
        {"augmentation": "rand_augment"},
        {"max_grad_norm": None, "weight_decay": 0.0, "warmup_share": 0.0},
    ],
    ids=str,
)
def test_every_option_still_learns_and_changes_the_weights(
    option: dict[str, object], plainly_trained: bytes
):
    images, labels = striped_images(64)
    network = _finetuned(images, labels, CONFIG.model_copy(update=option), 0)
    fresh, truth = striped_images(40, seed=1)
    predicted = predict_images(network, fresh, CLASSES, PREPROCESS)
    assert np.mean([p == t for p, t in zip(predicted.labels, truth, strict=True)]) >= 0.75
    assert weights_of(network) != plainly_trained


@pytest.fixture(scope="module")
def plainly_trained() -> bytes:
    return weights_of(_finetuned(*striped_images(64), CONFIG, 0))


def test_an_image_of_no_weight_teaches_nothing():
    images, labels = striped_images(64)
    wrong = [CLASSES[1 - CLASSES.index(label)] for label in labels]
    config = CONFIG.model_copy(update={"augmentation": "none"})
    weight = np.repeat([1.0, 0.0], 64)
    network = finetune(
        tiny_network(),
        LabelledImages([*images, *images], [*labels, *wrong], weight),
        Recipe(CLASSES, PREPROCESS, config, 0),
    )
    predicted = predict_images(network, images, CLASSES, PREPROCESS)
    assert np.mean([p == t for p, t in zip(predicted.labels, labels, strict=True)]) >= 0.9


def test_early_stopping_returns_the_best_epoch():
    images, labels = striped_images(32)
    scores = [0.5, 0.7, 0.6, 0.6, 0.9]
    seen: list[bytes] = []

    def validate(network: nn.Module) -> float:
        seen.append(weights_of(network))
        return scores[len(seen) - 1]

    config = CONFIG.model_copy(update={"epochs": 5, "patience": 2})
    data, recipe = LabelledImages(images, labels), Recipe(CLASSES, PREPROCESS, config, 0)
    network = finetune(tiny_network(), data, recipe, validate=validate)
    assert len(seen) == 4
    assert weights_of(network) == seen[1]


_KILLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
from tests.dcd.training.test_finetune import _resumable
from dcd.training.checkpoints import Checkpoint
from dcd.store import Store

class Killing(Checkpoint):
    def save(self, state):
        super().save(state)
        if state["step"] == {last_step}:
            os.kill(os.getpid(), signal.SIGKILL)

_resumable(Killing(Store({store!r}), "ckpt"))
"""


def _resumable(checkpoint: Checkpoint | None) -> nn.Module:
    """A training with everything that has state, and images that are left out of some steps."""
    torch.set_num_threads(1)
    images, labels = striped_images(64)
    config = CONFIG.model_copy(
        update={"epochs": 3, "ema_decay": 0.9, "augmentation": "rand_augment", "patience": 3}
        | {"checkpoint_every_s": 0.0, "drop_high_loss": 0.3, "soft_labels": "agreement"}
    )
    votes = np.random.default_rng(0).integers(-1, 2, (64, 5))
    return finetune(
        tiny_network(),
        LabelledImages(images, labels, doubt=LabelDoubt(np.arange(64) % 3 > 0, votes)),
        Recipe(CLASSES, PREPROCESS, config, 3),
        checkpoint=checkpoint,
        validate=lambda network: network.get_classifier().bias[0].item(),  # pyright: ignore
    )


@dataclass(frozen=True)
class _Interrupting(Checkpoint):
    last_step: int

    def save(self, state: dict[str, object]) -> None:
        super().save(state)
        if state["step"] == self.last_step:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def resumable() -> bytes:
    return weights_of(_resumable(None))


@pytest.mark.skipif(torch.cuda.is_available(), reason="bits are promised on the CPU only")
@pytest.mark.parametrize("last_step", [3, 4, 11], ids=["in an epoch", "at its end", "near the end"])
def test_a_killed_training_goes_on_to_the_same_bits(
    tmp_path: Path, last_step: int, resumable: bytes
):
    if last_step == 3:
        root, store = str(Path(__file__).parents[3]), str(tmp_path)
        script = _KILLED.format(root=root, last_step=last_step, store=store)
        killed = subprocess.run([sys.executable, "-c", script], check=False)
        assert killed.returncode == -signal.SIGKILL
    else:  # the same without the seconds that a new process takes
        with pytest.raises(KeyboardInterrupt):
            _resumable(_Interrupting(Store(str(tmp_path)), "ckpt", last_step))

    checkpoint = Checkpoint(Store(str(tmp_path)), "ckpt")
    state = checkpoint.load()
    assert state is not None
    assert state["step"] == last_step
    assert weights_of(_resumable(checkpoint)) == resumable


def test_checkpoints_of_other_trainings_are_ignored_and_broken_ones_refused(tmp_path: Path):
    images, labels = striped_images(32)
    checkpoint = Checkpoint(Store(str(tmp_path)), "ckpt")
    config = CONFIG.model_copy(update={"epochs": 1, "checkpoint_every_s": 0.0})

    def train(seed: int) -> nn.Module:
        recipe = Recipe(CLASSES, PREPROCESS, config, seed)
        data = LabelledImages(images, labels)
        return finetune(tiny_network(), data, recipe, checkpoint=checkpoint)

    train(0)
    assert weights_of(train(1)) == weights_of(_finetuned(images, labels, config, 1))
    for broken in (b"not a checkpoint", b"\x80\x02."):
        checkpoint.store.write_bytes("ckpt", broken)
        with pytest.raises(StoreError, match="ckpt: is damaged: not a checkpoint"):
            train(1)
    checkpoint.clear()
    assert checkpoint.load() is None


def test_the_random_state_of_the_process_is_left_alone():
    images, labels = striped_images(16)
    network = tiny_network()
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    finetune(network, LabelledImages(images, labels), Recipe(CLASSES, PREPROCESS, CONFIG, 0))
    found = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    assert found == (random.random(), np.random.rand(), torch.rand(1).item())


def test_the_learning_rate_warms_up_and_falls_to_zero():
    scales = [learning_rate_scale(step, 100, 10) for step in range(101)]
    assert scales[:10] == sorted(scales[:10])
    assert max(scales) == scales[10] == 1
    assert scales[10:] == sorted(scales[10:], reverse=True)
    assert scales[100] == pytest.approx(0)


def test_predictions_do_not_depend_on_the_batch():
    images, _ = striped_images(10)
    network = tiny_network()
    one = predict_images(network, images, CLASSES, PREPROCESS, batch_size=1)
    all_at_once = predict_images(network, images, CLASSES, PREPROCESS)
    assert one.labels == all_at_once.labels
    np.testing.assert_allclose(one.confidence, all_at_once.confidence, rtol=1e-4)
    assert predict_images(network, [], CLASSES, PREPROCESS).labels == []


def test_what_cannot_be_trained_is_refused():
    images, labels = striped_images(4)

    def train(images: list[bytes], labels: list[str], classes: tuple[str, ...] = CLASSES):
        recipe = Recipe(classes, PREPROCESS, CONFIG, 0)
        return finetune(tiny_network(), LabelledImages(images, labels), recipe)

    with pytest.raises(EncoderError, match="2 outputs for 3 classes"):
        train(images, labels, (*CLASSES, "diagonal"))
    with pytest.raises(LabelError, match="diagonal"):
        train(images, ["diagonal", *labels[1:]])
    with pytest.raises(DataError, match="at least 2 images"):
        train(images[:1], labels[:1])
    with pytest.raises(BadImage):
        train([b"not an image", *images[1:]], labels)


def test_batchnorm_keeps_the_statistics_of_the_start_unless_told_otherwise():
    images, labels = striped_images(32)
    before = tiny_network().state_dict()

    def changed(batchnorm: str) -> set[str]:
        config = CONFIG.model_copy(update={"epochs": 1, "batchnorm": batchnorm})
        network = _finetuned(images, labels, config, 0)
        after = network.state_dict()
        return {name for name, t in before.items() if not torch.equal(t, after[name])}

    running = {name for name in before if "running_" in name}
    assert running
    assert not changed("frozen") & running
    assert running <= changed("updated")
    assert "bn1.weight" in changed("frozen") or any(".bn" in n for n in changed("frozen"))
