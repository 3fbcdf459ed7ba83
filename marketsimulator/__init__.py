"""What would have happened: settlement, the simulated broker, backtests, replays of weights,
audits, reports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from foundation.lazy import public

if TYPE_CHECKING:
    from marketsimulator.account.broker import SimulatedBroker as SimulatedBroker
    from marketsimulator.backtest import run_backtest as run_backtest
    from marketsimulator.results.summary import Results as Results
    from marketsimulator.runs.weights import Replay as Replay
    from marketsimulator.runs.weights import replay as replay
    from marketsimulator.settings import BacktestSettings as BacktestSettings

__getattr__, __dir__, __all__ = public(
    __name__,
    {
        "BacktestSettings": "settings",
        "Replay": "runs.weights",
        "Results": "results.summary",
        "SimulatedBroker": "account.broker",
        "replay": "runs.weights",
        "run_backtest": "backtest",
    },
)
