"""A Chronos-2 checkpoint with random weights, for measurements that need no skill."""

from __future__ import annotations

from pathlib import Path

import torch
from chronos.chronos2.config import Chronos2CoreConfig
from chronos.chronos2.model import Chronos2Model

from forecasting.forecast import LEVELS
from tools.train_checkpoint import initialise


def large_checkpoint(folder: Path) -> Path:
    """The 120 M configuration of `amazon/chronos-2`, with its patches and levels; its folder."""
    config = Chronos2CoreConfig(
        d_model=768,
        d_kv=64,
        d_ff=3072,
        num_layers=12,
        num_heads=12,
        dropout_rate=0.0,
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
        },
        chronos_pipeline_class="Chronos2Pipeline",
    )
    config.architectures = ["Chronos2Model"]
    model = Chronos2Model(config)
    initialise(model, torch.Generator().manual_seed(0))
    model.save_pretrained(folder)
    return folder
