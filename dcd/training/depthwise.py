"""Compute a depthwise convolution's weight gradient fast where maps are small, on a CPU.

oneDNN takes 25 to 46 ms for it (480 to 1,152 channels, a batch of 64, two cores of an AMD EPYC)
where the convolution itself takes one: a third and more of a training step of an EfficientNet at
64 px. With the sum taken as products of shifted maps, convolution and both gradients take 3 to 10.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode


@contextmanager
def fast_depthwise_gradients(enabled: bool = True) -> Iterator[None]:
    """Give depthwise convolutions on small maps the fast gradient within this block.

    For forward passes on the CPU; the backward pass may come after the block. The gradients are the
    same up to float32 rounding; nothing in a network is changed.
    """
    with _Intercept() if enabled else nullcontext():
        yield


class _Intercept(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.conv2d:
            return _conv2d(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _conv2d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> torch.Tensor:
    if (
        _is_depthwise(input, weight, groups)
        and _has_gradient_in_fp32(input, weight)
        and bias is None
        and not isinstance(padding, str)
        and _pair(dilation) == (1, 1)
    ):
        strides, paddings = _pair(stride), _pair(padding)
        kernel_width = weight.shape[3]
        width = (input.shape[3] + 2 * paddings[1] - kernel_width) // strides[1] + 1
        if width < kernel_width:  # on larger maps oneDNN's own gradient is the faster one
            return _SmallDepthwise.apply(input, weight, strides, paddings)
    return F.conv2d(input, weight, bias, stride, padding, dilation, groups)  # type: ignore[arg-type]


def _is_depthwise(x: torch.Tensor, weight: torch.Tensor, groups: int) -> bool:
    return x.ndim == 4 and 1 < groups == x.shape[1] == weight.shape[0]


def _has_gradient_in_fp32(x: torch.Tensor, weight: torch.Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and weight.requires_grad
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


class _SmallDepthwise(torch.autograd.Function):
    """conv2d with groups = channels; backward as oneDNN does it but for the weights."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, 1, x.shape[1])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        of_input = None
        if ctx.needs_input_grad[0]:
            of_input = torch.ops.aten.convolution_backward(
                grad,
                x,
                weight,
                None,
                ctx.stride,
                ctx.padding,
                (1, 1),
                False,
                (0, 0),
                x.shape[1],
                (True, False, False),
            )[0]
        of_weight = weight_gradient(x, grad, weight.shape[2:], ctx.stride, ctx.padding)
        return of_input, of_weight, None, None


def weight_gradient(
    x: torch.Tensor,
    grad: torch.Tensor,
    kernel: torch.Size,
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> torch.Tensor:
    """Compute the gradient (C, 1, K, L) of the weights of a depthwise convolution.

    x: (B, C, H, W); grad: (B, C, P, Q) of the output. A weight's gradient is the product of the
    outputs with the inputs that it joined them to, summed; weights that only ever met the padding
    cost nothing.
    """
    pixels, of_output = x.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1)  # channels last: C in a row
    found = x.new_zeros(*kernel, x.shape[1])
    for k in range(kernel[0]):
        rows_in, rows_out = _joined(x.shape[2], grad.shape[2], k - padding[0], stride[0])
        for m in range(kernel[1]):
            columns_in, columns_out = _joined(x.shape[3], grad.shape[3], m - padding[1], stride[1])
            joined = pixels[:, rows_in, columns_in] * of_output[:, rows_out, columns_out]
            found[k, m] = joined.sum(dim=(0, 1, 2))
    return found.permute(2, 0, 1).unsqueeze(1)


def _joined(n: int, n_out: int, offset: int, stride: int) -> tuple[slice, slice]:
    """Inputs and outputs of one axis that a weight joins: input = output * stride + offset."""
    first = max(0, -(offset // stride))
    last = min(n_out - 1, (n - 1 - offset) // stride)
    if last < first:
        return slice(0, 0), slice(0, 0)
    return (
        slice(first * stride + offset, last * stride + offset + 1, stride),
        slice(first, last + 1),
    )


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    first, *rest = value
    return (first, rest[0]) if rest else (first, first)
