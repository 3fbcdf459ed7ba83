"""Pre-augmentations: transforms of a window for the model, and their inverses.

The inverse is exact. At each bar of the window and at each step after it the transform is one
rising function, so quantiles stay quantiles. B windows of L bars, H steps, Q levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor

Augmentation = Literal["none", "log", "detrend", "log_detrend"]
AUGMENTATIONS: tuple[Augmentation, ...] = get_args(Augmentation)


def augment(closes: Tensor, kind: Augmentation) -> tuple[Tensor, Tensor | None]:
    """Return the model's input [B, L] float64, and the removed trend's level and slope [B, 2].

    none: the price itself.
    log: its logarithm.
    detrend: the price less its least-squares line over the window.
    log_detrend: the logarithm less its line.

    The trend is None without detrending.
    """
    x = closes.log() if kind.startswith("log") else closes
    if not kind.endswith("detrend"):
        return x, None
    time = _bar_numbers(x, 0, x.shape[1])
    centred = time - time.mean()
    slope = (x * centred).sum(dim=1) / centred.square().sum()
    level = x.mean(dim=1) - slope * time.mean()
    line = level[:, None] + slope[:, None] * time
    return x - line, _pair(level, slope)


def restore(values: Tensor, kind: Augmentation, trend: Tensor | None, first: int) -> Tensor:
    """Return prices of values [B, H, Q] from bar number `first` on; the inverse of `augment`."""
    if trend is not None:
        time = _bar_numbers(values, first, first + values.shape[1])
        values = values + (trend[:, :1] + trend[:, 1:] * time)[..., None]
    return values.exp() if kind.startswith("log") else values


def _bar_numbers(like: Tensor, first: int, last: int) -> Tensor:
    # torch is imported only for computation: cached forecasts are read without it.
    import torch

    return torch.arange(first, last, device=like.device, dtype=like.dtype)


def _pair(level: Tensor, slope: Tensor) -> Tensor:
    import torch

    return torch.stack([level, slope], dim=1)
