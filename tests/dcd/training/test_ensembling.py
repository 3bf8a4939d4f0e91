import numpy as np
import pytest
import timm
import torch
from torch import nn

from dcd.errors import EncoderError
from dcd.images.decode import decode
from dcd.training.ensembling import (
    CurvePoint,
    choose,
    ensemble,
    interpolate,
    interpolation_curve,
    recompute_batchnorm,
)
from tests.dcd.selection.striped_images import PREPROCESS, striped_images, tiny_network, weights_of


def _other_network() -> nn.Module:
    network = tiny_network()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network


def _keep(_: nn.Module) -> None:
    """Leave BatchNorm alone."""


def test_the_ends_are_the_two_networks_with_statistics_like_all_others():
    before, after = tiny_network(), _other_network()
    assert weights_of(ensemble(before, after, 0.0, _keep)) == weights_of(before)
    assert weights_of(ensemble(before, after, 1.0, _keep)) == weights_of(after)
    recomputed: list[nn.Module] = []
    curve_of = {"val": lambda net: float(recomputed[-1] is net)}
    curve = interpolation_curve(before, after, recomputed.append, curve_of)
    assert [point.accuracy["val"] for point in curve] == [1.0] * len(curve)


def test_weights_lie_on_the_line_between():
    before, after = tiny_network(), _other_network()
    middle = interpolate(before, after, 0.25)
    for name, tensor in middle.named_parameters():
        expected = 0.75 * before.get_parameter(name) + 0.25 * after.get_parameter(name)
        torch.testing.assert_close(tensor, expected)


def test_networks_of_other_structure_are_refused():
    other = timm.create_model("test_resnet", num_classes=3)
    with pytest.raises(EncoderError, match=r"differ in structure at .*fc"):
        interpolate(tiny_network(), other, 0.5)


def test_recomputed_statistics_are_those_of_the_activations():
    images, _ = striped_images(64)
    network = tiny_network()
    before = weights_of(network)
    recompute_batchnorm(network, images, PREPROCESS, batch_size=16)
    assert weights_of(network) != before
    assert not network.training

    first, seen = network.conv1[1], []
    first.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    pixels = np.stack([decode(image) for image in images]).astype(np.float32)
    with torch.inference_mode():
        network((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5)
    mean = seen[0].mean(dim=(0, 2, 3))
    torch.testing.assert_close(first.running_mean, mean, atol=1e-4, rtol=1e-3)
    assert first.momentum == 0.1


def test_a_network_without_batchnorm_is_left_alone():
    network = timm.create_model("test_vit", img_size=32)  # pyright: ignore
    before = weights_of(network)
    recompute_batchnorm(network, striped_images(4)[0], PREPROCESS)
    assert weights_of(network) == before


def test_the_curve_has_every_alpha_and_split():
    curve = interpolation_curve(
        tiny_network(),
        _other_network(),
        _keep,
        {"val": lambda net: net.get_parameter("fc.bias")[0].item(), "test": lambda net: 1.0},
        alphas=(0.0, 0.5, 1.0),
    )
    assert [point.alpha for point in curve] == [0.0, 0.5, 1.0]
    values = [point.accuracy["val"] for point in curve]
    assert values[1] == pytest.approx((values[0] + values[2]) / 2, abs=1e-6)
    assert {point.accuracy["test"] for point in curve} == {1.0}


def _curve(*points: tuple[float, float, float]) -> list[CurvePoint]:
    return [CurvePoint(a, {"val": v, "debug_val": d}) for a, v, d in points]


def test_alpha_is_the_best_on_debug_val_that_keeps_val():
    curve = _curve((0, 0.70, 0.50), (0.3, 0.71, 0.60), (0.6, 0.70, 0.65), (1, 0.66, 0.80))
    assert choose(curve, "val", "debug_val").alpha == 0.6
    assert choose(curve, "val", "debug_val", margin=0.05).alpha == 1


def test_an_original_that_was_trained_on_val_is_no_measure_of_it():
    curve = _curve((0, 0.99, 0.50), (0.4, 0.72, 0.70), (0.7, 0.70, 0.85), (1, 0.71, 0.80))
    assert choose(curve, "val", "debug_val").alpha == 0
    assert choose(curve, "val", "debug_val", rival=1.0).alpha == 1
    easier = _curve((0, 0.99, 0.50), (0.4, 0.72, 0.82), (1, 0.71, 0.80))
    assert choose(easier, "val", "debug_val", rival=1.0).alpha == 0.4


def test_nothing_kept_is_the_original_and_ties_go_to_it():
    curve = _curve((0, 0.70, 0.50), (0.5, 0.60, 0.90), (1, 0.50, 0.90))
    assert choose(curve, "val", "debug_val").alpha == 0
    tied = _curve((0, 0.70, 0.50), (0.5, 0.70, 0.60), (1, 0.70, 0.60))
    assert choose(tied, "val", "debug_val").alpha == 0.5
