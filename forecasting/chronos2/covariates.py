"""Chronos-2 with covariates: a series and what goes with it are one group, part of it known ahead.

A covariate is a further series of the group. What is known of it ahead stands in the tokens of the
future, which say nothing of a series that is to be forecast. B series, N groups of G series each,
L bars, P bars a patch, T future patches, H steps, Q levels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from forecasting.chronos2.checkpoint import Checkpoint
from forecasting.chronos2.compilation import multiplying, out_of_memory
from forecasting.chronos2.network import Network, in_prices, standardised
from forecasting.forecast import Progress
from foundation.arrays import Array, Array32

if TYPE_CHECKING:
    from chronos import Chronos2Pipeline
    from chronos.chronos2.preprocess import PreparedInput

    from forecasting.chronos2.engine import Engine


class CovariateNetwork(Network):
    """A network that reads what is known of the future."""

    def forward(
        self,
        context: Tensor,
        *,
        group: int = 1,
        complete: bool = False,
        future: Tensor | None = None,
    ) -> Tensor:
        """Sorted quantiles [B, H, Q] float32, as `Network.forward`.

        future: values [B, H] of the steps ahead, NaN where they are not known; none where no value
            of any series is.
        """
        if future is None:
            return super().forward(context, group=group, complete=complete)
        located, loc, scale = standardised(context)
        tail = self._known_tail((future - loc) / scale)
        return in_prices(self.ahead(located, tail, group, complete), loc, scale)

    def _known_tail(self, located: Tensor) -> Tensor:
        """Register and future tokens [B, 1 + T, d] of standardised values [B, H]."""
        batch, steps = located.shape
        bars = self.future_patches * self.patch
        x = torch.arcsinh(located) if self.arcsinh else located
        x = functional.pad(x.to(self.dtype), (0, bars - steps), value=math.nan)
        observed = ~x.isnan()
        time = (torch.arange(bars, device=x.device) / self.time_scale).to(self.dtype)
        parts = (time.expand(batch, -1), torch.where(observed, x, 0.0), observed.to(self.dtype))
        features = torch.cat(
            [part.reshape(batch, self.future_patches, self.patch) for part in parts], dim=-1
        )
        return torch.cat([self.tail[:, :1].expand(batch, -1, -1), self.embedded(features)], dim=1)


def library_network(
    pipeline: Chronos2Pipeline, checkpoint: Checkpoint, steps: int
) -> Callable[..., Tensor]:
    """The library's own forecast, which unrolls a checkpoint that answers too few steps a pass."""

    def prepared(context: Tensor, future: Tensor) -> PreparedInput:
        # Each series of a group is answered, as far as it is not known.
        return {
            "context": context,
            "future_covariates": future,
            "n_targets": len(context),
            "n_covariates": 0,
            "n_future_covariates": 0,
        }

    def answer(
        context: Tensor, *, group: int, complete: bool, future: Tensor | None = None
    ) -> Tensor:
        if future is None:
            future = torch.full((len(context), steps), math.nan)
        contexts = context.cpu().view(-1, group, context.shape[1])
        futures = future.cpu().view(-1, group, steps)
        inputs = [prepared(*series) for series in zip(contexts, futures, strict=True)]
        with warnings.catch_warnings():
            # It advises against more steps than the model answers in a pass.
            warnings.simplefilter("ignore", UserWarning)
            answers = torch.cat(
                pipeline.predict(inputs, prediction_length=steps, batch_size=len(context))
            )
        return answers[:, list(checkpoint.levels)].mT.sort(dim=-1).values.to(context.device)

    return answer


def group_quantiles(
    engine: Engine,
    contexts: Sequence[Array],
    futures: Sequence[Array],
    progress: Progress,
) -> Array32:
    """Sorted quantiles [N, H, Q] of the first series of each group.

    Parameters
    ----------
    engine
        one that is not compiled.
    contexts
        [G, L] of each group, L its own.
    futures
        [G, H] of each group, NaN where nothing is known.
    progress
        is told of every pass.

    Raises
    ------
    InputError
        where memory does not suffice for a single group.
    """
    group = len(contexts[0])
    while True:
        size = max(engine.batch_size // group, 1)
        try:
            with multiplying(engine.dtype), torch.inference_mode():
                return _passes(engine, contexts, futures, size, progress)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        # This stands outside of the handler, whose error holds what has been computed so far.
        engine.go_on_with_less_memory(size * group, group)


def _passes(
    engine: Engine,
    contexts: Sequence[Array],
    futures: Sequence[Array],
    size: int,
    progress: Progress,
) -> Array32:
    group = len(contexts[0])
    answers = []
    for first in range(0, len(contexts), size):
        chosen = contexts[first : first + size]
        longest = max(context.shape[1] for context in chosen)
        padded = np.full((len(chosen), group, longest), np.nan, dtype=np.float32)
        for row, context in zip(padded, chosen, strict=True):
            row[:, longest - context.shape[1] :] = context
        ahead = np.stack(futures[first : first + size]).astype(np.float32)
        answer = engine.network(
            torch.from_numpy(padded).view(-1, longest).to(engine.device),
            group=group,
            complete=not np.isnan(padded).any(),
            future=_known(torch.from_numpy(ahead).flatten(0, 1).to(engine.device)),
        )
        answers.append(answer.view(len(chosen), group, *answer.shape[1:])[:, 0].cpu().numpy())
        progress("forecasts", first + len(chosen), len(contexts))
    return np.concatenate(answers)


def _known(future: Tensor) -> Tensor | None:
    """What is known of the future; none where nothing is, whose tokens need no computing."""
    return None if bool(future.isnan().all()) else future
