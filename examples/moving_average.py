r"""A strategy based on prices: hold symbols whose fast moving average is above the slow one.

    .venv/bin/python -m marketsimulator.backtest 'data.dir=[outputs/example-bars]' \
        start=2024-03-04 end=2024-05-31 forecaster=none \
        sizing._target_=examples.moving_average.moving_average sizing.lookback=50 \
        sizing.arguments.fast=10 output=outputs/example-moving-average
"""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array
from sizing import SizingInputs, require_lookback


def moving_average(inputs: SizingInputs, fast: int = 20, slow: int = 50) -> Array:
    """Return equal weights [S], 1 in total, of the symbols in an upward trend."""
    require_lookback(inputs, fast=fast, slow=slow)
    closes = inputs.history.closes
    rising = closes[:, -fast:].mean(axis=1) > closes[:, -slow:].mean(axis=1)
    chosen = rising & inputs.universe
    return np.asarray(chosen / max(chosen.sum(), 1))
