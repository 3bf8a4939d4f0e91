"""AlexNet weights as torchvision's files hold them, with random numbers."""

from pathlib import Path

import safetensors.torch
import torch
from torchvision.models import alexnet


def alexnet_state(seed: int = 0) -> dict[str, torch.Tensor]:
    """The convolutions alone: the classifier, which LPIPS leaves out, would be 220 MB."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        with torch.device("meta"):
            shapes = alexnet(weights=None).features.state_dict()
        return {
            f"features.{name}": torch.randn(meta.shape) / max(1, meta[0].numel()) ** 0.5
            for name, meta in shapes.items()
        }


def write_alexnet(path: Path, seed: int = 0) -> str:
    """A .pth or .safetensors file."""
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(alexnet_state(seed), path)
    else:
        torch.save(alexnet_state(seed), path)
    return str(path)
