"""Chronos-2 checkpoints with random weights, for tests and measurements that need no skill."""

from __future__ import annotations

from pathlib import Path

import torch
from chronos.chronos2.config import Chronos2CoreConfig
from chronos.chronos2.model import Chronos2Model

from forecasting.forecast import LEVELS
from tools.train_checkpoint import initialise


def random_checkpoint(
    folder: Path,
    *,
    width: int = 16,
    heads: int = 2,
    layers: int = 2,
    dropout: float = 0.0,
    **changes: object,
) -> Path:
    """The patches and levels of `amazon/chronos-2`, as wide and deep as asked for; its folder.

    Parameters
    ----------
    width
        of a token's state; four times as much in the feed-forward.
    heads
        of every attention, as wide together as a state.
    changes
        of the configuration that the library keeps under `chronos_config`.
    """
    config = Chronos2CoreConfig(
        d_model=width,
        d_kv=width // heads,
        d_ff=4 * width,
        num_layers=layers,
        num_heads=heads,
        dropout_rate=dropout,
        chronos_config={
            "context_length": 8192,
            "input_patch_size": 16,
            "input_patch_stride": 16,
            "output_patch_size": 16,
            "max_output_patches": 64,
            "quantiles": list(LEVELS),
            "use_arcsinh": True,
            "use_reg_token": True,
            "time_encoding_scale": 8192,
            **changes,
        },
        chronos_pipeline_class="Chronos2Pipeline",
    )
    config.architectures = ["Chronos2Model"]
    model = Chronos2Model(config)
    initialise(model, torch.Generator().manual_seed(0))
    model.save_pretrained(folder)
    return folder


def large_checkpoint(folder: Path) -> Path:
    """The 120 M configuration of `amazon/chronos-2`."""
    return random_checkpoint(folder, width=768, heads=12, layers=12)
