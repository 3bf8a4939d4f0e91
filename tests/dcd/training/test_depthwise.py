"""Depthwise weight gradients: those of torch, in every geometry, and only where that is faster."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dcd.training.depthwise import _SmallDepthwise, fast_depthwise_gradients, weight_gradient


def _maps(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@settings(deadline=None)
@given(
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
def test_gradient_is_that_of_torch(height, width, kernel, stride, padding):
    x = _maps(3, 4, height, width)
    assume(height + 2 * padding[0] >= kernel[0] and width + 2 * padding[1] >= kernel[1])
    weight = torch.zeros(4, 1, *kernel, dtype=torch.float64, requires_grad=True)
    y = F.conv2d(x, weight, None, stride, padding, 1, 4)
    grad = _maps(*y.shape)
    (expected,) = torch.autograd.grad(y, weight, grad)
    found = weight_gradient(x, grad, weight.shape[2:], stride, padding)
    torch.testing.assert_close(found, expected)


def _gradients(x: torch.Tensor, layer: torch.nn.Conv2d) -> tuple[torch.Tensor, ...]:
    x = x.clone().requires_grad_()
    y = layer(x)
    return torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])


def _is_intercepted(x: torch.Tensor, layer: torch.nn.Module) -> bool:
    with fast_depthwise_gradients():
        y = layer(x)
    return _SmallDepthwise.__name__ in type(y.grad_fn).__name__


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_layer_gets_the_same_gradients(stride, memory_format):
    layer = torch.nn.Conv2d(8, 8, 5, stride, padding=2, groups=8, bias=False)
    x = torch.randn(4, 8, 4, 4).contiguous(memory_format=memory_format)
    assert _is_intercepted(x, layer)
    expected = _gradients(x, layer)
    with fast_depthwise_gradients():
        found = _gradients(x, layer)
    for ours, torchs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, torchs)


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (torch.nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False), 8),  # larger than the kernel
        (torch.nn.Conv2d(8, 8, 5, padding=2, groups=4, bias=False), 4),  # grouped, not depthwise
        (torch.nn.Conv2d(8, 16, 5, padding=2, groups=8, bias=False), 4),  # two outputs a channel
        (torch.nn.Conv2d(8, 8, 5, padding=2, groups=8), 4),  # with a bias
        (torch.nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8, bias=False), 2),
        (torch.nn.Conv2d(8, 8, 5, padding="same", groups=8, bias=False), 4),
        (torch.nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False).double(), 4),
    ],
)
def test_other_convolutions_are_left_to_torch(layer, size):
    x = torch.randn(2, 8, size, size, dtype=layer.weight.dtype)
    assert not _is_intercepted(x, layer)
    with fast_depthwise_gradients():
        assert torch.equal(layer(x), layer.eval()(x))


def test_bf16_is_left_to_torch():
    layer = torch.nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False)
    with torch.autocast("cpu", torch.bfloat16):
        assert not _is_intercepted(torch.randn(2, 8, 4, 4), layer)


def test_nothing_is_changed_after_the_block():
    layer = torch.nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False)
    x = torch.randn(2, 8, 4, 4)
    with fast_depthwise_gradients():
        layer(x)
    assert _SmallDepthwise.__name__ not in type(layer(x).grad_fn).__name__
