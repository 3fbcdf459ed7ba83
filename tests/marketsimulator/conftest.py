"""One run that tests of pages and of parts read, and leave as it is."""

from __future__ import annotations

import pytest

from marketsimulator.backtest import run_backtest
from marketsimulator.results.summary import BacktestResults
from tests.marketsimulator.runs import settings_of


@pytest.fixture(scope="session")
def traded() -> BacktestResults:
    """Three weeks of two stocks and a coin, with an edge that the forecaster finds."""
    return run_backtest(
        settings_of(
            *("start=2024-02-20", "end=2024-03-08", "data.start=2024-01-02", "data.end=2024-03-08"),
            *(
                "symbols=[SYA,SYB,SYXUSD]",
                "forecaster=historical",
                "data.information_coefficient=0.4",
            ),
            *("forecaster.calibrated=false", "prior.crypto_sharpe=0.5"),
        )
    )
