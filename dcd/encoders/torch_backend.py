"""Run a network in torch: compiled bf16 on CUDA, and a plain fallback on CPUs."""

import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor, nn

from dcd.encoders.precision import Embed
from dcd.images.preprocess import Preprocess

_N_LANES = 3  # batches on their way to the GPU, on it, and back


class _PixelNetwork(nn.Module):
    """(B, S, S, 3) uint8 → the network's output in float32, normalisation included."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, preprocess: Preprocess, use_bf16: bool):
        super().__init__()
        self.network, self.use_bf16 = network, use_bf16
        self.register_buffer("mean", 255 * torch.tensor(preprocess.mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(preprocess.std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        # The permuted NHWC images are NCHW in channels_last memory format: nothing is copied.
        pixels = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.use_bf16):
            return self.network(pixels).float()


def embed_eagerly(network: nn.Module, preprocess: Preprocess, use_bf16: bool, device: str) -> Embed:
    """Map (B, S, S, 3) uint8 to (B, D) float32, thread-safe; where nothing compiles it."""
    model = _channels_last(_PixelNetwork(network, preprocess, use_bf16).eval().to(device))

    def embed(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(images).to(device)).cpu().numpy()

    return embed


class _Lane:
    """Pinned host memory for one batch and its embeddings, and when they are ready."""

    def __init__(self, batch_size: int, size: int, dim: int):
        self.images = torch.zeros(batch_size, size, size, 3, dtype=torch.uint8).pin_memory()
        self.vectors = torch.zeros(batch_size, dim).pin_memory()
        self.ready = torch.cuda.Event()


def compiled_on_cuda(
    network: nn.Module, preprocess: Preprocess, use_bf16: bool
) -> Callable[[Tensor], Tensor]:
    """Map (B, S, S, 3) uint8 to (B, D) float32, both on the GPU; compiled anew for each B."""
    device = torch.device("cuda", torch.cuda.current_device())
    model = _channels_last(_PixelNetwork(network, preprocess, use_bf16).eval().to(device))
    return torch.compile(model, dynamic=False)


def embed_on_cuda(
    network: nn.Module, preprocess: Preprocess, use_bf16: bool, batch_size: int
) -> Embed:
    """Map (B, S, S, 3) uint8 to (B, D) float32, thread-safe; compiled for `batch_size` images.

    One thread launches all work, so that the compiled graph and the stream have one owner. It
    only enqueues: while the GPU computes one batch, callers copy the next into pinned memory.
    """
    device = torch.device("cuda", torch.cuda.current_device())
    compiled = compiled_on_cuda(network, preprocess, use_bf16)
    launcher = ThreadPoolExecutor(1, "cuda-launch")

    def first(size: int) -> Tensor:
        with torch.inference_mode():
            images = torch.zeros(batch_size, size, size, 3, dtype=torch.uint8, device=device)
            return compiled(images)

    def launch(lane: _Lane) -> None:
        with torch.inference_mode():
            vectors = compiled(lane.images.to(device, non_blocking=True))
            lane.vectors.copy_(vectors, non_blocking=True)
            lane.ready.record()

    dim = launcher.submit(first, preprocess.input_size).result().shape[1]
    idle: queue.SimpleQueue[_Lane] = queue.SimpleQueue()
    for _ in range(_N_LANES):
        idle.put(_Lane(batch_size, preprocess.input_size, dim))

    def embed_batch(images: np.ndarray) -> np.ndarray:
        lane = idle.get()
        try:
            # Rows past the end keep the images of an earlier batch: padding, never read.
            lane.images[: len(images)].copy_(torch.from_numpy(images))
            launcher.submit(launch, lane).result()
            lane.ready.synchronize()
            return lane.vectors[: len(images)].numpy().copy()
        finally:
            idle.put(lane)

    def embed(images: np.ndarray) -> np.ndarray:
        starts = range(0, len(images), batch_size)
        return np.concatenate([embed_batch(images[i : i + batch_size]) for i in starts])

    return embed


def _channels_last(model: nn.Module) -> nn.Module:
    return model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
