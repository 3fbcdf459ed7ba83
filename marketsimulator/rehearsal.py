"""Helper process of a first backtest: it compiles functions while the main process reads bars.

Each process loads from disk the machine code that the other has compiled. To avoid compiling the
same functions, this process starts with the solver, its explanations and then the account, while
the main process starts with the decision.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from forecasting.forecast import no_progress
from foundation.compiled import report_compilations
from foundation.compose import compose_config
from marketsimulator.backtest import run_backtest
from marketsimulator.results.report import result_file_writers
from marketsimulator.results.summary import BUY_AND_HOLD, BuyAndHold
from marketsimulator.runs.simulate import simulate_trading
from marketsimulator.settings import BacktestSettings
from sizing.quantity import get_qty

REHEARSAL_OVERRIDES = (
    *("forecaster=ewma", "trials=null", "capital=100000", "data.start=2023-01-02"),
    *("start=2023-09-06", "end=2023-09-08"),
)


def rehearse_backtest() -> None:
    """Run a backtest on a few synthetic bars to compile its functions; write no results."""
    account: Any = SimpleNamespace(
        equity=1e5, exposure={}, prices={"SPY": 100.0}, unborrowed_cash=1e5
    )
    moments: Any = SimpleNamespace(symbols=("SPY",), mu=np.array([1e-3]), sigma=np.array([1e-2]))
    get_qty("SPY", 100.0, account=account, moments=moments)
    settings = BacktestSettings.from_config(compose_config("backtest", REHEARSAL_OVERRIDES))
    hold = BuyAndHold(settings.orders)
    simulate_trading(settings, settings.load_market(), BUY_AND_HOLD, hold, no_progress)
    results = run_backtest(settings, no_progress, lambda _: None)
    result_file_writers(results, results.summary())


if __name__ == "__main__":
    # The pipe breaks if the first process has ended, which reads the names.
    with suppress(BrokenPipeError), report_compilations(partial(print, flush=True)):
        rehearse_backtest()
