"""The shortest backtest that writes an output."""

from __future__ import annotations

BACKTEST = "marketsimulator.backtest"
RUN = (
    *("symbols=[SYA,SYB]", "start=2024-02-20", "end=2024-02-21"),
    *("forecaster=ewma", "forecaster.calibrated=false", "trials=null"),
)
