"""What a first backtest calls, compiled by a second process while the first reads and forecasts.

Machine code is kept on disk, and what one process compiles the other one reads. This one begins
with the solver and the account, the first one with the decision.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import numpy as np

from foundation.compiled import compilations_told
from foundation.compose import composed_config
from marketsimulator.backtest import run_backtest
from marketsimulator.results.report import result_files
from marketsimulator.settings import BacktestSettings
from sizing.kelly import kelly_weights

WORDS = (
    *("forecaster=ewma", "trials=null", "capital=100000", "data.start=2023-01-02"),
    *("start=2023-09-06", "end=2023-09-08"),
)
STRATEGIES = ("equal_weight", "kelly_50")  # the account first, then decision and explanation


def rehearse() -> None:
    """Call what a first backtest calls, on few synthetic bars; nothing is written."""
    variances = np.array([0.0004, 0.0001])
    kelly_weights(np.array([0.001, 0.0]), np.diag(variances), lower=-np.ones(2), upper=np.ones(2))
    for strategy in STRATEGIES:
        config = composed_config("backtest", (*WORDS, f"sizing.strategy={strategy}"))
        settings = BacktestSettings.of(config)
        results = run_backtest(settings, lambda *_: None, lambda _: None)
        result_files(results, results.summary())


if __name__ == "__main__":
    # Whoever started this may be gone by now, and nobody reads the names.
    with suppress(BrokenPipeError), compilations_told(partial(print, flush=True)):
        rehearse()
