"""A backtest requires the unit of crypto volume as soon as anything depends on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foundation.compose import compose_config
from foundation.errors import InputError
from marketsimulator.settings import BacktestSettings
from tests.support.messages import refused
from trainingdata.bars import VOLUME

DATES = pd.date_range("2023-01-01", "2023-06-30").strftime("%Y-%m-%d")
COINS = np.linspace(1000.0, 2000.0, len(DATES))


def settings(folder: Path, *words: str) -> BacktestSettings:
    """The settings of a backtest on days of a crypto pair whose file states no unit of volume."""
    close = 100 + np.arange(len(DATES)) % 7
    frame = pd.DataFrame({"date": DATES, "open": close, "high": close + 1.0, "low": close - 1.0})
    frame = frame.assign(close=close, volume=COINS * close)
    frame.to_csv(folder / "AAA-USD.csv", index=False)
    places = [f"data.dir={folder}", "start=2023-05-01", "forecaster=ewma", "trials=null"]
    return BacktestSettings.from_config(compose_config("backtest", [*places, *words]))


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("words", "fact"),
    [
        ([], "fills.volume_share=0.1"),
        (["fills.volume_share=null", "universe.top=1"], "universe.top"),
        (["fills.volume_share=null", "costs.crypto_impact=1"], "costs.crypto_impact"),
    ],
)
def test_unknown_crypto_volume_unit_is_refused_before_run(
    tmp_path: Path, words: list[str], fact: str
) -> None:
    with refused(InputError, "data.volume_unit", "AAA-USD.csv", fact):
        settings(tmp_path, *words).load_market()


def test_run_without_volume_limit_needs_no_volume_unit(tmp_path: Path) -> None:
    settings(tmp_path, "fills.volume_share=null").load_market()


def test_stated_volume_unit_converts_bar_volumes(tmp_path: Path) -> None:
    market = settings(tmp_path, "data.volume_unit=usd").load_market()
    np.testing.assert_allclose(market.bars.values[0, :, VOLUME], COINS)
