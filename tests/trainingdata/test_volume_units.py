"""Units of crypto volume: coins, USD or contracts, by vendor, by the rows, or stated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import DataError, InputError
from tests.support.messages import refused
from trainingdata import load_bars
from trainingdata.bars import CLOSE, VOLUME, Bars
from trainingdata.file_formats import FILE_FORMATS
from trainingdata.universe import Universe, UniverseSettings
from trainingdata.volume_units import convert_crypto_volume, require_volume_units

DATES = [f"2024-03-{day:02}" for day in range(1, 11)]
CLOSES = np.array([50.0, 51, 52, 51, 50, 49, 48, 49, 50, 51])
COINS = np.arange(10.0, 20.0)
YAHOO = pd.DataFrame(
    {
        "Date": DATES,
        "Open": CLOSES,
        "High": CLOSES + 1,
        "Low": CLOSES - 1,
        "Close": CLOSES,
        "Volume": COINS,
    }
)


def read(folder: Path, frame: pd.DataFrame, name: str = "AAA-USD.csv", **words: Any) -> Bars:
    frame.to_csv(folder / name, index=False)
    return load_bars(folder / name, **words)


def test_yahoo_crypto_volume_is_read_as_usd(tmp_path: Path) -> None:
    usd = YAHOO.assign(Volume=COINS * CLOSES)
    bars = read(tmp_path, usd.assign(**{"Adj Close": CLOSES}))
    np.testing.assert_allclose(bars.values[0, :, VOLUME], COINS)
    assert "volume is in USD (the format of yfinance) and is divided by the close" in (
        bars.provenances[0].notes
    )
    stock = YAHOO[YAHOO["Date"].between("2024-03-04", "2024-03-08")].assign(**{"Adj Close": 1.0})
    shares = read(tmp_path, stock, "AAA.csv").values[0, :, VOLUME]
    assert shares.tolist() == stock["Volume"].tolist()


def test_volume_of_yahoo_multi_ticker_table_is_usd(tmp_path: Path) -> None:
    names = pd.MultiIndex.from_product(
        [["Close", "High", "Low", "Open", "Volume"], ["AAA-USD"]], names=["Price", "Ticker"]
    )
    values = YAHOO[["Close", "High", "Low", "Open"]].assign(Volume=COINS * CLOSES)
    frame = pd.DataFrame(values.to_numpy(), pd.Index(DATES, name="Date"), names)
    frame.to_csv(tmp_path / "table.csv")
    np.testing.assert_allclose(load_bars(tmp_path).values[0, :, VOLUME], COINS)


def test_an_unknown_volume_unit_is_refused(tmp_path: Path) -> None:
    bars = read(tmp_path, YAHOO)
    with refused(InputError, "data.volume_unit", "AAA-USD.csv", "AAAUSD"):
        require_volume_units(bars, "universe.top")
    now = bars.times[-1:]
    with refused(InputError, "universe.top", "data.volume_unit=coins"):
        Universe(UniverseSettings(top=1)).exclusion_rule_codes(bars, now)
    assert (
        not Universe(UniverseSettings(min_price=1.0, rebalance="daily"))
        .exclusion_rule_codes(bars, now)
        .any()
    )
    require_volume_units(read(tmp_path, YAHOO.iloc[3:8], "AAA.csv"), "universe.top")


def test_stated_volume_unit_overrides_the_vendors_unit(tmp_path: Path) -> None:
    usd = YAHOO.assign(Volume=COINS * CLOSES)
    for frame, unit in ((usd, "usd"), (YAHOO, "coins"), (YAHOO.assign(Dividends=0), "coins")):
        bars = read(tmp_path, frame, volume_unit=unit)
        np.testing.assert_allclose(bars.values[0, :, VOLUME], COINS)
        require_volume_units(bars, "universe.top")


@pytest.mark.parametrize(
    ("heading", "unit", "more", "fact"),
    [
        ("Volume BTC", "usd", {}, "'Volume BTC'"),
        ("Volume USD", "coins", {}, "'Volume USD'"),
        ("Volume", "usd", {"quote_volume": COINS * CLOSES}, "quote_volume"),
        ("Volume", "usd", {"quote_volume": 10 * COINS / CLOSES}, "quote_volume"),
    ],
)
def test_volume_unit_contradicting_the_column_is_refused(
    tmp_path: Path, heading: str, unit: str, more: dict[str, Any], fact: str
) -> None:
    frame = YAHOO.rename(columns={"Volume": heading}).assign(**more)
    assert read(tmp_path, frame, "BTCUSD.csv").mask.all()
    with refused(DataError, f"data.volume_unit={unit}", fact):
        read(tmp_path, frame, "BTCUSD.csv", volume_unit=unit)


BINANCE = next(head for head in FILE_FORMATS if head.vendor == "Binance")


@given(st.sampled_from([10.0, 100.0]), st.floats(0.001, 90_000), st.integers(0, 2**32 - 1))
def test_quote_volume_distinguishes_contracts_from_coins(
    size: float, price: float, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    close = price * np.exp(draw.normal(0, 0.01, 50).cumsum())
    low, high = close * 0.99, close * 1.01
    mean = draw.uniform(low, high)
    count = draw.integers(1, 10_000, 50).astype(float)
    values = np.stack([close, high, low, close, count], axis=1)
    ambiguous = low.min() <= np.sqrt(size) * 1.02 and high.max() >= np.sqrt(size) / 1.02
    if ambiguous:
        return
    coins = convert_crypto_volume(
        values, pd.DataFrame({"quote_volume": count * mean}), BINANCE, None, ""
    )
    assert coins.is_unit_known
    assert coins.coin_volume.tolist() == count.tolist()
    margined = pd.DataFrame({"quote_volume": count * size / mean})
    contracts = convert_crypto_volume(values, margined, BINANCE, None, "")
    assert contracts.is_unit_known
    assert contracts.coin_volume.tolist() == margined["quote_volume"].tolist()
    assert "counts contracts" in contracts.note


def test_inconsistent_quote_volume_leaves_unit_unknown() -> None:
    values = np.full((5, 5), 50.0)
    for column in (0.0, 1.0):
        frame = pd.DataFrame({"quote_volume": np.full(5, column)})
        assert not convert_crypto_volume(values, frame, BINANCE, None, "").is_unit_known
        assert convert_crypto_volume(values, frame, BINANCE, "coins", "").is_unit_known
    assert (
        convert_crypto_volume(values, frame, BINANCE, "usd", "").coin_volume.tolist() == [1.0] * 5
    )
    assert values[0, CLOSE] == 50.0
