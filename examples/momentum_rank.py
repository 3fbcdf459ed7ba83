r"""A strategy based on prices: hold the symbols that rose most, each at equal risk.

    .venv/bin/python -m marketsimulator.backtest 'data.dir=[outputs/example-bars]' \
        start=2024-03-04 end=2024-05-31 forecaster=none \
        sizing._target_=examples.momentum_rank.momentum_rank sizing.arguments.top=2 \
        output=outputs/example-momentum
"""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array
from sizing import SizingInputs, require_lookback


def momentum_rank(inputs: SizingInputs, window: int = 120, skip: int = 7, top: int = 3) -> Array:
    """Return weights [S], 1 in total, of the `top` symbols by return over `window` bars.

    A weight is in inverse proportion to the symbol's volatility.

    skip: number of latest bars that the return excludes, because prices partly reverse within them.
    """
    require_lookback(inputs, window=window + 1)
    closes = inputs.history.closes
    momentum = closes[:, -1 - skip] / closes[:, -1 - window] - 1.0
    momentum = np.where(inputs.universe & (momentum > 0), momentum, -np.inf)
    chosen = np.argsort(-momentum)[:top]
    chosen = chosen[np.isfinite(momentum[chosen])]
    deviation = np.log(closes[chosen, 1:] / closes[chosen, :-1])[:, -window:].std(axis=1)
    weights = np.zeros(len(closes))
    weights[chosen] = 1.0 / deviation / (1.0 / deviation).sum()
    return weights
