from typing import Any

import pytest
import timm
import torch

from dcd.encoders.class_token import without_unused_tokens

SMALL: dict[str, Any] = {"img_size": 32, "depth": 2, "embed_dim": 48, "num_heads": 3}


def network(name: str, **options: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    made = timm.create_model(name, pretrained=False, num_classes=0, **{**SMALL, **options}).eval()
    for parameter in made.parameters():  # what starts at zero or one would hide a mistake
        torch.nn.init.normal_(parameter, std=0.2)
    return made


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_small_patch16_224.dino", {}),
        ("vit_small_patch16_224.dino", {"qkv_bias": False, "qk_norm": True}),
        ("vit_small_patch14_dinov2", {"img_size": 28}),  # layer scale
        ("vit_small_patch14_reg4_dinov2", {"img_size": 28}),  # register tokens
        ("vit_base_patch32_clip_224", {}),  # a norm before the blocks
    ],
)
def test_the_embedding_stays_the_same(name: str, options: dict[str, Any]):
    whole = network(name, **options)
    lean = without_unused_tokens(whole)
    assert lean is not whole
    images = torch.randn(3, 3, options.get("img_size", 32), options.get("img_size", 32))
    with torch.no_grad():
        torch.testing.assert_close(lean(images), whole(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "vit_small_patch16_224"])
def test_other_networks_are_left_alone(name: str):
    options: dict[str, Any] = {"global_pool": "avg"} if name.startswith("vit") else {}
    made = timm.create_model(name, pretrained=False, num_classes=0, **options)
    assert without_unused_tokens(made) is made
