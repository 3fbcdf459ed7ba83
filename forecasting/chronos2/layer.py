"""What the rebuilt Chronos-2 is made of: its matrices, one encoder layer and the layer's parts.

B windows, T tokens, d width. h [B, T, d] is the state of the tokens, x a layer's normed state, y an
output; q, k and v are queries, keys and values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from forecasting.chronos2.attention import (
    attended,
    attended_in_one_program,
    fits_one_program,
    rotated,
)


@dataclass(frozen=True, slots=True)
class Form:
    """How matrices are kept.

    dtype: of their numbers.
    device: where they lie.
    packed: whether they are packed for oneDNN.
    """

    dtype: torch.dtype
    device: torch.device
    packed: bool


class Linear(nn.Module):
    """x @ weight.T + bias, then relu or the sum with a residual."""

    # torch multiplies float32 on a CPU with MKL, which leaves half of an AMD core's width unused.
    # oneDNN, which `torch.compile` calls there, does not: its operators are called directly, with
    # weights packed once.

    weight: Tensor
    bias: Tensor | None

    if TYPE_CHECKING:

        def __call__(
            self, x: Tensor, *, relu: bool = False, residual: Tensor | None = None
        ) -> Tensor:
            """What `forward` answers."""

    def __init__(self, weight: Tensor, bias: Tensor | None, form: Form) -> None:
        super().__init__()
        weight = weight.detach().to(form.device, form.dtype).contiguous()
        self.packed = form.packed
        if self.packed:
            weight = torch.ops.mkldnn._reorder_linear_weight(weight)
        if bias is not None:
            bias = bias.detach().to(form.device, form.dtype)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor, *, relu: bool = False, residual: Tensor | None = None) -> Tensor:
        """[…, in] → […, out]."""
        y: Tensor
        if self.packed and residual is not None:
            y = torch.ops.mkldnn._linear_pointwise.binary(
                x, residual, self.weight, self.bias, "add"
            )
            return y
        if self.packed:
            y = torch.ops.mkldnn._linear_pointwise(
                x, self.weight, self.bias, "relu" if relu else "none", [], ""
            )
            return y
        if relu:
            # The product's kernel cuts off what is negative before it writes.
            assert self.bias is not None
            y = torch._addmm_activation(self.bias, x.flatten(0, -2), self.weight.T)
            return y.view(*x.shape[:-1], -1)
        y = functional.linear(x, self.weight, self.bias)
        return y if residual is None else y + residual


class Layer(nn.Module):
    """One encoder layer: attention over time, attention within the group, feed-forward.

    The gains of its norms are folded into the matrices behind them.
    """

    def __init__(self, block: Any, form: Form) -> None:
        super().__init__()
        time, group, forward = block.layer
        attention = time.self_attention
        self.heads = attention.n_heads
        self.width = attention.kv_proj_dim
        self.activation = forward.mlp.act
        self.relu = isinstance(self.activation, nn.ReLU)

        def linear(weight: Tensor, gain: Tensor | None = None) -> Linear:
            return Linear(weight if gain is None else weight * gain, None, form)

        def activated(weight: Tensor, gain: Tensor) -> Linear:
            bias = None if form.packed else torch.zeros(len(weight))
            return Linear(weight * gain, bias, form)

        # The library rotates the first half of a head's width against the second. On a CPU rows of
        # queries and keys are put side by side instead, because neighbours rotate as one complex
        # number; their products stay the same.
        pairs = torch.arange(self.heads * self.width)
        if form.packed:
            pairs = pairs.view(self.heads, 2, self.width // 2).mT.reshape(-1)
        # Matrices are folded in float64 and rounded once.
        gain = time.layer_norm.weight.double()
        query = attention.q.weight.double()
        key = attention.k.weight.double()
        value = attention.v.weight.double()
        self.qkv = linear(torch.cat([query[pairs], key[pairs], value]), gain)
        self.query = linear(query[pairs], gain)
        self.key_value = linear(torch.cat([key[pairs], value]), gain)
        self.out = linear(attention.o.weight)
        attention = group.self_attention
        gain = group.layer_norm.weight.double()
        query = attention.q.weight.double()
        key = attention.k.weight.double()
        value = attention.v.weight.double()
        # A series that attends to itself alone has a weight of one on its own value.
        self.alone = linear(attention.o.weight.double() @ value, gain)
        self.group_qkv = linear(torch.cat([query, key, value]), gain)
        self.group_out = linear(attention.o.weight)
        self.wide = activated(forward.mlp.wi.weight.double(), forward.layer_norm.weight.double())
        self.narrow = linear(forward.mlp.wo.weight)

    def forward(self, h: Tensor, turn: Tensor, first: int, group: int, epsilon: float) -> Tensor:
        """h [B, T, d] → [B, T - first, d]: the tokens from `first` on, after attending to all.

        turn: rotation of each token, see `rotated`.
        group: consecutive rows that attend to each other.
        epsilon: added to a mean square before its root.
        """
        batch, tokens, _ = h.shape
        split = (self.heads, self.width)
        x = normed(h, epsilon)
        if first:
            q = self.query(x[:, first:].contiguous()).view(batch, tokens - first, *split)
            k, v = self.key_value(x).view(batch, tokens, 2, *split).unbind(2)
        else:
            q, k, v = self.qkv(x).view(batch, tokens, 3, *split).unbind(2)
        if fits_one_program(q, k):
            mixed = attended_in_one_program(q, k, v, turn)
        else:
            mixed = attended(rotated(q, turn[first:]), rotated(k, turn), v)
        h = self.out(mixed, residual=h[:, first:])
        h = self._within_groups(h, group, epsilon)
        x = self.wide(normed(h, epsilon), relu=self.relu)
        return self.narrow(x if self.relu else self.activation(x), residual=h)

    def _within_groups(self, h: Tensor, group: int, epsilon: float) -> Tensor:
        """Attention between the series of one group, token by token; h [B, T, d]."""
        x = normed(h, epsilon)
        if group == 1:
            return self.alone(x, residual=h)
        batch, tokens, _ = h.shape
        blocks = batch // group
        qkv = self.group_qkv(x).view(blocks, group, tokens, 3, self.heads, self.width)
        # Every token of a block of series is a batch of its own, of `group` tokens.
        qkv = qkv.transpose(1, 2).reshape(blocks * tokens, group, 3, self.heads, self.width)
        q, k, v = qkv.unbind(2)
        mixed = attended(q, k, v).view(blocks, tokens, group, -1)
        mixed = mixed.transpose(1, 2).reshape(batch, tokens, -1)
        return self.group_out(mixed, residual=h)


def normed(h: Tensor, epsilon: float) -> Tensor:
    """h over its root mean square along the width, computed in float32."""
    length = torch.linalg.vector_norm(h, dim=-1, keepdim=True, dtype=torch.float32)
    mean_square = length.square() / h.shape[-1]
    scaled: Tensor = h * (mean_square + epsilon).rsqrt()
    return scaled.to(h.dtype)
