"""Whatever is ordered on whatever bars, an account is what a second book, kept by hand, says it
is, after every fill.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from execution.fees import CryptoTier, DatedRate, FeeSchedule, TradingCosts
from execution.lending import MarginTerms, SymbolRate
from marketsimulator.account.broker import SimulatedBroker
from marketsimulator.account.terms import FillTerms
from tests.marketsimulator.accounts import account_on, market, panel_of, stock_ends
from tests.marketsimulator.ledger import Ledger
from trainingdata.actions import Action
from trainingdata.bars import Bars
from trainingdata.sessions import known_at, session_open

SYMBOLS = ("AAA", "BBB", "BTCUSD", "XRPUSD")
STOCKS = SYMBOLS[:2]
COINS = SYMBOLS[2:]
FEES = FeeSchedule(
    sec_per_dollar=(DatedRate("2000-01-01", 2.78e-5), DatedRate("2026-06-03", 2.06e-5)),
    taf_per_share=(DatedRate("2000-01-01", 0.000166, 0.30),),
    cat_per_share=(DatedRate("2000-01-01", 0.000003),),
    crypto_tiers=(CryptoTier(0, 0.0015, 0.0025), CryptoTier(20_000, 0.0012, 0.0022)),
    commission_bps=0.3,
    commission_per_share=0.005,
)
COSTS = TradingCosts(1.5, 1.0, 0.0, 2.0, 1.0, 0.0)
BEGINS = "2026-06-01"  # Monday: the pattern-day-trader rule ends on Thursday
PRICES = {"AAA": 100.0, "BBB": 5.4, "BTCUSD": 60_000.0, "XRPUSD": 0.9}
ACTIONS = tuple(
    Action(symbol, session_open(np.datetime64(date, "D")), ratio, dividend)  # type: ignore[arg-type]
    for symbol, date, ratio, dividend in (
        ("AAA", "2026-06-02", 1.0, 0.37123),
        ("AAA", "2026-06-03", 1.5, 0.0),
        ("BBB", "2026-06-04", 0.1, 0.0113717),
    )
)


def bars_of(rng: np.random.Generator, wild: float, volume: float) -> Bars:
    """A week of two stocks, and of two coins at some hours of the day; some bars are missing,
    some have no volume.
    """
    ends = stock_ends(BEGINS, 35)
    days = np.arange(np.datetime64("2026-06-01", "D"), np.datetime64("2026-06-06", "D")).astype(
        "datetime64[ns]"
    )
    hours = (days[:, None] + np.array([3, 15, 16, 18, 21, 23]) * np.timedelta64(1, "h")).ravel()
    tables = {}
    for symbol in SYMBOLS:
        times = ends if symbol in STOCKS else hours
        kept = times[rng.random(len(times)) < 0.93]
        close = PRICES[symbol] * np.exp(np.cumsum(rng.normal(0, wild, len(kept))))
        start = np.append(PRICES[symbol], close[:-1]) * np.exp(rng.normal(0, wild / 3, len(kept)))
        traded = np.where(
            rng.random(len(kept)) < 0.05, 0.0, volume / PRICES[symbol] * rng.random(len(kept))
        )
        rows = [start, np.maximum(start, close), np.minimum(start, close), close, traded]
        tables[symbol] = kept, np.stack(rows, axis=1)
    return panel_of(tables)


@dataclass
class Pair:
    """A broker and the book kept beside it."""

    bars: Bars
    broker: SimulatedBroker
    ledger: Ledger
    seen: int = 0

    @classmethod
    def on(
        cls,
        bars: Bars,
        capital: float,
        fills: FillTerms,
        actions: tuple[Action, ...] = (),
        **terms: Any,
    ) -> Pair:
        margin = MarginTerms(**terms)
        broker = account_on(
            bars, capital, costs=COSTS, fees=FEES, fills=fills, margin=margin, actions=actions
        )
        ledger = Ledger(bars.instruments, COSTS, FEES, margin, fills, capital, actions)
        ledger.begin(bars)
        return cls(bars, broker, ledger)

    def new(self) -> list[Any]:
        fills = self.broker.fills[self.seen :]
        self.seen = len(self.broker.fills)
        return fills

    def bar_from(self, symbol: str, t: int) -> tuple[float, float] | None:
        """Open and volume of the bar that starts at an instant, where it can fill."""
        kind = self.bars.instruments[self.bars.symbols.index(symbol)].kind
        end = known_at(kind, self.bars.times[t : t + 1])[0]
        k = len(self.bars.times) if np.isnat(end) else int(np.searchsorted(self.bars.times, end))
        there = k < len(self.bars.times) and self.bars.times[k] == end
        return self.ledger.bar(self.bars, symbol, k) if there else None

    def agree(self) -> None:
        row = self.broker.row()
        account = self.broker.account()
        ledger = self.ledger
        assert account.cash == pytest.approx(ledger.cash, abs=1e-5)
        assert {s: float(q) for s, q in account.positions.items()} == {
            s: q for s, q in ledger.held.items() if q
        }
        assert row.equity == pytest.approx(ledger.equity, abs=1e-5)
        assert row.gross_stock == pytest.approx(ledger.gross(coins=False), abs=1e-5)
        assert row.gross_crypto == pytest.approx(ledger.gross(coins=True), abs=1e-5)
        assert account.unsettled == pytest.approx(ledger.unsettled_sales, abs=1e-3)
        assert account.unborrowed_cash == pytest.approx(ledger.power("BTCUSD", False), abs=1e-3)
        assert account.short_proceeds == pytest.approx(sum(ledger.sold.values()), abs=1e-3)
        for name in (
            "interest",
            "borrow",
            "rounding",
            "other",
            "fees",
            "dividends",
            "spread",
            "slippage",
        ):
            assert getattr(row, name) == pytest.approx(ledger.flows[name], abs=1e-5), name
        assert self.broker.margin_events() == {
            name: ledger.events[name]
            for name in ("margin_calls", "deficits", "freezes", "refusals")
        }


def orders_of(rng: np.random.Generator, ledger: Ledger, big: float) -> Iterator[tuple[str, float]]:
    """What somebody might send, one after another: reductions and additions, some beyond all
    that the account can carry.
    """
    for symbol in rng.choice(SYMBOLS, int(rng.integers(0, 6))).tolist():
        coin = symbol in COINS
        price = ledger.marks.get(symbol, PRICES[symbol])
        held = ledger.held[symbol]
        worth = max(ledger.equity, 1_000.0) * big * rng.exponential(0.4)
        qty = round(worth / price, 3) if coin else float(int(worth / price))
        sign = 1.0 if rng.random() < 0.6 else -1.0
        if held * sign < 0:
            qty = abs(held) if rng.random() < 0.5 else min(qty, abs(held))
        if qty > 0:
            yield symbol, sign * qty


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    capital=st.sampled_from([1_500.0, 2_100.0, 24_000.0, 26_000.0, 100_000.0, 2_000_000.0]),
    regime=st.sampled_from(["current", "dated"]),
    debit=st.sampled_from(["trade", "settlement"]),
    proceeds=st.sampled_from(["held", "credited"]),
    share=st.sampled_from([None, 0.1]),
    shortfall=st.sampled_from(["cut", "refuse"]),
    wild=st.sampled_from([0.005, 0.03]),
    big=st.sampled_from([0.4, 2.0]),
)
def test_a_second_book_kept_by_hand_agrees_after_every_fill(
    seed: int,
    capital: float,
    regime: Any,
    debit: Any,
    proceeds: Any,
    share: Any,
    shortfall: Any,
    wild: float,
    big: float,
) -> None:
    rng = np.random.default_rng(seed)
    bars = bars_of(rng, wild, 4 * capital)
    rates = {"borrow_rate": 0.02, "borrow_rates": (SymbolRate("BBB", 0.4),), "cash_rate": 0.03}
    special = {
        "requirements": (SymbolRate("BBB", 0.6),),
        "interest_rates": (DatedRate("2026-06-03", 0.08),),
    }
    pair = Pair.on(
        bars, capital, FillTerms(volume_share=share, shortfall=shortfall), ACTIONS,
        regime=regime, debit=debit, short_proceeds=proceeds, **rates, **special,
    )  # fmt: skip
    ledger = pair.ledger
    broker = pair.broker
    for t in range(len(bars.times)):
        if t:
            broker.advance(t)
            ledger.advance(bars, t, pair.new())
        broker.row()
        closed = pair.new()
        ledger.broker_closes(closed, {s: pair.bar_from(s, t) for s in STOCKS})
        ledger.take(closed)
        pair.agree()
        for k, (symbol, qty) in enumerate(orders_of(rng, ledger, big)):
            bar = pair.bar_from(symbol, t)
            expected = 0.0 if bar is None else ledger.answer(symbol, qty, *bar)
            broker.submit([market(f"o{t}-{k}", symbol, qty)])
            fills = pair.new()
            assert sum(float(f.qty) for f in fills if f.price > 0) == pytest.approx(
                expected, abs=1e-9
            )
            for fill in fills[:1]:
                assert bar is not None
                ledger.at(symbol, float(fill.qty), bar[0])
                assert fill.price == pytest.approx(ledger.price(symbol, qty, bar[0]), abs=1e-9)
                assert fill.fee == pytest.approx(
                    ledger.fee(symbol, float(fill.qty), fill.price), abs=2e-6
                )
            for fill in fills[1:]:
                assert (fill.price, fill.fee) == (0.0, 0.0)
                assert float(fill.qty) == pytest.approx(ledger.coin_fee(expected), abs=1.1e-9)
            ledger.take(fills)
            pair.agree()
