"""The loss of training, and its learning rate over the steps."""

from __future__ import annotations

import math

import torch

from forecasting.forecast import LEVELS


def pinball(quantiles: torch.Tensor, futures: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """Mean pinball loss of quantiles [B, Q, H] against futures [B, F, H].

    It is in units of `unit` [B] times √step. Step k weighs 1/√k: an error in the level the median
    starts from costs most at the first steps.
    """
    levels = torch.tensor(LEVELS, device=quantiles.device)[None, None, :, None]
    root = torch.arange(1, quantiles.shape[-1] + 1, device=quantiles.device).sqrt()
    error = (futures[:, :, None, :] - quantiles[:, None, :, :]) / (unit[:, None, None, None] * root)
    loss = torch.maximum(levels * error, (levels - 1) * error).mean(dim=(0, 1, 2))
    return (loss / root).sum() / (1 / root).sum()


def cosine(step: int, steps: int, warmup: int = 100) -> float:
    """Learning-rate factor: linear warm-up, then cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))
