from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from foundation.errors import InputError
from marketsimulator import replay
from marketsimulator.runs.weights import Replay

INDEX = pd.DatetimeIndex(
    [
        pd.Timestamp("2024-10-01T14:30Z") + pd.Timedelta(days=d, hours=h)
        for d in range(3)
        for h in range(3)
    ]
)


def frames(
    prices: dict[str, list[float]], opens: dict[str, list[float]] | None = None
) -> dict[str, pd.DataFrame]:
    close = pd.DataFrame(prices, index=INDEX[: len(next(iter(prices.values())))], dtype=float)
    start = close if opens is None else pd.DataFrame(opens, index=close.index, dtype=float)
    return {"open": start, "high": close, "low": close, "close": close, "volume": close * 0 + 1e6}


def weights(bars: dict[str, pd.DataFrame], **rows: list[float]) -> pd.DataFrame:
    return pd.DataFrame(rows, index=bars["close"].index, dtype=float)


def free(w: pd.DataFrame, bars: dict[str, pd.DataFrame], **more: Any) -> Replay:
    return replay(
        w,
        bars,
        **{"capital": 10_000.0, "fee_bps": 0.0, "slippage_bps": 0.0, "interest_rate": 0.0, **more},
    )


@pytest.mark.slow
def test_a_row_decides_on_its_close_and_fills_at_the_next_open() -> None:
    bars = frames({"AAA": [100, 100, 110, 110]}, {"AAA": [100, 101, 100, 110]})
    run = free(weights(bars, AAA=[0.5, float("nan"), 0.0, 0.0]), bars)
    fills = run.fills
    assert fills["at"].tolist() == [INDEX[1], INDEX[3]]
    assert fills["qty"].tolist() == [50, -50]
    assert fills["price"].tolist() == [101, 110]
    assert run.equity.tolist() == [10_000, 9_950, 10_450, 10_450]


def test_costs_move_the_price_and_are_charged() -> None:
    bars = frames({"AAA": [100, 100, 100]})
    run = replay(
        weights(bars, AAA=[0.5, 0.5, 0.5]), bars, capital=10_000.0, fee_bps=10.0, slippage_bps=20.0
    )
    fill = run.fills.iloc[0]
    assert fill["price"] == 100.2
    assert fill["fee"] == pytest.approx(50 * 100.2 * 0.001)
    assert run.equity.iloc[1] == pytest.approx(10_000 - 50 * 0.2 - fill["fee"])


@pytest.mark.slow
def test_caps_and_ceilings_bind_by_day_and_into_the_night() -> None:
    """Three rows a day: what fills at the second row's open may be 4×, at the third's 2×, at
    the next day's first 4×.
    """
    names = [f"S{k}" for k in range(8)]
    bars = frames({name: [100.0] * 9 for name in names})
    run = free(weights(bars, **{name: [0.9] * 9 for name in names}), bars, capital=1_000_000.0)
    held = (
        run.fills.pivot_table(
            index="at", columns="symbol", values="qty", aggfunc="sum", observed=False
        )
        .fillna(0)
        .cumsum()
    )
    gross = (held.reindex(INDEX, method="ffill").fillna(0) * 100).sum(axis=1) / 1_000_000
    assert gross.round(3).tolist() == [0, 4.0, 2.0, 4.0, 4.0, 2.0, 4.0, 4.0, 4.0]
    one = free(weights(frames({"S0": [100.0] * 3}), S0=[0.9] * 3), frames({"S0": [100.0] * 3}))
    assert one.fills["qty"].iloc[0] == 60


def test_shorts_flip_in_two_fills_and_coins_stay_long() -> None:
    bars = frames({"AAA": [100.0] * 4, "BTCUSD": [100.0] * 4})
    run = free(weights(bars, AAA=[0.5, -0.5, -0.5, -0.5], BTCUSD=[-0.5, 0.3, 0.3, 0.3]), bars)
    stock = run.fills[run.fills["symbol"] == "AAA"]
    coin = run.fills[run.fills["symbol"] == "BTCUSD"]
    assert stock["qty"].tolist() == [50, -50, -50]
    assert coin["qty"].tolist() == [30]


def test_a_missing_bar_fills_nothing_and_keeps_its_last_close() -> None:
    gap = float("nan")
    bars = frames({"AAA": [100, 100, gap, 120, 120]}, {"AAA": [100, 100, gap, 120, 120]})
    run = free(weights(bars, AAA=[0.5, 0.0, 0.0, 0.0, 0.0]), bars)
    assert run.fills["qty"].tolist() == [50, -50]
    assert run.fills["at"].iloc[1] == INDEX[4]
    assert run.equity.tolist() == [10_000, 10_000, 10_000, 11_000, 11_000]


def test_a_missing_weight_leaves_a_symbol_as_it_is() -> None:
    bars = frames({"AAA": [100, 100, 100, 100]})
    run = free(weights(bars, AAA=[0.5, float("nan"), float("nan"), 0.1]), bars)
    assert run.fills["qty"].tolist() == [50]


def test_a_debit_pays_its_nights() -> None:
    """100,000 at 2× into one night: a debit of 100,000 at 3.6 % is 10 a night."""
    bars = frames({"AAA": [100.0] * 6, "BBB": [100.0] * 6})
    run = free(
        weights(bars, AAA=[1.0] * 6, BBB=[1.0] * 6),
        bars,
        capital=100_000.0,
        symbol_cap=1.0,
        interest_rate=0.036,
    )
    assert run.equity.iloc[2] == pytest.approx(100_000 - 10.0)
    assert run.equity.iloc[1] == 100_000


def test_increments_are_whole_shares_thousandths_of_a_coin_or_as_given() -> None:
    bars = frames({"AAA": [300.0] * 3, "BTCUSD": [70_000.0] * 3})
    w = weights(bars, AAA=[0.1] * 3, BTCUSD=[0.1] * 3)
    assert free(w, bars).fills["qty"].tolist() == [0.014, 3.0]
    assert free(w, bars, increments=0.5).fills["qty"].tolist() == [3.0]
    assert free(w, bars, increments={"AAA": 2, "BTCUSD": 0.0001}).fills["qty"].tolist() == [
        0.0142,
        2.0,
    ]


def test_frames_keep_their_columns_and_types_when_nothing_fills() -> None:
    bars = frames({"AAA": [100.0] * 3})
    some = free(weights(bars, AAA=[0.5] * 3), bars)
    none = free(weights(bars, AAA=[0.0] * 3), bars)
    assert len(none.fills) == 0
    assert some.fills.dtypes.equals(none.fills.dtypes)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"capital": 0}, "capital: 0"),
        ({"fee_bps": -1}, "fee_bps: -1"),
        ({"symbol_cap": 0}, "symbol_cap"),
        ({"increments": {"AAA": "x"}}, "increments"),
        ({"bars": {}}, "'open' is missing"),
    ],
)
def test_an_argument_that_cannot_be_is_named(change: dict[str, Any], says: str) -> None:
    bars = frames({"AAA": [100.0] * 3})
    given_bars = change.pop("bars", bars)
    with pytest.raises(InputError, match=says):
        free(weights(bars, AAA=[0.5] * 3), given_bars, **change)


def test_frames_that_do_not_fit_are_named() -> None:
    bars = frames({"AAA": [100.0] * 3})
    w = weights(bars, AAA=[0.5] * 3)
    with pytest.raises(InputError, match="index and columns are not those of weights"):
        free(w, {**bars, "close": bars["close"].iloc[:2]})
    with pytest.raises(InputError, match="a price must be above 0"):
        free(w, {**bars, "open": bars["open"] * 0})
    with pytest.raises(InputError, match="there are no rows"):
        free(w.iloc[:0], {k: v.iloc[:0] for k, v in bars.items()})
    with pytest.raises(InputError, match="weights: could not convert"):
        free(w.astype(object).replace(0.5, "half"), bars)
    with pytest.raises(InputError, match="instants that increase"):
        free(w.reset_index(drop=True), {k: v.reset_index(drop=True) for k, v in bars.items()})
