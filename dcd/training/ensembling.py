"""Ensemble a model before and after fine-tuning in weight space.

WiSE-FT (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", CVPR): the weights
(1 - alpha) · original + alpha · fine-tuned keep most of what either end can do, at the cost of
one model.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dcd.errors import EncoderError
from dcd.images.preprocess import Preprocess
from dcd.training.batches import evaluation_batches, normalised
from dcd.training.data import CurvePoint

ALPHAS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def interpolation_curve(
    original: nn.Module,
    finetuned: nn.Module,
    recompute: Callable[[nn.Module], None],
    evaluate: Mapping[str, Callable[[nn.Module], float]],
    alphas: Sequence[float] = ALPHAS,
) -> tuple[CurvePoint, ...]:
    """Judge the ensembles between two networks on every split of `evaluate`.

    recompute: sets the BatchNorm statistics of an ensemble (`recompute_batchnorm`), of the two ends
    as of what lies between, so that alpha is chosen among like models.
    """
    points = []
    for alpha in alphas:
        network = ensemble(original, finetuned, alpha, recompute)
        accuracy = {split: accuracy_of(network) for split, accuracy_of in evaluate.items()}
        points.append(CurvePoint(alpha, accuracy))
    return tuple(points)


def ensemble(
    original: nn.Module,
    finetuned: nn.Module,
    alpha: float,
    recompute: Callable[[nn.Module], None],
) -> nn.Module:
    """Make a network at `alpha` between the two. Raises EncoderError if their structures differ."""
    network = interpolate(original, finetuned, alpha)
    recompute(network)
    return network


def interpolate(original: nn.Module, finetuned: nn.Module, alpha: float) -> nn.Module:
    """Mix weights and buffers as (1 - alpha) · original + alpha · fine-tuned.

    Counters are the latter's.
    """
    before, after = original.state_dict(), finetuned.state_dict()
    shapes = [{name: t.shape for name, t in state.items()} for state in (before, after)]
    if shapes[0] != shapes[1]:
        differing = sorted(set(shapes[0].items()) ^ set(shapes[1].items()))[:3]
        raise EncoderError(
            f"weight ensembling: the two networks differ in structure at {differing}; fine-tune "
            "from the network that you interpolate with"
        )
    network = copy.deepcopy(finetuned)
    if alpha < 1:
        network.load_state_dict(
            {
                name: torch.lerp(before[name].to(tensor.device), tensor, alpha)
                if tensor.is_floating_point()
                else tensor
                for name, tensor in after.items()
            }
        )
    return network.eval()


@torch.no_grad()
def recompute_batchnorm(
    network: nn.Module, images: Sequence[bytes], preprocess: Preprocess, batch_size: int = 64
) -> None:
    """Set the running statistics to the mean over these images, in place.

    Statistics do not interpolate as weights do: those of the ensemble's own activations are wanted
    (Izmailov et al. 2018, "Averaging weights leads to wider optima", UAI, §3.2). Does nothing to
    networks without BatchNorm.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    if not norms:
        return
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
        norm.train()
    device = next(network.parameters()).device
    for pixels in _whole_batches(images, preprocess, batch_size, device):
        network(normalised(pixels, preprocess, device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def choose(
    points: Sequence[CurvePoint],
    keep: str,
    improve: str,
    margin: float = 0.0,
    rival: float = 0.0,
) -> CurvePoint:
    """Choose the point with the best accuracy on `improve` among those that keep it on `keep`.

    Kept means: no more than `margin` below the point at alpha `rival`, which must be there: 0, the
    original. The smallest alpha wins a tie, being nearest to what is trusted.
    """
    (known,) = [point for point in points if point.alpha == rival]
    floor = known.accuracy[keep] - margin
    kept = [point for point in points if point.accuracy[keep] >= floor]
    return max(kept, key=lambda point: (point.accuracy[improve], -point.alpha))


def _whole_batches(
    images: Sequence[bytes], preprocess: Preprocess, batch_size: int, device: torch.device
) -> Iterator[torch.Tensor]:
    """All batches of the same size, so that each counts alike; a short rest is left out."""
    size = min(batch_size, len(images))
    n_whole = len(images) // size * size
    return evaluation_batches(images[:n_whole], preprocess, size, device)
