"""Hold what a training changes from step to step, and keep its checkpoint in the store."""

import io
import logging
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.optim import create_optimizer_v2  # pyright: ignore[reportPrivateImportUsage]
from timm.utils.model_ema import ModelEmaV3
from torch import nn

from dcd.config import TrainingConfig
from dcd.store import Store, keys

log = logging.getLogger(__name__)
_COUNTERS = ("step", "score", "best_score", "best_weights", "epochs_since_best")


@dataclass(frozen=True)
class Checkpoint:
    """One object, replaced in one step: a kill leaves the former state or the new one."""

    store: Store
    key: str

    def save(self, state: dict[str, Any]) -> None:
        """Publish a state of tensors, numbers, strings and containers of them."""
        sink = io.BytesIO()
        torch.save(state, sink)
        self.store.write_bytes(self.key, sink.getvalue())

    def load(self) -> dict[str, Any] | None:
        """Load the last state, on the CPU; None if there is none. ObjectUnreadable if broken."""
        if not self.store.exists(self.key):
            return None
        data = io.BytesIO(self.store.read_bytes(self.key))
        try:
            return torch.load(data, map_location="cpu", weights_only=True)
        except Exception as err:  # the unpickler raises nearly every type on damaged bytes
            why = f"not a checkpoint of this version ({err})"
            raise self.store.damaged(self.key, why) from err

    def of_stage(self, stage: str) -> "Checkpoint":
        """Return the checkpoint of an earlier stage of the same training."""
        return Checkpoint(self.store, keys.stage_checkpoint(self.key, stage))

    def clear(self) -> None:
        """Remove the state: the training is done."""
        self.store.delete(self.key)


@dataclass
class TrainingRun:
    """Everything that changes from step to step. Scores are the validation's, higher is better."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    ema: ModelEmaV3 | None
    step: int = 0
    score: float | None = None
    best_score: float | None = None
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    epochs_since_best: int = 0

    @property
    def served(self) -> nn.Module:
        """The network that is validated and returned: the moving average, if one is kept."""
        return self.network if self.ema is None else self.ema.module

    def set_learning_rate(self, rate: float) -> None:
        """Set the rate of every layer, less its decay."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)

    def take_step(self, max_grad_norm: float | None) -> None:
        """Change the weights by the gradients, clipped to a norm, and let the average follow."""
        if max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.ema is not None:
            self.ema.update(self.network, step=self.step)

    def note_score(self, score: float) -> None:
        """Keep the served weights if they are the best so far."""
        self.score = score
        if self.best_score is None or score > self.best_score:
            self.best_score, self.epochs_since_best = score, 0
            weights = self.served.state_dict()
            self.best_weights = {name: t.detach().clone() for name, t in weights.items()}
        else:
            self.epochs_since_best += 1

    def is_stuck(self, patience: int | None) -> bool:
        """Tell whether `patience` epochs have brought nothing better."""
        return patience is not None and self.epochs_since_best >= patience

    def best(self) -> nn.Module:
        """Return the served network in eval mode, with its best weights where scores were noted."""
        if self.best_weights:
            self.served.load_state_dict(self.best_weights)
        return self.served.eval()


def start(network: nn.Module, config: TrainingConfig, device: torch.device) -> TrainingRun:
    """Take step 0 on the device: AdamW, no weight decay on biases and norms, EMA if configured."""
    placed = network.to(device).to(memory_format=torch.channels_last)  # pyright: ignore
    optimizer = create_optimizer_v2(
        placed,
        "adamw",
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        layer_decay=config.layer_decay if config.layer_decay < 1 else None,
    )
    decay = config.ema_decay
    ema = None if decay is None else ModelEmaV3(placed, decay, use_warmup=True)
    return TrainingRun(placed, optimizer, ema)


def state(run: TrainingRun, identity: str) -> dict[str, Any]:
    """Collect what `resume` needs. `identity` tells one training from another."""
    return {
        "identity": identity,
        "network": run.network.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "ema": None if run.ema is None else run.ema.module.state_dict(),
        **{name: getattr(run, name) for name in _COUNTERS},
    }


def resume(run: TrainingRun, checkpoint: Checkpoint, identity: str) -> None:
    """Bring the run to its checkpoint's state. One of another training is ignored, and said so."""
    found = checkpoint.load()
    if found is None:
        return
    if found["identity"] != identity:
        log.warning("%s belongs to another training; starting from step 0", checkpoint.key)
        return
    run.network.load_state_dict(found["network"])
    run.optimizer.load_state_dict(found["optimizer"])
    if run.ema is not None:
        run.ema.module.load_state_dict(found["ema"])
    for name in _COUNTERS:
        setattr(run, name, found[name])
    log.info("resumed %s at step %d", checkpoint.key, run.step)
