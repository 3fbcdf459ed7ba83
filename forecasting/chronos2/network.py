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
Q levels, H steps. h [B, T, d] is the state of the tokens, x a layer's normed state, y an output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from forecasting.chronos2.layer import Form, Layer, Linear, normed
from forecasting.chronos2.profile import Dtype

if TYPE_CHECKING:
    from chronos.chronos2.model import Chronos2Model

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
ZERO_DEVIATION = 1e-5  # stands for a deviation of zero, as in the library's InstanceNorm

RunLayer = Callable[..., Tensor]  # a layer and what its `forward` takes → what that answers


def run_layer(layer: Layer, *arguments: object) -> Tensor:
    """What a layer answers: the one function of a network that is worth compiling."""
    y: Tensor = layer(*arguments)
    return y


class Network(nn.Module):
    """A `Chronos2Model` rebuilt for batches of windows; answers what the library's model answers.

    model: the library's, with its weights.
    steps: H, always the same number, because another one changes what step 1 answers.
    levels: rows of the model's quantiles to give back, in rising order of level.
    dtype: of matrices and states; tf32 is fp32 here, and for whoever multiplies to allow.
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

    def forward(self, context: Tensor, *, group: int = 1, run: RunLayer = run_layer) -> Tensor:
        """Sorted quantiles [B, H, Q] float32 of contexts [B, L] float32.

        context: bars that end with the issuing one, none missing.
        group: consecutive rows that attend to each other.
        run: computes a layer; `run_layer`, or what it is compiled to.
        """
        located, loc, scale = standardised(context)
        batch, length = located.shape
        patches = math.ceil(length / self.patch)
        x = torch.arcsinh(located) if self.arcsinh else located
        x = functional.pad(x.to(self.dtype), (patches * self.patch - length, 0), value=math.nan)
        x = x.view(batch, patches, self.patch)
        observed = ~x.isnan()
        time = torch.arange(-patches * self.patch, 0, device=x.device) / self.time_scale
        time = time.to(self.dtype).view(1, patches, self.patch).expand(batch, -1, -1)
        values = torch.where(observed, x, 0.0)
        features = torch.cat([time, values, observed.to(self.dtype)], dim=-1)  # [B, T, 3P]
        tail = self.tail.expand(batch, -1, -1)
        h = torch.cat([self._embedded(features), tail], dim=1)
        turn = self._turn(h)
        for layer in self.layers[:-1]:
            h = run(layer, h, turn, 0, group, self.epsilon)
        # Of the last layer only the future patches are read: [B, future patches, d].
        h = run(self.layers[-1], h, turn, patches + 1, group, self.epsilon)
        x = normed(h, self.epsilon)
        hidden = self.head(x, relu=self.relu)
        if not self.relu:
            hidden = self.activation(hidden)
        y = self.head_out(hidden, residual=self.head_skip(x))
        y = y.view(batch, self.future_patches * self.patch, self.levels)[:, : self.steps].float()
        y = torch.sinh(y) if self.arcsinh else y
        return (y * scale[..., None] + loc[..., None]).sort(dim=-1).values

    def _embedded(self, features: Tensor) -> Tensor:
        """Tokens [B, T, d] of times, values and whether they are observed, [B, T, 3P]."""
        projected = self.embed(features)
        hidden = projected[..., : self.embed_width]
        skip = projected[..., self.embed_width :]
        hidden = functional.relu(hidden) if self.relu else self.activation(hidden)
        return self.embed_out(hidden, residual=skip)

    def _turn(self, h: Tensor) -> Tensor:
        """Rotation of each token as `rotated` reads it: complex where oneDNN multiplies."""
        # One complex product is the quickest on a CPU, but compilers generate no code for it.
        angle = torch.arange(h.shape[1], device=h.device)[:, None] * self.frequency
        if self.packed:
            return torch.polar(torch.ones_like(angle), angle)
        return torch.stack([angle.cos(), angle.sin()], dim=1).to(self.dtype)


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
