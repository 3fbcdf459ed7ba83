"""Pre-augmentations: what a window becomes before the model sees it, and what makes the answer a
price again.

Each is undone exactly: what is applied to the window's bars and to the steps after them is one
rising function a bar, so quantiles stay quantiles. B windows of L bars, H steps, Q levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor

Augmentation = Literal["none", "log", "detrend", "log_detrend"]
AUGMENTATIONS: tuple[Augmentation, ...] = get_args(Augmentation)


def augmented(closes: Tensor, kind: Augmentation) -> tuple[Tensor, Tensor | None]:
    """(what the model sees [B, L] float64, the trend's level and slope [B, 2] where one was taken
    out).

    log: the logarithm of the price. detrend: the price less its least-squares line over the window.
    log_detrend: both.
    """
    x = closes.log() if kind.startswith("log") else closes
    if not kind.endswith("detrend"):
        return x, None
    time = _time(x, 0, x.shape[1])
    centred = time - time.mean()
    slope = (x * centred).sum(dim=1) / centred.square().sum()
    level = x.mean(dim=1) - slope * time.mean()
    line = level[:, None] + slope[:, None] * time
    return x - line, _pair(level, slope)


def restored(values: Tensor, kind: Augmentation, trend: Tensor | None, first: int) -> Tensor:
    """Prices of values [B, H, Q] that begin at bar number `first` of the window; the inverse of
    `augmented`.
    """
    if trend is not None:
        time = _time(values, first, first + values.shape[1])
        values = values + (trend[:, :1] + trend[:, 1:] * time)[..., None]
    return values.exp() if kind.startswith("log") else values


def _time(like: Tensor, first: int, last: int) -> Tensor:
    import torch

    return torch.arange(first, last, device=like.device, dtype=like.dtype)


def _pair(level: Tensor, slope: Tensor) -> Tensor:
    import torch

    return torch.stack([level, slope], dim=1)
