from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foundation.errors import DataError, InputError
from trainingdata.bar_files import read_bars
from trainingdata.bars import CLOSE, Bars, panel
from trainingdata.instruments import Kind, instrument


def frame(rows: int = 14, start: str = "2024-10-01T13:30Z", step: str = "1h") -> pd.DataFrame:
    """Two sessions of hourly stock bars."""
    day = pd.date_range(start, periods=7, freq=step)
    stamps = day.append(day + pd.Timedelta(days=1))[:rows]
    close = 100.0 + np.arange(rows)
    return pd.DataFrame(
        {
            "timestamp": stamps,
            "open": close,
            "high": close + 1,
            "low": close - 1,
            "close": close,
            "volume": 1000.0,
        }
    )


def write(folder: Path, data: pd.DataFrame, name: str = "AAA.csv") -> Path:
    path = folder / name
    if name.endswith(".parquet"):
        data.to_parquet(path)
    else:
        data.to_csv(path, index=False)
    return path


def test_stocks_and_coins_share_a_panel_and_nothing_is_filled(tmp_path: Path) -> None:
    write(tmp_path, frame())
    coin = frame()
    coin["timestamp"] = pd.date_range("2024-10-01T13:00Z", periods=14, freq="1h")
    write(tmp_path, coin, "XYZUSD.csv")
    bars = read_bars([tmp_path], ["AAA", "XYZ/USD"])
    assert [i.kind for i in bars.instruments] == [Kind.STOCK, Kind.CRYPTO]
    assert bars.mask.sum(axis=1).tolist() == [14, 14]
    assert np.isnan(bars.values[~bars.mask]).all()
    assert bars.real_bars(0)[1][:, CLOSE].tolist() == frame()["close"].tolist()


def test_two_files_for_one_symbol_are_an_error_naming_both(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write(tmp_path / "a", frame())
    write(tmp_path / "b", frame(), "AAA.parquet")
    with pytest.raises(DataError, match=r"AAA: two files, .*a/AAA\.csv and .*b/AAA\.parquet"):
        read_bars([tmp_path / "a", tmp_path / "b"], ["AAA"])


def test_missing_folders_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        read_bars([tmp_path / "nowhere"], ["AAA"])
    with pytest.raises(DataError, match=r"BBB: no BBB\.parquet"):
        read_bars([tmp_path], ["BBB"])
    with pytest.raises(DataError, match=r"no \.parquet"):
        read_bars([tmp_path], None)
    write(tmp_path, frame(), "notes of today.csv")
    with pytest.raises(DataError, match=r"notes of today\.csv: .* is no symbol"):
        read_bars([tmp_path], None)


def test_symbols_are_recognised_by_how_they_are_written() -> None:
    assert {
        s: instrument(s).kind for s in ("BTCUSD", "BTC/USD", "ethusd", "NVDA", "BRK.B", "USD")
    } == {
        "BTCUSD": Kind.CRYPTO,
        "BTC/USD": Kind.CRYPTO,
        "ethusd": Kind.CRYPTO,
        "NVDA": Kind.STOCK,
        "BRK.B": Kind.STOCK,
        "USD": Kind.STOCK,
    }
    assert instrument("BTC/USD") == instrument("BTCUSD")
    for text in ("", "N V", "../x", "a=b"):
        with pytest.raises(InputError, match="symbols"):
            instrument(text)


def test_the_last_known_close_survives_missing_bars(market: Bars) -> None:
    closes = market.last_closes()
    for s in range(len(market.symbols)):
        assert closes[s] == market.real_bars(s)[1][-1, CLOSE]
    first = market.between(0, 1)
    assert np.isnan(first.last_closes()).sum() == (~first.mask[:, 0]).sum()


def test_a_panel_checks_its_shapes() -> None:
    item = instrument("AAA")
    times = np.array(["2024-10-01T14:30", "2024-10-01T14:30"], dtype="datetime64[ns]")
    with pytest.raises(ValueError, match="times must increase"):
        Bars((item,), times, np.ones((1, 2, 5)), np.ones((1, 2), dtype=bool), "test")
    with pytest.raises(ValueError, match=r"values must have shape \[S, T, 5\]"):
        Bars((item,), times[:1], np.ones((1, 2, 5)), np.ones((1, 1), dtype=bool), "test")
    with pytest.raises(DataError, match="none were asked for"):
        panel([], "test")


def test_a_panel_with_other_instruments_knows_what_they_allow(market: Bars) -> None:
    shut = replace(
        market,
        instruments=tuple(replace(i, tradable=False, borrowable=False) for i in market.instruments),
    )
    assert market.tradable.all()
    assert not shut.tradable.any()
    assert shut.long_only.all()
    part = shut.between(0, 3)
    assert (part.symbols, part.tradable.tolist()) == (market.symbols, [False] * len(market.symbols))
