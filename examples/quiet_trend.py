r"""A custom universe: each month, the two symbols with the steadiest rise.

    .venv/bin/python -m marketsimulator.backtest 'data.dir=[outputs/example-bars]' \
        start=2024-03-04 end=2024-05-31 forecaster=ewma sizing.strategy=equal_weight \
        universe._target_=examples.quiet_trend.quiet_trend universe.keep=2 \
        output=outputs/example-universe

A rank is a function of the bars known when the universe is renewed. `universe.top`, `min_price` and
`members` filter first. `marketsimulator.audit look_ahead` detects a rank that reads later bars.
"""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array
from trainingdata.bars import CLOSE, Bars

WINDOW = 200  # bars of a symbol


def quiet_trend(bars: Bars) -> Array:
    """Return a score per symbol [S]: mean over deviation of its last returns; NaN if too few."""
    scores = np.full(len(bars.symbols), np.nan)
    for s in range(len(scores)):
        closes = bars.bars_of_symbol(s)[1][-WINDOW - 1 :, CLOSE]
        if len(closes) > WINDOW:
            returns = np.diff(np.log(closes))
            scores[s] = returns.mean() / returns.std()
    return scores
