"""The example that downloads days, on a stand-in for yfinance: no network."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from examples.download_daily import main
from foundation.compose import compose_config
from marketsimulator.settings import BacktestSettings
from tests.support.examples import commands_in, example_text
from trainingdata.bars import VOLUME
from trainingdata.timeframe import DAILY

ASKED: list[dict[str, Any]] = []


class Ticker:
    """Yahoo's days of a symbol up to this moment, as yfinance 1 gives them."""

    def __init__(self, symbol: str) -> None:
        self.coin = symbol.endswith("-USD")
        self.unknown = symbol == "NOPE"

    def history(self, *, start: str, **more: Any) -> pd.DataFrame:
        ASKED.append({"start": start, **more})
        now = pd.Timestamp.now(tz="UTC")
        zone = "UTC" if self.coin else "America/New_York"
        range_of = pd.date_range if self.coin else pd.bdate_range
        days = range_of("2023-11-01", "2023-11-22", tz=zone)
        days = days.append(pd.DatetimeIndex([now.tz_convert(zone).normalize()]))
        columns = ["Open", "High", "Low", "Close", "Adj Close", "Volume"]
        if self.unknown:
            return pd.DataFrame(columns=columns, index=days[:0])
        close = 100 + np.arange(float(len(days)))
        table = [close, close + 1, close - 1, close, close / 2, 1000 + 0 * close]
        return pd.DataFrame(dict(zip(columns, table, strict=True)), index=days)


def test_backtest_reads_downloaded_daily_bars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "yfinance", SimpleNamespace(Ticker=Ticker))
    monkeypatch.chdir(tmp_path)
    first, second = commands_in(example_text("download_daily.py"))
    main([*first[2:], "--start", "2023-11-01"])
    plain = {"interval": "1d", "auto_adjust": False, "actions": False}
    assert ASKED[0] == {"start": "2023-11-01", **plain}
    assert "SPY: 16 days, 2023-11-01 to 2023-11-22" in capsys.readouterr().out
    words = [word for word in second[3:] if not word.startswith(("start", "end"))]
    settings = BacktestSettings.from_config(compose_config("backtest", words))
    bars = settings.load_bars()
    assert bars.timeframe == DAILY
    assert set(bars.symbols) == {"SPY", "QQQ", "TLT", "GLD", "BTCUSD"}
    assert bars.bars_of_symbol(bars.symbols.index("SPY"))[1][-1].tolist() == [
        115,
        116,
        114,
        115,
        1000,
    ]
    coin = bars.symbols.index("BTCUSD")
    assert int(bars.mask[coin].sum()) == 22
    # Yahoo's 1,000 USD at a close of 121 are 8.26 coins.
    assert bars.values[coin, -1, VOLUME] == pytest.approx(1000 / 121)
    assert bars.provenances[coin].is_volume_unit_known
