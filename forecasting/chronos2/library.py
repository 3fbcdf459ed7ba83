"""The library's own Chronos-2: it loads checkpoints, and answers where `network` cannot.

B windows a pass, in groups of G; L bars, H steps, Q levels.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from forecasting.chronos2.checkpoint import Checkpoint
from forecasting.chronos2.compilation import out_of_memory, reason_of
from forecasting.forecast import HORIZON
from foundation.errors import InputError

if TYPE_CHECKING:
    from chronos import Chronos2Pipeline


def load(checkpoint: Checkpoint, device: torch.device) -> Chronos2Pipeline:
    """The library's pipeline on a checkpoint, from safetensors only.

    Raises
    ------
    InputError
        where memory does not suffice, or the checkpoint is none of Chronos-2.
    """
    from chronos import Chronos2Pipeline
    from safetensors import SafetensorError
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.getLogger("chronos").setLevel(logging.WARNING)
    try:
        return Chronos2Pipeline.from_pretrained(
            str(checkpoint.folder), device_map=str(device), use_safetensors=True
        )
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        AssertionError,
        SafetensorError,
    ) as error:
        if out_of_memory(error):
            raise InputError(
                f"forecaster.device: {device.type} has too little memory for {checkpoint.name}"
            ) from error
        reason = reason_of(error)
        raise InputError(
            f"forecaster.model: {checkpoint.name} cannot be loaded as Chronos-2: {reason}"
        ) from error


def library_network(pipeline: Chronos2Pipeline, checkpoint: Checkpoint) -> Callable[..., Tensor]:
    """The library's own forecast, which unrolls a checkpoint that answers too few steps a pass."""

    def answer(context: Tensor, *, group: int, complete: bool) -> Tensor:
        unknown = torch.full((group, HORIZON), math.nan)
        inputs = [
            {
                "context": series,
                "future_covariates": unknown,
                "n_targets": group,
                "n_covariates": 0,
                "n_future_covariates": 0,
            }
            for series in context.cpu().view(-1, group, context.shape[1])
        ]
        with warnings.catch_warnings():
            # It advises against more steps than the model answers in a pass.
            warnings.simplefilter("ignore", UserWarning)
            answers = torch.cat(
                pipeline.predict(inputs, prediction_length=HORIZON, batch_size=len(context))
            )
        return answers[:, list(checkpoint.levels)].mT.sort(dim=-1).values.to(context.device)

    return answer
