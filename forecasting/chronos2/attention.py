"""Attention among a window's tokens, and among the series of a group.

On CUDA a compiled layer attends by one kernel of our own where tokens are few, as they are by
default (10 of 100 bars): one program a window and head, which rotates queries and keys as it reads
them. A library's kernel is made for long sequences, and spends its blocks on padding.

B windows, T tokens, U tokens that are attended to. q, k and v [B, tokens, heads, width] are
queries, keys and values.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

try:
    import triton
    from triton import language as tl
except ImportError:  # a torch that is built for CPUs comes without
    triton = None

BLOCKS = 65_535  # of a CUDA grid's second and third dimension
FEW_TOKENS = 64  # of a window, that one program holds at once
WIDTHS = (32, 64, 128)  # of a head, that its matrix units take


def fits_one_program(q: Tensor, k: Tensor) -> bool:
    """Whether `attended_in_one_program` answers these: few tokens, in a compilation."""
    # Triton needs a C compiler where it runs. `torch.compile` needs it as well, and goes on
    # without.
    if triton is None or not (q.is_cuda and torch.compiler.is_compiling()):
        return False
    return k.shape[1] <= FEW_TOKENS and k.shape[3] in WIDTHS


def rotated(x: Tensor, turn: Tensor) -> Tensor:
    """Rotary positions of x [B, T, heads, width].

    turn: complex [T, width/2], for neighbouring pairs; or cosine and sine [T, 2, width/2], for the
        first half of a width against the second.
    """
    if turn.is_complex():
        pairs = torch.view_as_complex(x.view(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * turn[:, None]).flatten(-2)
    cosine, sine = turn[:, :, None].unbind(1)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k) v, heads side by side: [B, T, heads * width]."""
    # Every series and head is a block of a CUDA kernel's grid, which has room for so many: groups
    # attend token by token, and soon have more.
    most = max(BLOCKS // q.shape[2], 1)
    if len(q) <= most:
        return _attended_at_once(q, k, v)
    parts = [slice(first, first + most) for first in range(0, len(q), most)]
    return torch.cat([_attended_at_once(q[part], k[part], v[part]) for part in parts])


def _attended_at_once(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    # Chronos-2 scales by one, not by the root of the width.
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    mixed = functional.scaled_dot_product_attention(q, k, v, scale=1.0)
    return mixed.transpose(1, 2).flatten(-2)


def attended_in_one_program(q: Tensor, k: Tensor, v: Tensor, turn: Tensor) -> Tensor:
    """softmax(q k) v of q and k that are not rotated yet: [B, T, heads * width].

    turn: [U, 2, width/2] cosine and sine of each token that is attended to; the queries are those
    of the last T.
    """
    mixed: Tensor = _program(q, k, v, turn)
    return mixed


if triton is not None:

    @triton.jit  # type: ignore[untyped-decorator]
    def _kernel(  # type: ignore[no-untyped-def]
        q_at, k_at, v_at, turn_at, out_at,
        q_window, q_token, q_head,
        k_window, k_token, k_head,
        v_window, v_token, v_head,
        heads,
        T: tl.constexpr, U: tl.constexpr,
        ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr,
    ):  # fmt: skip
        """One window and head: its T × U scores lie in registers."""
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
    def _program(q: Tensor, k: Tensor, v: Tensor, turn: Tensor) -> Tensor:
        windows, asked, heads, width = q.shape
        there = k.shape[1]
        out = q.new_empty(windows, asked, heads * width)
        strides = (*q.stride()[:3], *k.stride()[:3], *v.stride()[:3])
        sizes = {"T": asked, "U": there, "ROWS": _room(asked), "COLUMNS": _room(there)}
        kernel = torch.library.wrap_triton(_kernel)
        kernel[(windows * heads,)](
            q, k, v, turn, out, *strides, heads, **sizes, WIDTH=width, num_warps=1
        )
        return out

    def _room(tokens: int) -> int:
        """A power of two from 16 on that holds them: matrix units take no fewer rows."""
        return max(16, 1 << (tokens - 1).bit_length())
