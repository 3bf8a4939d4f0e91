"""Cut a vision transformer to its class token: its last block computes only that.

Keys and values of the last block still come from all tokens, but its query, projection and MLP are
needed for the class token alone. That is the same result for some 7 % less work in 12 blocks.
"""

from timm.layers.attention import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional


def without_unused_tokens(network: nn.Module) -> nn.Module:
    """Return the same function (B, 3, S, S) → (B, D), cheaper where it is such a transformer.

    Other networks are returned as they are. The weights are shared, not copied.
    """
    if type(network) is not VisionTransformer or network.global_pool != "token":
        return network
    last = network.blocks[-1]
    if network.attn_pool is not None or type(last) is not Block:
        return network
    if type(last.attn) is not Attention or last.attn.gate is not None:
        return network
    return _ClassTokenOnly(network, last, last.attn)


class _ClassTokenOnly(nn.Module):
    """Inference only: drop-out and drop-path are left out."""

    def __init__(self, network: VisionTransformer, last: Block, attention: Attention):
        super().__init__()
        self.network, self.last, self.attention = network, last, attention

    def forward(self, images: Tensor) -> Tensor:
        network = self.network
        x = network.patch_embed(images)
        x = network.norm_pre(network._pos_embed(x))
        for block in network.blocks[:-1]:
            x = block(x)
        last = self.last
        x = x[:, :1] + last.ls1(_attend(self.attention, last.norm1(x)))
        x = x + last.ls2(last.mlp(last.norm2(x)))
        return network.forward_head(network.norm(x))


def _attend(attention: Attention, x: Tensor) -> Tensor:
    """Self-attention (B, N, D) → (B, 1, D) with the first token as the only query."""
    dim, heads = attention.attn_dim, attention.num_heads
    weight, bias = attention.qkv.weight, attention.qkv.bias
    query = functional.linear(x[:, :1], weight[:dim], None if bias is None else bias[:dim])
    others = functional.linear(x, weight[dim:], None if bias is None else bias[dim:])
    query = query.unflatten(-1, (heads, -1)).transpose(1, 2)
    key, value = others.unflatten(-1, (2, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    found = functional.scaled_dot_product_attention(
        attention.q_norm(query), attention.k_norm(key), value
    )
    return attention.proj(attention.norm(found.transpose(1, 2).flatten(2)))
