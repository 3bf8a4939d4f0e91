"""Images a second of full fine-tuning, with and without our weight gradient
(`dcd.training.depthwise`).

    python -m benchmarks.finetuning [--model tf_efficientnet_lite0] [--input-size 64]

One step of training (forward, backward, AdamW; batch of 64, random pixels) on the CPU, the two ways
in turns; the fastest of the rounds counts.
"""

import argparse
import time
from contextlib import AbstractContextManager, nullcontext

import timm
import torch
from torch import nn

from dcd.config import TrainingConfig
from dcd.training.depthwise import fast_depthwise_gradients
from dcd.training.finetune import training_mode

BATCH_SIZE = 64


def seconds_per_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    pixels: torch.Tensor,
    way: AbstractContextManager[None],
    n_steps: int,
) -> float:
    start = time.perf_counter()
    with way:
        for _ in range(n_steps):
            network(pixels).logsumexp(dim=1).mean().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return (time.perf_counter() - start) / n_steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--input-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    args = parser.parse_args()
    torch.manual_seed(0)
    network = timm.create_model(args.model, num_classes=20).to(memory_format=torch.channels_last)
    training_mode(network, TrainingConfig(mode="full"))
    optimizer = torch.optim.AdamW(network.parameters(), 1e-5)
    pixels = torch.randn(BATCH_SIZE, 3, args.input_size, args.input_size)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    ways = {"torch": nullcontext, "dcd": fast_depthwise_gradients}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(1 + args.rounds):
        for name, way in ways.items():
            took = seconds_per_step(network, optimizer, pixels, way(), args.steps)
            if round_ > 0:  # the first warms up
                found[name].append(took)
    print("| gradient | images/s |\n|---|---|")
    for name, seconds in found.items():
        print(f"| {name} | {BATCH_SIZE / min(seconds):.0f} |")
    print(f"{min(found['torch']) / min(found['dcd']):.2f} x ({args.model}, {args.input_size} px)")


if __name__ == "__main__":
    main()
