"""Where training begins, its loss, and its learning rate over the steps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from forecasting.forecast import LEVELS

if TYPE_CHECKING:
    from chronos.chronos2.model import Chronos2Model


def initialise(model: Chronos2Model, generator: torch.Generator) -> None:
    """Initialise by fan-in, smaller where residuals add up; the output begins at a normal's.

    The library leaves a model that is made from its configuration unusable.
    """
    # Under transformers 5 the base class leaves every Linear at N(0, factor), whatever its width.
    depth = len(model.encoder.block)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            torch.nn.init.constant_(parameter, 1.0 if "layer_norm" in name else 0.0)
            continue
        deviation = parameter.shape[-1] ** -0.5
        if name.endswith(("self_attention.o.weight", "mlp.wo.weight")):
            deviation /= math.sqrt(2 * depth)
        elif name.endswith("self_attention.q.weight"):
            # The attention's scale is 1: the 1/√d of the usual one goes into the query.
            deviation /= math.sqrt(model.config.d_kv)
        elif name.startswith("output_patch_embedding"):
            deviation *= 0.1
        with torch.no_grad():
            parameter.normal_(0.0, deviation, generator=generator)
    normal = torch.special.ndtri(torch.tensor(LEVELS))
    with torch.no_grad():
        bias = torch.asinh(0.5 * normal).repeat_interleave(model.chronos_config.output_patch_size)
        model.output_patch_embedding.output_layer.bias.copy_(bias)


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
