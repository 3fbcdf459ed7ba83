"""What a first backtest calls, compiled by a second process while the first reads and forecasts.

Machine code is kept on disk, and what one process compiles the other one reads. This one begins
with the solver and the account, the first one with the decision.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import numpy as np

from forecasting.forecast import silent
from foundation.compiled import compilations_told
from foundation.compose import composed_config
from marketsimulator.backtest import run_backtest
from marketsimulator.results.report import result_files
from marketsimulator.results.summary import BUY_AND_HOLD, BuyAndHold
from marketsimulator.runs.simulate import simulate_trading
from marketsimulator.settings import BacktestSettings
from sizing.kelly import kelly_weights

WORDS = (
    *("forecaster=ewma", "trials=null", "capital=100000", "data.start=2023-01-02"),
    *("start=2023-09-06", "end=2023-09-08"),
)


def rehearse() -> None:
    """Call what a first backtest calls, on few synthetic bars; nothing is written."""
    variances = np.array([0.0004, 0.0001])
    kelly_weights(np.array([0.001, 0.0]), np.diag(variances), lower=-np.ones(2), upper=np.ones(2))
    settings = BacktestSettings.of(composed_config("backtest", WORDS))
    hold = BuyAndHold(settings.orders)
    simulate_trading(settings, settings.market(), BUY_AND_HOLD, hold, silent)
    results = run_backtest(settings, silent, lambda _: None)
    result_files(results, results.summary())


if __name__ == "__main__":
    # Whoever started this may be gone by now, and nobody reads the names.
    with suppress(BrokenPipeError), compilations_told(partial(print, flush=True)):
        rehearse()
