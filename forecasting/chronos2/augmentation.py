"""Pre-augmentations: transforms of a window of closes for the model, and their inverses.

The inverse is exact. At each bar and step the transform is an increasing function of the price, so
that quantiles map to quantiles. Dimensions: B windows of L bars, H steps, Q quantile levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor

Augmentation = Literal["none", "log", "detrend", "log_detrend"]
AUGMENTATIONS: tuple[Augmentation, ...] = get_args(Augmentation)


def apply_augmentation(closes: Tensor, kind: Augmentation) -> tuple[Tensor, Tensor | None]:
    """Transform closes [B, L] for the model; return the input [B, L] and the removed trend.

    The trend is the level and slope of each window, [B, 2], or None without detrending. The kinds:

    none: the price, unchanged.
    log: log of the price.
    detrend: the price less its least-squares line over the window.
    log_detrend: log of the price less its least-squares line.
    """
    x = closes.log() if kind.startswith("log") else closes
    if not kind.endswith("detrend"):
        return x, None
    time = _bar_numbers(x, 0, x.shape[1])
    centred = time - time.mean()
    slope = (x * centred).sum(dim=1) / centred.square().sum()
    level = x.mean(dim=1) - slope * time.mean()
    line = level[:, None] + slope[:, None] * time
    return x - line, _stack_trend(level, slope)


def undo_augmentation(
    values: Tensor, kind: Augmentation, trend: Tensor | None, first_bar: int
) -> Tensor:
    """Transform the model's output [B, H, Q] back to prices: the inverse of `apply_augmentation`.

    trend: [B, 2] removed level and slope; None without detrending.
    first_bar: bar number of the first step, counted from the start of the window.
    """
    if trend is not None:
        time = _bar_numbers(values, first_bar, first_bar + values.shape[1])
        values = values + (trend[:, :1] + trend[:, 1:] * time)[..., None]
    return values.exp() if kind.startswith("log") else values


def _bar_numbers(like: Tensor, first: int, last: int) -> Tensor:
    # torch is imported only for computation: cached forecasts are read without it.
    import torch

    return torch.arange(first, last, device=like.device, dtype=like.dtype)


def _stack_trend(level: Tensor, slope: Tensor) -> Tensor:
    import torch

    return torch.stack([level, slope], dim=1)
