"""What the live entry point refuses before anything is sent, and how far back its history goes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from execution.live.settings import LiveSettings
from foundation.compose import compose_config
from foundation.errors import InputError
from tests.support.messages import refused
from trainingdata.instruments import instrument


@pytest.fixture(scope="module")
def hourly() -> LiveSettings:
    return LiveSettings.from_config(compose_config("live", ["symbols=[AAPL,BTCUSD]"]))


@pytest.mark.parametrize("timeframe", ["1d", "1h"])
def test_live_history_covers_forecast_context_and_calibration_window(
    hourly: LiveSettings, timeframe: str
) -> None:
    """Otherwise a live decision would differ from a backtest on longer files."""
    settings = replace(hourly, timeframe=timeframe)
    forecaster = settings.forecaster
    own = forecaster.context_length + forecaster.calibration.window
    kinds = {instrument(symbol).kind for symbol in settings.symbols}
    years = settings.effective_history_days / 366
    assert all(
        settings.timeframe_or_hourly.clock(kind).bars_per_year * years >= own for kind in kinds
    )
    assert timeframe == "1d" or settings.effective_history_days == 730
    assert replace(settings, history_days=90).effective_history_days == 90


def test_order_limit_below_the_symbol_count_is_refused(hourly: LiveSettings) -> None:
    names = tuple("AB" + first + last for first in "CDE" for last in "FGH")
    few, enough = (replace(hourly.guards, max_orders_per_hour=most) for most in (8, 9))
    with refused(InputError, "8", "9"):
        replace(hourly, symbols=names, guards=few)
    replace(hourly, symbols=names, guards=enough)
