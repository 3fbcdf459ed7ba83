"""Chronos-2's forward pass as plain tensor code: the library's results with less computation.

Computation that is not needed for a batch of windows is skipped, and computation that does not
depend on the series is done once:

- a series that is its own group attends to itself only, so that group attention is o(v(norm(h))):
    one matrix. Series in groups of g attend within blocks of g. The library masks a B × B matrix in
    both cases;
- the gain of a norm is folded into the next matrix;
- future tokens (time, nothing observed) and the register token are embedded once;
- in the last layer only the future tokens are computed.

On CUDA a compiled layer uses a custom attention kernel if there are few tokens, as by default (10
for 100 bars). The kernel runs one program for each window and head, which rotates queries and keys
as it reads them. The kernels of libraries are made for long sequences, and would spend most of
their work on padding.

Dimensions: B windows, L bars, P bars in a patch, T tokens = context patches + register + future
patches, U tokens that are attended to, width d, Q quantile levels, H steps. h [B, T, d] is the
state of the tokens, x a layer's normalised state, y an output. q, k and v [B, tokens, heads, width]
are queries, keys and values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from forecasting.chronos2.profile import Dtype

try:
    import triton
    from triton import language as tl
except ImportError:  # torch for CPUs has no Triton
    triton = None

if TYPE_CHECKING:
    from chronos.chronos2.model import Chronos2Model

TORCH_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
ZERO_DEVIATION_SUBSTITUTE = 1e-5  # replaces a deviation of zero, as in the library's InstanceNorm
MAX_GRID_BLOCKS = 65_535  # limit of a CUDA grid's second and third dimension
MAX_FUSED_TOKENS = 64  # maximum tokens of a window in one program of the attention kernel
FUSED_HEAD_WIDTHS = (32, 64, 128)  # head widths that the attention kernel supports

RunLayer = Callable[..., Tensor]  # a layer and the arguments of its `forward` → its result


def run_layer(layer: EncoderLayer, *arguments: object) -> Tensor:
    """Apply a layer to its arguments; this is the only function that `torch.compile` compiles."""
    y: Tensor = layer(*arguments)
    return y


class Network(nn.Module):
    """A `Chronos2Model` rebuilt to compute batches of windows faster, with the same results.

    model: the library's model, with its weights.
    steps: number of steps H; always the same, because another number would change the first step.
    levels: indices of the model's quantile levels to return, in increasing order of level.
    dtype: dtype of matrices and states; for tf32 they are fp32, and the caller enables TF32
        products.
    device: device of the computation.
    packed: true to pack float32 matrices for oneDNN if the device is a CPU.
    """

    future_tokens: Tensor
    rotary_frequencies: Tensor

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
        packed = packed and device.type == "cpu" and onednn
        form = MatrixFormat(TORCH_DTYPES[dtype], device, packed)
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
            self.layers = nn.ModuleList(EncoderLayer(block, form) for block in blocks)
            gain = model.encoder.final_layer_norm.weight.double()
            # The model returns [Q, P] of a patch: its rows are read in the order [P, Q].
            rows = torch.tensor(levels)[:, None] * self.patch + torch.arange(self.patch)
            rows = rows.T.reshape(-1)
            hidden = final.hidden_layer
            self.head = Linear(hidden.weight.double() * gain, hidden.bias, form)
            self.head_out = Linear(final.output_layer.weight[rows], None, form)
            bias = (final.residual_layer.bias + final.output_layer.bias)[rows]
            self.head_skip = Linear(final.residual_layer.weight.double()[rows] * gain, bias, form)
            tail = _build_future_tokens(model, self.future_patches)
        frequency = blocks[0].layer[0].self_attention.rope_embed.inv_freq
        self.register_buffer("future_tokens", tail.to(device, form.dtype))
        self.register_buffer("rotary_frequencies", frequency.to(device, torch.float32))

    def forward(self, context: Tensor, *, group: int = 1, run: RunLayer = run_layer) -> Tensor:
        """Return sorted quantiles [B, H, Q] float32 of contexts [B, L] float32.

        context: [B, L] closes up to the issuing bar, without missing values.
        group: number of consecutive contexts that attend to each other.
        run: function that applies a layer: `run_layer` or its compiled version.
        """
        located, loc, scale = standardise_contexts(context)
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
        tail = self.future_tokens.expand(batch, -1, -1)
        h = torch.cat([self._embed_tokens(features), tail], dim=1)
        turn = self._token_rotations(h)
        for layer in self.layers[:-1]:
            h = run(layer, h, turn, 0, group, self.epsilon)
        # Only the future patches of the last layer are used: [B, future patches, d].
        h = run(self.layers[-1], h, turn, patches + 1, group, self.epsilon)
        x = rms_normalise(h, self.epsilon)
        hidden = self.head(x, relu=self.relu)
        if not self.relu:
            hidden = self.activation(hidden)
        y = self.head_out(hidden, residual=self.head_skip(x))
        y = y.view(batch, self.future_patches * self.patch, self.levels)[:, : self.steps].float()
        y = torch.sinh(y) if self.arcsinh else y
        return (y * scale[..., None] + loc[..., None]).sort(dim=-1).values

    def _embed_tokens(self, features: Tensor) -> Tensor:
        """Return the tokens [B, T, d] of patches.

        features: [B, T, 3P] times, values and observed flags of the bars in each patch.
        """
        projected = self.embed(features)
        hidden = projected[..., : self.embed_width]
        skip = projected[..., self.embed_width :]
        hidden = functional.relu(hidden) if self.relu else self.activation(hidden)
        return self.embed_out(hidden, residual=skip)

    def _token_rotations(self, h: Tensor) -> Tensor:
        """Return each token's rotation, as an argument of `apply_rotary`.

        It is complex if matrices are packed, else it consists of cosine and sine.

        h: [B, T, d] state of the tokens.
        """
        # One complex product is fastest on a CPU, but compilers generate no code for it.
        angle = torch.arange(h.shape[1], device=h.device)[:, None] * self.rotary_frequencies
        if self.packed:
            return torch.polar(torch.ones_like(angle), angle)
        return torch.stack([angle.cos(), angle.sin()], dim=1).to(self.dtype)


def _build_future_tokens(model: Chronos2Model, future_patches: int) -> Tensor:
    """Return the register token and the future tokens, [1, 1 + future patches, d].

    They follow the context's tokens, and are the same for all series.
    """
    future, _ = model._prepare_patched_future(None, None, None, future_patches, 1)
    register_id = torch.tensor([[model.config.reg_token_id]], device=model.device)
    register = model.shared(register_id)
    return torch.cat([register, model.input_patch_embedding(future)], dim=1)


def standardise_contexts(context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Standardise contexts; return (context - mean) / deviation [B, L], mean and deviation [B, 1].

    Mean and population standard deviation ignore NaN.
    """
    loc = torch.nan_to_num(context.nanmean(dim=-1, keepdim=True), nan=0.0)
    scale = torch.nan_to_num((context - loc).square().nanmean(dim=-1, keepdim=True).sqrt(), nan=1.0)
    scale = torch.where(scale == 0, ZERO_DEVIATION_SUBSTITUTE, scale)
    return (context - loc) / scale, loc, scale


@dataclass(frozen=True, slots=True)
class MatrixFormat:
    """The storage format of weight matrices.

    dtype: dtype of the matrices.
    device: device of the matrices.
    is_packed: whether the matrices are packed for oneDNN.
    """

    dtype: torch.dtype
    device: torch.device
    is_packed: bool


class Linear(nn.Module):
    """A linear map x @ weight.T + bias, optionally followed by relu or the sum with a residual."""

    # torch multiplies float32 on a CPU with MKL, which leaves half of an AMD core's width unused.
    # oneDNN, which `torch.compile` calls there, does not: its operators are called directly, with
    # weights packed once.

    weight: Tensor
    bias: Tensor | None

    if TYPE_CHECKING:

        def __call__(
            self, x: Tensor, *, relu: bool = False, residual: Tensor | None = None
        ) -> Tensor:
            """Map […, in] to […, out]; calls `forward`."""

    def __init__(self, weight: Tensor, bias: Tensor | None, form: MatrixFormat) -> None:
        super().__init__()
        weight = weight.detach().to(form.device, form.dtype).contiguous()
        self.packed = form.is_packed
        if self.packed:
            weight = torch.ops.mkldnn._reorder_linear_weight(weight)
        if bias is not None:
            bias = bias.detach().to(form.device, form.dtype)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor, *, relu: bool = False, residual: Tensor | None = None) -> Tensor:
        """Apply the linear map to x, from […, in] to […, out].

        relu: true to apply a relu.
        residual: […, out] tensor that is added; None adds none.
        """
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
            # The product's kernel applies the relu before it writes.
            assert self.bias is not None
            y = torch._addmm_activation(self.bias, x.flatten(0, -2), self.weight.T)
            return y.view(*x.shape[:-1], -1)
        y = functional.linear(x, self.weight, self.bias)
        return y if residual is None else y + residual


class EncoderLayer(nn.Module):
    """One encoder layer: attention over time, attention within the group, feed-forward.

    The gain of each norm in the layer is folded into the next matrix.
    """

    def __init__(self, block: Any, form: MatrixFormat) -> None:
        super().__init__()
        time, group, forward = block.layer
        attention = time.self_attention
        self.heads = attention.n_heads
        self.width = attention.kv_proj_dim
        self.activation = forward.mlp.act
        self.relu = isinstance(self.activation, nn.ReLU)

        def linear(weight: Tensor, gain: Tensor | None = None) -> Linear:
            return Linear(weight if gain is None else weight * gain, None, form)

        def build_activated(weight: Tensor, gain: Tensor) -> Linear:
            bias = None if form.is_packed else torch.zeros(len(weight))
            return Linear(weight * gain, bias, form)

        # The library rotates the first half of a head's width against the second. On a CPU rows of
        # queries and keys are put side by side instead, because neighbours rotate as one complex
        # number; their products stay the same.
        pairs = torch.arange(self.heads * self.width)
        if form.is_packed:
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
        self.wide = build_activated(
            forward.mlp.wi.weight.double(), forward.layer_norm.weight.double()
        )
        self.narrow = linear(forward.mlp.wo.weight)

    def forward(
        self, h: Tensor, rotation: Tensor, first_token: int, group: int, epsilon: float
    ) -> Tensor:
        """Apply the layer to tokens h [B, T, d]; return the tokens from `first_token` on.

        h: state of all tokens, to which the returned tokens [B, T - first_token, d] attend.
        rotation: rotation of each token, an argument of `apply_rotary`.
        first_token: index of the first token to return.
        group: number of consecutive series that attend to each other.
        epsilon: term added to a mean square before its root.
        """
        batch, tokens, _ = h.shape
        split = (self.heads, self.width)
        x = rms_normalise(h, epsilon)
        if first_token:
            q = self.query(x[:, first_token:].contiguous()).view(
                batch, tokens - first_token, *split
            )
            k, v = self.key_value(x).view(batch, tokens, 2, *split).unbind(2)
        else:
            q, k, v = self.qkv(x).view(batch, tokens, 3, *split).unbind(2)
        if can_use_fused_attention(q, k):
            mixed = compute_fused_attention(q, k, v, rotation)
        else:
            mixed = compute_attention(
                apply_rotary(q, rotation[first_token:]), apply_rotary(k, rotation), v
            )
        h = self.out(mixed, residual=h[:, first_token:])
        h = self._attend_within_groups(h, group, epsilon)
        x = self.wide(rms_normalise(h, epsilon), relu=self.relu)
        return self.narrow(x if self.relu else self.activation(x), residual=h)

    def _attend_within_groups(self, h: Tensor, group: int, epsilon: float) -> Tensor:
        """Return h [B, T, d] after attention between the series of each group, at each token."""
        x = rms_normalise(h, epsilon)
        if group == 1:
            return self.alone(x, residual=h)
        batch, tokens, _ = h.shape
        blocks = batch // group
        qkv = self.group_qkv(x).view(blocks, group, tokens, 3, self.heads, self.width)
        # Every token of a block of series is one batch entry of `group` tokens.
        qkv = qkv.transpose(1, 2).reshape(blocks * tokens, group, 3, self.heads, self.width)
        q, k, v = qkv.unbind(2)
        mixed = compute_attention(q, k, v).view(blocks, tokens, group, -1)
        mixed = mixed.transpose(1, 2).reshape(batch, tokens, -1)
        return self.group_out(mixed, residual=h)


def rms_normalise(h: Tensor, epsilon: float) -> Tensor:
    """Divide h [B, T, d] by its root mean square along the width, computed in float32."""
    length = torch.linalg.vector_norm(h, dim=-1, keepdim=True, dtype=torch.float32)
    mean_square = length.square() / h.shape[-1]
    scaled: Tensor = h * (mean_square + epsilon).rsqrt()
    return scaled.to(h.dtype)


def can_use_fused_attention(q: Tensor, k: Tensor) -> bool:
    """Return whether `compute_fused_attention` supports queries q and keys k.

    It requires that torch is compiling for CUDA, few tokens, and a supported head width.
    """
    # Triton needs a C compiler at run time. `torch.compile` needs it as well, but falls back.
    if triton is None or not (q.is_cuda and torch.compiler.is_compiling()):
        return False
    return k.shape[1] <= MAX_FUSED_TOKENS and k.shape[3] in FUSED_HEAD_WIDTHS


def apply_rotary(x: Tensor, rotation: Tensor) -> Tensor:
    """Apply rotary position embeddings to x [B, T, heads, width].

    rotation: rotation of each token. If complex [T, width/2], it rotates neighbouring pairs of x,
        and overwrites x. If cosine and sine [T, 2, width/2], it rotates the first half of the width
        with the second half.
    """
    if rotation.is_complex():
        torch.view_as_complex(x.view(*x.shape[:-1], -1, 2)).mul_(rotation[:, None])
        return x
    cosine, sine = rotation[:, :, None].unbind(1)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def compute_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return the attention softmax(q kᵀ) v with the heads concatenated, [B, T, heads * width]."""
    # Every series and head is a block of a CUDA kernel's grid, whose size is limited: groups attend
    # token by token, and soon exceed it.
    most = max(MAX_GRID_BLOCKS // q.shape[2], 1)
    if len(q) <= most:
        return _attend_unfused(q, k, v)
    parts = [slice(first, first + most) for first in range(0, len(q), most)]
    return torch.cat([_attend_unfused(q[part], k[part], v[part]) for part in parts])


def _attend_unfused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    # Chronos-2 scales by one, not by the root of the width.
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    mixed = functional.scaled_dot_product_attention(q, k, v, scale=1.0)
    return mixed.transpose(1, 2).flatten(-2)


def compute_fused_attention(q: Tensor, k: Tensor, v: Tensor, rotation: Tensor) -> Tensor:
    """Return the attention [B, T, heads * width] of q, k and v by one CUDA kernel.

    The kernel applies rotary position embeddings to q and k.

    rotation: [U, 2, width/2] cosine and sine of each key's token; the queries belong to the last T
        of these tokens.
    """
    mixed: Tensor = _launch_attention_kernel(q, k, v, rotation)
    return mixed


if triton is not None:

    @triton.jit  # type: ignore[untyped-decorator]
    def _attention_kernel(  # type: ignore[no-untyped-def]
        q_at, k_at, v_at, turn_at, out_at,
        q_window, q_token, q_head,
        k_window, k_token, k_head,
        v_window, v_token, v_head,
        heads,
        T: tl.constexpr, U: tl.constexpr,
        ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr,
    ):  # fmt: skip
        """Compute the attention of one window and head, whose T × U scores lie in registers."""
        program = tl.program_id(0).to(tl.int64)
        window = program // heads
        head = program % heads
        row = tl.arange(0, ROWS)[:, None]
        column = tl.arange(0, COLUMNS)[:, None]
        half = tl.arange(0, WIDTH // 2)[None, :]
        place = tl.arange(0, WIDTH)[None, :]
        asked = row < T
        there = column < U

        at = turn_at + (row + U - T) * WIDTH + half
        cosine = tl.load(at, mask=asked, other=0.0).to(tl.float32)
        sine = tl.load(at + WIDTH // 2, mask=asked, other=0.0).to(tl.float32)
        at = q_at + window * q_window + row * q_token + head * q_head + half
        first = tl.load(at, mask=asked, other=0.0)
        second = tl.load(at + WIDTH // 2, mask=asked, other=0.0)
        q_first = (first * cosine - second * sine).to(first.dtype)
        q_second = (second * cosine + first * sine).to(first.dtype)

        at = turn_at + column * WIDTH + half
        cosine = tl.load(at, mask=there, other=0.0).to(tl.float32)
        sine = tl.load(at + WIDTH // 2, mask=there, other=0.0).to(tl.float32)
        at = k_at + window * k_window + column * k_token + head * k_head + half
        first = tl.load(at, mask=there, other=0.0)
        second = tl.load(at + WIDTH // 2, mask=there, other=0.0)
        k_first = (first * cosine - second * sine).to(first.dtype)
        k_second = (second * cosine + first * sine).to(first.dtype)

        score = tl.dot(q_first, tl.trans(k_first), input_precision="ieee")
        score += tl.dot(q_second, tl.trans(k_second), input_precision="ieee")
        score = tl.where(tl.arange(0, COLUMNS)[None, :] < U, score, float("-inf"))
        weight = tl.exp(score - tl.max(score, axis=1)[:, None])
        weight = weight / tl.sum(weight, axis=1)[:, None]

        at = v_at + window * v_window + column * v_token + head * v_head + place
        value = tl.load(at, mask=there, other=0.0)
        mixed = tl.dot(weight.to(value.dtype), value, input_precision="ieee")
        at = out_at + (window * T + row) * (heads * WIDTH) + head * WIDTH + place
        tl.store(at, mixed.to(value.dtype), mask=asked)

    @torch.library.triton_op("kelly_chronos::attended", mutates_args={})
    def _launch_attention_kernel(q: Tensor, k: Tensor, v: Tensor, turn: Tensor) -> Tensor:
        windows, asked, heads, width = q.shape
        there = k.shape[1]
        out = q.new_empty(windows, asked, heads * width)
        strides = (*q.stride()[:3], *k.stride()[:3], *v.stride()[:3])
        sizes = {
            "T": asked,
            "U": there,
            "ROWS": _padded_token_count(asked),
            "COLUMNS": _padded_token_count(there),
        }
        kernel = torch.library.wrap_triton(_attention_kernel)
        kernel[(windows * heads,)](
            q, k, v, turn, out, *strides, heads, **sizes, WIDTH=width, num_warps=1
        )
        return out

    def _padded_token_count(tokens: int) -> int:
        """Return the next power of two, at least 16, because matrix units need that many rows."""
        return max(16, 1 << (tokens - 1).bit_length())
