"""Given weights, followed by hand: `replay` against a second book that reads its docstring,
margin and settlement included.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from execution.orders.fees import CryptoTier, FeeSchedule, TradingCosts
from execution.orders.lending import MarginTerms
from foundation.errors import InputError
from marketsimulator import replay
from marketsimulator.account.terms import FillTerms
from tests.marketsimulator.account_book import Bar, Book, exact, exactly, whole
from tests.support.messages import refused
from trainingdata.instants import new_york_date
from trainingdata.instruments import instrument

NAMES = ["AAA", "BBB", "BTCUSD", "CCC", "XRPUSD"]
ITEMS = [instrument(name) for name in NAMES]
STEPS = np.array([float(item.qty_increment) for item in ITEMS])
COINS = np.array([name.endswith("USD") for name in NAMES])
PRICES = np.array([100.0, 5.0, 60_000.0, 40.0, 0.8])


@dataclass
class Follower:
    """What `replay` promises, one row after another."""

    book: Book
    cap: float
    leverage: tuple[float, float]
    fills: list[tuple[int, str, float, float]] = field(default_factory=list)

    def follow(
        self, weights: np.ndarray, opens: np.ndarray, closes: np.ndarray, dates: np.ndarray
    ) -> list[float]:
        """Equity at each row's close."""
        book = self.book
        rows = len(weights)
        values = []
        targets = np.zeros(len(NAMES))
        waits = np.zeros(len(NAMES), dtype=bool)
        for t in range(rows):
            book.date = str(dates[t])
            if t:
                bars = {
                    name: Bar(t, exact(open_), Decimal("inf"))
                    for name, open_ in zip(NAMES, opens[t], strict=True)
                    if not np.isnan(open_)
                }
                if dates[t] != dates[t - 1]:
                    book.open_session()
                book.liquidate(bars)
                waits = self._move(targets, bars)
            book.marks |= {n: exact(p) for n, p in zip(NAMES, closes[t], strict=True) if p == p}
            if t + 1 < rows and dates[t + 1] != dates[t]:
                book.close_session(int((dates[t + 1] - dates[t]).astype(int)))
            values.append(float(book.equity))
            self.fills += [(t, f[1], float(f[2]), float(f[3])) for f in book.fills]
            book.fills.clear()
            evening = int(t + 2 < rows and dates[t + 2] != dates[t + 1])
            kept = np.where(waits, targets, self._held())
            targets = self._targets(weights[t], kept, self.leverage[evening])
        return values

    def _move(self, targets: np.ndarray, bars: dict[str, Bar]) -> np.ndarray:
        """Reductions by column, coins, then the rest; what a missing bar keeps from its target.

        Beside a reduction that finds no bar, gross exposure stays within equity, or within what
        was planned.
        """
        held = self._held()
        unfilled = 0.0
        for s in np.flatnonzero(held * (targets - held) < 0):
            wanted = self._whole(targets[s] - held[s], s) if targets[s] * held[s] > 0 else -held[s]
            rest = abs(wanted) - abs(self._trade(s, wanted, bars))
            unfilled += rest * self._marks()[s] if rest > 1e-9 else 0.0
        now = self._held()
        wanted = np.array([self._whole(targets[s] - now[s], s) for s in range(len(NAMES))])
        worth = np.abs(wanted) * self._marks() * (now * wanted >= 0)
        free = float(self.book.equity) - (np.abs(now) * self._marks()).sum()
        left = max(free, worth.sum() - unfilled) + 1e-6
        for s in [*np.flatnonzero(COINS), *np.flatnonzero(~COINS)]:
            if now[s] * wanted[s] >= 0 and (not unfilled or worth[s] <= left):
                left -= worth[s]
                self._trade(s, wanted[s], bars)
        missing = np.array([name not in bars for name in NAMES])
        return (targets != self._held()) & (missing | (unfilled > 0))

    def _marks(self) -> np.ndarray:
        """The last closes; 0 before the first."""
        return np.array([float(self.book.marks.get(name, 0)) for name in NAMES])

    def _trade(self, s: int, wanted: float, bars: dict[str, Bar]) -> float:
        if not wanted or NAMES[s] not in bars:
            return 0.0
        return float(self.book.trade(NAMES[s], exact(round(wanted, 9)), bars[NAMES[s]]))

    def _targets(self, weights: np.ndarray, kept: np.ndarray, ceiling: float) -> np.ndarray:
        """Cut to the cap, scaled to the ceiling beside what has no weight: it keeps its quantity,
        or the target that waits for a bar.
        """
        book = self.book
        closes = self._marks()
        equity = float(book.equity)
        lends = equity >= book.terms["margin_equity"]
        ceiling = ceiling if lends else min(ceiling, 1.0)
        units = np.where(COINS, 1.0, 1 / ceiling)
        known = ~np.isnan(weights)
        if equity <= 0:
            return np.where(known, 0.0, kept)
        worth = np.maximum(np.abs(kept), np.abs(self._held())) * closes
        least = np.where(COINS | (not lends), 0.0, -self.cap)
        asked = np.where(known, np.clip(np.nan_to_num(weights), least, self.cap), 0.0)
        left = max(0.0, 1 - (np.abs(worth) * units)[~known].sum() / equity)
        gross = (np.abs(asked) * units).sum()
        scale = min(1.0, left / gross) if gross else 0.0
        return np.array(
            [
                self._whole(asked[s] * scale * equity / closes[s], s) if known[s] else kept[s]
                for s in range(len(NAMES))
            ]
        )

    def _held(self) -> np.ndarray:
        return np.array([float(self.book.held[name]) for name in NAMES])

    @staticmethod
    def _whole(quantity: float, s: int) -> float:
        return float(whole(exact(round(quantity, 9)), exact(STEPS[s])))


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    capital=st.sampled_from([1_900.0, 2_100.0, 50_000.0, 3_000_000.0]),
    wild=st.sampled_from([0.01, 0.12]),
    size=st.sampled_from([0.3, 2.0]),
    leverage=st.sampled_from([(4.0, 2.0), (6.0, 5.0), (2.0, 9.0)]),
    cap=st.sampled_from([0.4, 1.5]),
    gaps=st.sampled_from([0.0, 0.1]),
)
def test_replayed_weights_match_an_independent_book(
    seed: int,
    capital: float,
    wild: float,
    size: float,
    leverage: tuple[float, float],
    cap: float,
    gaps: float,
) -> None:
    rng = np.random.default_rng(seed)
    stamps = [
        f"2024-10-{day:02}T{hour}:30" for day in (1, 2, 3, 4, 7, 8, 9, 10) for hour in (15, 17, 20)
    ]
    index = pd.DatetimeIndex(stamps, tz="UTC")[rng.random(24) < 0.9]
    shape = (len(index), len(NAMES))
    closes = PRICES * np.exp(np.cumsum(rng.normal(0, wild, shape), axis=0))
    opens = np.vstack([PRICES, closes[:-1]]) * np.exp(rng.normal(0, wild / 4, shape))
    missing = rng.random(shape) < gaps
    closes[missing] = opens[missing] = np.nan
    weights = np.where(rng.random(shape) < gaps, np.nan, rng.normal(0, size, shape))
    weights[rng.random(shape) < 0.1] = 0.0
    weights[:, COINS] = np.abs(weights[:, COINS])
    frames = {
        name: pd.DataFrame(values, index, NAMES)
        for name, values in (("open", opens), ("close", closes))
    }
    run = replay(
        pd.DataFrame(weights, index, NAMES),
        frames,
        capital=capital,
        fee_bps=2.0,
        slippage_bps=3.0,
        symbol_cap=cap,
        intraday_leverage=leverage[0],
        overnight_leverage=leverage[1],
        interest_rate=0.2,
        accept_jumps=True,
    )
    for s, first in enumerate((~np.isnan(closes)).argmax(axis=0)):
        stated = weights[: first + 1, s]
        stated = stated[~np.isnan(stated)]
        weights[: first + 1, s] = np.nan
        weights[first, s] = stated[-1] if len(stated) else np.nan
    parts = {
        "fees": FeeSchedule(crypto_tiers=(CryptoTier(0.0, 0.0, 0.0),), commission_bps=2.0),
        "margin": MarginTerms(leverage=leverage[0], order_price_buffer=1.0, interest_rate=0.2),
        "fills": FillTerms(volume_share=None),
        "costs": TradingCosts(0, 3, 0, 0, 3, 0),
    }
    config = exactly({name: asdict(part) for name, part in parts.items()})
    book = Book(
        config | {"increments": "original"}, coins=frozenset(NAMES[2::2]), cash=exact(capital)
    )
    follower = Follower(book, cap, (leverage[0], min(leverage)))
    dates = new_york_date(index.tz_localize(None).to_numpy("datetime64[ns]"))
    equity = follower.follow(weights, opens, closes, dates)
    found = [(index.get_loc(f.at), f.symbol, f.qty, f.price) for f in run.fills.itertuples()]
    assert [f[:2] for f in found] == [f[:2] for f in follower.fills]
    np.testing.assert_allclose(
        [f[2:] for f in found], [f[2:] for f in follower.fills], rtol=0, atol=1e-9
    )
    np.testing.assert_allclose(run.equity, equity, rtol=0, atol=1e-4)


def rows(count: int) -> pd.DatetimeIndex:
    stamps = [f"2024-10-0{1 + k // 3}T{15 + 2 * (k % 3)}:30" for k in range(count)]
    return pd.DatetimeIndex(stamps, tz="UTC")


def test_replay_defaults_match_its_docstring() -> None:
    """Weights twice above the cap, by day and overnight, with costs and interest: each default
    changes the equity.
    """
    rng = np.random.default_rng(5)
    index = rows(9)
    names = [f"S{k}" for k in range(9)]
    close = pd.DataFrame(100 * np.exp(np.cumsum(rng.normal(0, 0.02, (9, 9)), axis=0)), index, names)
    weights = pd.DataFrame(rng.choice([0.9, -0.9, 0.3], (9, 9)), index, names)
    bars = {"open": close.shift(1).fillna(100.0), "close": close}
    named = {
        "capital": 100_000.0,
        "fee_bps": 1.0,
        "slippage_bps": 1.0,
        "symbol_cap": 0.6,
        "intraday_leverage": 4.0,
    }
    named |= {"overnight_leverage": 2.0, "interest_rate": 0.065}
    plain = replay(weights, bars, symbol_cap=0.6).equity
    pd.testing.assert_series_equal(plain, replay(weights, bars, **named).equity)
    for name, value in named.items():
        assert not replay(weights, bars, **{**named, name: value * 0.9}).equity.equals(plain), name
    uncapped = {**named, "symbol_cap": 0.9}
    pd.testing.assert_series_equal(
        replay(weights, bars).equity, replay(weights, bars, **uncapped).equity
    )


def flat(**prices: float) -> dict[str, pd.DataFrame]:
    """Three rows at these prices."""
    frame = pd.DataFrame({name: [price] * 3 for name, price in prices.items()}, rows(3))
    return {"open": frame, "close": frame}


def test_replay_rounds_to_default_or_given_increments() -> None:
    bars = flat(AAA=300.0, BTCUSD=70_000.0)
    own = {"AAA": 2, "BTCUSD": 0.0001}
    for increments, found in ((None, [0.014, 3.0]), (0.5, [3.0]), (own, [0.0142, 2.0])):
        named = {"capital": 10_000.0, "fee_bps": 0.0, "slippage_bps": 0.0, "increments": increments}
        assert replay(bars["close"] * 0 + 0.1, bars, **named).fills["qty"].tolist() == found
    nothing = replay(bars["close"] * 0, bars).fills
    assert not len(nothing)
    assert nothing.dtypes.equals(replay(bars["close"] * 0 + 0.1, bars).fills.dtypes)


def twice(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame, frame], axis=1)


DAYS = pd.DatetimeIndex(["2024-10-01", "2024-10-02", "2024-10-03"])


def coin(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.set_axis(["BTCUSD"], axis=1)


def candles(bars: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One symbol's frame, as backtesting.py and yfinance name its columns."""
    return pd.DataFrame({"Open": bars["open"]["AAA"], "Close": bars["close"]["AAA"]})


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (lambda w, b: (w, b, {"capital": 0}), ("capital", "0")),
        (lambda w, b: (w, b, {"fee_bps": -1}), ("fee_bps", "-1")),
        (lambda w, b: (w, b, {"slippage_bps": 5e3}), ("slippage_bps", "5000.0")),
        (lambda w, b: (w * np.inf, b, {}), ("weights",)),
        (lambda w, b: (twice(w), {k: twice(v) for k, v in b.items()}, {}), ("AAA", "2")),
        (lambda w, b: (w, b, {"increments": {"AAA": "x"}}), ("increments", "AAA", "'x'")),
        (lambda w, b: (w, {}, {}), ("'open'",)),
        (lambda w, b: (w, {**b, "close": b["close"][:2]}, {}), ("bars",)),
        (lambda w, b: (w, {**b, "open": b["open"] * 0}, {}), ("price", "0")),
        (lambda w, b: (w[:0], {k: v[:0] for k, v in b.items()}, {}), ()),
        (lambda w, b: (w, {k: v[["AAA"][:0]] for k, v in b.items()}, {}), ("AAA",)),
        (lambda w, b: (w, {k: v[1:] for k, v in b.items()}, {}), ("2024-10-01 15:30",)),
        (lambda w, b: (w.tz_localize(None), b, {}), ("weights", "time zone")),
        (lambda w, b: (w.tz_localize(None).set_axis(DAYS), b, {}), ("weights",)),
        (lambda w, b: (w, {"BBB": b["open"]}, {}), ("'open'", "BBB")),
        (lambda w, b: (w, {"BBB": candles(b)}, {}), ("AAA", "BBB")),
        (lambda w, b: (w, {"AAA": b["open"], "BBB": candles(b)}, {}), ("AAA",)),
        (lambda w, b: (w, {"open": b["open"].to_numpy()}, {}), ("DataFrame",)),
        (lambda w, b: (w, b["close"].assign(B=1), {}), ("'open'",)),
        (lambda w, b: (w.astype(object).replace(0.5, "x"), b, {}), ("weights",)),
        (
            lambda w, b: (w.reset_index(drop=True), {k: v.reset_index() for k, v in b.items()}, {}),
            (),
        ),
        (lambda w, b: (w.to_numpy(), b, {}), ("weights", "DataFrame", "ndarray")),
        (lambda w, b: (None, b, {}), ("weights", "DataFrame")),
        (lambda w, b: (w, b["open"].to_numpy(), {}), ("bars", "ndarray")),
        (lambda w, b: (w, None, {}), ("bars",)),
        (lambda w, b: (w, b, {"increments": {"AAB": 2}}), ("increments", "AAB", "AAA")),
        (
            lambda w, b: (coin(-w), {k: coin(v) for k, v in b.items()}, {}),
            ("weights", "BTCUSD", "-0.5"),
        ),
        (lambda w, b: (w, {k: v.mul([1, 1, 0.5], axis=0) for k, v in b.items()}, {}), ("2:1",)),
        (lambda w, b: (w, b, {"symbol_cap": 0}), ("symbol_cap", "0")),
    ],
)
def test_invalid_replay_input_is_refused_in_one_line(change: Any, facts: tuple[str, ...]) -> None:
    bars = flat(AAA=100.0)
    weights, given, named = change(bars["close"] * 0 + 0.5, bars)
    with refused(InputError, *facts):
        replay(weights, given, **named)
