"""Chronos-2's forward pass as plain tensor code: the library's numbers with less work.

What a batch of windows does not need is left out, and what does not depend on the series is
computed once:

- a series that is its own group attends to itself alone, so group attention is o(v(norm(h))): one
  matrix. Series in groups of g attend within blocks of g; the library masks a B × B matrix for
  both;
- the gain of a norm is a factor of the matrix behind it;
- tokens of the future (time, nothing observed) and the register token are embedded once;
- in the last layer only the future's tokens go on.

B windows, L bars, P bars a patch, T tokens = context patches + register + future patches, d width,
Q levels, H steps. h [B, T, d] is the state of the tokens, x a layer's normed state, y an output; q,
k and v are queries, keys and values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from forecasting.chronos2.profile import Dtype

if TYPE_CHECKING:
    from chronos.chronos2.model import Chronos2Model

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
ZERO_DEVIATION = 1e-5  # stands for a deviation of zero, as in the library's InstanceNorm


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
        y = functional.linear(x, self.weight, self.bias)
        if residual is not None:
            return y + residual
        return functional.relu(y) if relu else y


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

        # The library rotates the first half of a head's width against the second. Rows of queries
        # and keys are put side by side instead, because neighbours rotate as one complex number;
        # their products stay the same.
        rows = torch.arange(self.heads * self.width)
        pairs = rows.view(self.heads, 2, self.width // 2).mT.reshape(-1)
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
        self.wide = linear(forward.mlp.wi.weight.double(), forward.layer_norm.weight.double())
        self.narrow = linear(forward.mlp.wo.weight)

    def forward(
        self,
        h: Tensor,
        turn: Tensor,
        first: int,
        group: int,
        padding: Tensor | None,
        epsilon: float,
    ) -> Tensor:
        """h [B, T, d] → [B, T - first, d]: the tokens from `first` on, after attending to all.

        Parameters
        ----------
        turn
            rotation of each token, see `rotated`.
        group
            consecutive rows that attend to each other.
        padding
            additive mask [B, T], lowest where a token is padding; none where nothing is.
        epsilon
            added to a mean square before its root.
        """
        batch, tokens, _ = h.shape
        split = (self.heads, self.width)
        x = normed(h, epsilon)
        if first:
            kv = self.key_value(x).view(batch, tokens, 2, *split)
            q = self.query(x[:, first:]).view(batch, tokens - first, *split)
            k = kv[:, :, 0]
            v = kv[:, :, 1]
            q = rotated(q, turn[first:, None])
            k = rotated(k, turn[:, None])
        else:
            qkv = self.qkv(x).view(batch, tokens, 3, *split)
            qk = rotated(qkv[:, :, :2], turn[:, None, None])
            q = qk[:, :, 0]
            k = qk[:, :, 1]
            v = qkv[:, :, 2]
        mask = None if padding is None else padding[:, None, None]
        h = self.out(attended(q, k, v, mask), residual=h[:, first:])
        h = self._within_groups(h, group, None if padding is None else padding[:, first:], epsilon)
        x = self.wide(normed(h, epsilon), relu=self.relu)
        return self.narrow(x if self.relu else self.activation(x), residual=h)

    def _within_groups(
        self, h: Tensor, group: int, padding: Tensor | None, epsilon: float
    ) -> Tensor:
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
        mask = None
        if padding is not None:
            mask = padding.view(blocks, group, tokens).mT.reshape(blocks * tokens, 1, 1, group)
        mixed = attended(q, k, v, mask).view(blocks, tokens, group, -1)
        mixed = mixed.transpose(1, 2).reshape(batch, tokens, -1)
        return self.group_out(mixed, residual=h)


class Network(nn.Module):
    """A `Chronos2Model` rebuilt for batches of windows; answers what the library's model answers.

    model: the library's, with its weights.
    steps: H, always the same number, because another one changes what step 1 answers.
    levels: rows of the model's quantiles to give back, in rising order of level.
    dtype: fp32 or bf16, of matrices and states.
    device: where it computes.
    packed: whether matrices may be packed for oneDNN; they are for float32 on a CPU.
    """

    tail: Tensor
    frequency: Tensor

    def __init__(
        self,
        model: Chronos2Model,
        steps: int,
        levels: Sequence[int],
        dtype: Dtype,
        device: torch.device,
        *,
        packed: bool,
    ) -> None:
        super().__init__()
        onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        packed = packed and dtype == "fp32" and device.type == "cpu" and onednn
        form = Form(DTYPES[dtype], device, packed)
        config = model.chronos_config
        self.patch = config.input_patch_size
        self.steps = steps
        self.arcsinh = config.use_arcsinh
        self.future_patches = math.ceil(steps / self.patch)
        self.epsilon = model.config.layer_norm_epsilon
        self.dtype = form.dtype
        self.packed = packed
        self.time_scale = float(config.time_encoding_scale)
        self.levels = len(levels)
        embed = model.input_patch_embedding
        final = model.output_patch_embedding
        self.activation = embed.act
        self.relu = isinstance(embed.act, nn.ReLU)
        with torch.no_grad():
            # Hidden and residual layers read the same input: one matrix computes both.
            weight = torch.cat([embed.hidden_layer.weight, embed.residual_layer.weight])
            skip_bias = embed.residual_layer.bias + embed.output_layer.bias
            self.embed_width = embed.hidden_layer.out_features
            self.embed = Linear(weight, torch.cat([embed.hidden_layer.bias, skip_bias]), form)
            self.embed_out = Linear(embed.output_layer.weight, None, form)
            blocks = model.encoder.block
            self.layers = nn.ModuleList(Layer(block, form) for block in blocks)
            gain = model.encoder.final_layer_norm.weight.double()
            # The model answers [Q, P] of a patch: its rows are read in the order [P, Q].
            rows = torch.tensor(levels)[:, None] * self.patch + torch.arange(self.patch)
            rows = rows.T.reshape(-1)
            hidden = final.hidden_layer
            self.head = Linear(hidden.weight.double() * gain, hidden.bias, form)
            self.head_out = Linear(final.output_layer.weight[rows], None, form)
            bias = (final.residual_layer.bias + final.output_layer.bias)[rows]
            self.head_skip = Linear(final.residual_layer.weight.double()[rows] * gain, bias, form)
            tail = _tail(model, self.future_patches)
        frequency = blocks[0].layer[0].self_attention.rope_embed.inv_freq
        self.register_buffer("tail", tail.to(device, form.dtype))
        self.register_buffer("frequency", frequency.to(device, torch.float32))

    def forward(self, context: Tensor, *, group: int = 1, complete: bool = False) -> Tensor:
        """Sorted quantiles [B, H, Q] float32 of contexts [B, L] float32.

        Parameters
        ----------
        context
            bars that end with the issuing one; NaN is a bar that is not there.
        group
            consecutive rows that attend to each other; a row without any bar stands for no member.
        complete
            promises that no context holds NaN, which saves the masks.
        """
        located, loc, scale = standardised(context)
        return in_prices(self.in_deviations(located, group=group, complete=complete), loc, scale)

    def in_deviations(self, located: Tensor, *, group: int = 1, complete: bool = False) -> Tensor:
        """Quantiles [B, H, Q] of standardised contexts [B, L], in deviations, not sorted.

        Leading NaN beyond what fills a patch changes them by rounding, where `complete` is not
        promised.
        """
        return self.ahead(located, self.tail.expand(len(located), -1, -1), group, complete)

    def ahead(self, located: Tensor, tail: Tensor, group: int, complete: bool) -> Tensor:
        """What `in_deviations` answers, with the tokens [B, 1 + future, d] behind the contexts."""
        batch, length = located.shape
        patches = math.ceil(length / self.patch)
        x = torch.arcsinh(located) if self.arcsinh else located
        x = functional.pad(x.to(self.dtype), (patches * self.patch - length, 0), value=math.nan)
        x = x.view(batch, patches, self.patch)
        observed = ~x.isnan()
        padding = None if complete else self._padding_mask(observed)
        time = torch.arange(-patches * self.patch, 0, device=x.device) / self.time_scale
        time = time.to(self.dtype).view(1, patches, self.patch).expand(batch, -1, -1)
        values = torch.where(observed, x, 0.0)
        features = torch.cat([time, values, observed.to(self.dtype)], dim=-1)  # [B, T, 3P]
        h = torch.cat([self.embedded(features), tail], dim=1)
        turn = self._turn(h)
        for layer in self.layers[:-1]:
            h = layer(h, turn, 0, group, padding, self.epsilon)
        # Of the last layer only the future patches are read: [B, future patches, d].
        h = self.layers[-1](h, turn, patches + 1, group, padding, self.epsilon)
        x = normed(h, self.epsilon)
        hidden = self.head(x, relu=self.relu)
        if not self.relu:
            hidden = self.activation(hidden)
        y = self.head_out(hidden, residual=self.head_skip(x))
        y = y.view(batch, self.future_patches * self.patch, self.levels)[:, : self.steps].float()
        return torch.sinh(y) if self.arcsinh else y

    def embedded(self, features: Tensor) -> Tensor:
        """Tokens [B, T, d] of times, values and whether they are observed, [B, T, 3P]."""
        projected = self.embed(features)
        hidden = projected[..., : self.embed_width]
        skip = projected[..., self.embed_width :]
        hidden = functional.relu(hidden) if self.relu else self.activation(hidden)
        return self.embed_out(hidden, residual=skip)

    def _padding_mask(self, observed: Tensor) -> Tensor:
        """Additive mask [B, T]: padding is not attended to, nor anything of a row without a bar."""
        patches = observed.any(dim=-1)
        member = patches.any(dim=-1, keepdim=True)
        tokens = torch.cat([patches, member.expand(-1, 1 + self.future_patches)], dim=1)
        return torch.where(tokens, 0.0, torch.finfo(self.dtype).min).to(self.dtype)

    def _turn(self, h: Tensor) -> Tensor:
        """Rotation of each token: complex [T, width/2], or (cosine, sine) [T, width/2, 2].

        It is complex where oneDNN multiplies.
        """
        # One complex product is the quickest on a CPU, but compilers generate no code for it.
        angle = torch.arange(h.shape[1], device=h.device)[:, None] * self.frequency
        if self.packed:
            return torch.polar(torch.ones_like(angle), angle)
        return torch.stack([angle.cos(), angle.sin()], dim=-1).to(self.dtype)


def _tail(model: Chronos2Model, future_patches: int) -> Tensor:
    """Tokens behind the context, [1, 1 + future patches, d]: they do not depend on the series."""
    future, _ = model._prepare_patched_future(None, None, None, future_patches, 1)
    register_id = torch.tensor([[model.config.reg_token_id]], device=model.device)
    register = model.shared(register_id)
    return torch.cat([register, model.input_patch_embedding(future)], dim=1)


def standardised(context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(context - mean) / deviation [B, L], mean [B, 1] and population deviation [B, 1], float32.

    Mean and deviation are those of what is not NaN.
    """
    loc = torch.nan_to_num(context.nanmean(dim=-1, keepdim=True), nan=0.0)
    scale = torch.nan_to_num((context - loc).square().nanmean(dim=-1, keepdim=True).sqrt(), nan=1.0)
    scale = torch.where(scale == 0, ZERO_DEVIATION, scale)
    return (context - loc) / scale, loc, scale


def in_prices(y: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Sorted quantiles [B, H, Q] in USD of those in deviations [B, H, Q] from means [B, 1]."""
    return (y * scale[..., None] + loc[..., None]).sort(dim=-1).values


def normed(h: Tensor, epsilon: float) -> Tensor:
    """h over its root mean square along the width, computed in float32."""
    length = torch.linalg.vector_norm(h, dim=-1, keepdim=True, dtype=torch.float32)
    mean_square = length.square() / h.shape[-1]
    scaled: Tensor = h * (mean_square + epsilon).rsqrt()
    return scaled.to(h.dtype)


def rotated(x: Tensor, turn: Tensor) -> Tensor:
    """Rotary positions [T, …, width/2] on neighbouring pairs of x [B, T, …, heads, width]."""
    pairs = x.view(*x.shape[:-1], -1, 2)
    if turn.is_complex():
        return torch.view_as_real(torch.view_as_complex(pairs) * turn).flatten(-2)
    cosine, sine = turn.unbind(-1)
    first, second = pairs.unbind(-1)
    turned = [first * cosine - second * sine, second * cosine + first * sine]
    return torch.stack(turned, dim=-1).flatten(-2)


def attended(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k + mask) v of [B, T, heads, width], heads side by side: [B, T, heads * width]."""
    # Chronos-2 scales by one, not by the root of the width.
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
    return mixed.transpose(1, 2).flatten(-2)
