"""Nine days of bars at random, and a run that trades them at random, beyond what it can carry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import numpy as np

from execution.decision.choice import NO_RATIONALE, Choice, Rationale
from execution.decision.decision import Decision, decision_from_choices
from execution.orders.broker import place_orders
from execution.orders.fees import CryptoTier, DatedRate, FeeSchedule, TradingCosts
from execution.orders.lending import MarginTerms, SymbolRate
from execution.orders.orders import Order
from marketsimulator.account.terms import FillTerms
from marketsimulator.run_result import EquityRow, Run
from sizing.binding import LIMITS_WITH_SHADOW_PRICE
from tests.marketsimulator.accounts import account_on, ended, market, panel_of
from trainingdata.bars import Bars
from trainingdata.corporate_actions import CorporateAction
from trainingdata.delistings import DelistingRules
from trainingdata.sessions import first_open_on_or_after
from trainingdata.timeframe import HOURLY, Timeframe

NAN = float("nan")
SYMBOLS = ("AAA", "BBB", "BTCUSD", "XRPUSD")
STOCKS = SYMBOLS[:2]
FEES = FeeSchedule(
    sec_per_dollar=(DatedRate("2000-01-01", 2.78e-5), DatedRate("2026-06-03", 2.06e-5)),
    taf_per_share=(DatedRate("2000-01-01", 0.000166, 0.30),),
    cat_per_share=(DatedRate("2000-01-01", 0.000003),),
    crypto_tiers=(CryptoTier(0, 0.0015, 0.0025), CryptoTier(20_000, 0.0012, 0.0022)),
    commission_bps=0.3,
    commission_per_share=0.005,
)
COSTS = TradingCosts(1.5, 1.0, 0.0, 2.0, 1.0, 0.0)
BEGINS, ENDS = "2026-05-27", "2026-06-05"  # the pattern-day-trader rule ends on the last day
PRICES = {"AAA": 100.0, "BBB": 5.4, "BTCUSD": 60_000.0, "XRPUSD": 0.9}
ACTIONS = tuple(
    CorporateAction(symbol, first_open_on_or_after(np.datetime64(date, "D")), ratio, dividend)  # type: ignore[arg-type]
    for symbol, date, ratio, dividend in (
        ("AAA", "2026-06-02", 1.0, 0.435),
        ("AAA", "2026-06-03", 1.5, 0.0),
        ("BBB", "2026-06-04", 0.1, 0.0113717),
    )
)


def bars_of(rng: np.random.Generator, wild: float, volume: float, timeframe: Timeframe) -> Bars:
    """Two stocks in seven sessions, two coins at some hours of nine days; some bars are missing,
    some have no volume. Daily ones go back two months.
    """
    grid = timeframe.stock_clock.ends
    begins = "2026-04-01" if timeframe.is_daily else BEGINS
    ends = grid[(grid >= np.datetime64(begins)) & (grid < np.datetime64(ENDS))]
    days = np.arange(begins, ENDS, dtype="datetime64[D]").astype("datetime64[ns]")
    looked_at = np.array([0] if timeframe.is_daily else [3, 12, 15, 16, 21])
    hours = (days[:, None] + looked_at * np.timedelta64(1, "h")).ravel()
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
    return panel_of(tables, timeframe=timeframe)


MARGIN = MarginTerms(
    borrow_rate=0.02,
    borrow_rates=(SymbolRate("BBB", 0.4),),
    cash_rate=0.03,
    requirements=(SymbolRate("BBB", 0.6),),
)


def ended_bars(bars: Bars, endings: DelistingRules, seed: int) -> Bars:
    """The bars up to the listed ends; of a symbol of each class up to an instant at random."""
    last = {each.symbol: each.effective_open for each in endings.explicit_delistings}
    at = bars.times[np.random.default_rng(seed).integers(8, len(bars.times) - 8, 2)]
    last = {"BBB": at[0], "XRPUSD": at[1]} | last
    return ended(bars, last)


def rationale(rng: np.random.Generator) -> Rationale:
    if rng.random() < 0.1:
        return NO_RATIONALE
    premium, forecast = rng.normal(0, 2, 2).tolist()
    return NO_RATIONALE._replace(premium_weight=premium, forecast_weight=forecast)


def binding(rng: np.random.Generator) -> dict[str, float]:
    if rng.random() < 0.5:
        return dict.fromkeys(rng.choice(LIMITS_WITH_SHADOW_PRICE, 2).tolist(), 0.001)
    return {"cost": NAN} if rng.random() < 0.3 else {}


def wild_run(
    seed: int,
    capital: float,
    wild: float,
    big: float = 2.0,
    margin: MarginTerms = MARGIN,
    fills: FillTerms | None = None,
    endings: DelistingRules | None = None,
    timeframe: Timeframe = HOURLY,
) -> tuple[Run, Bars, TradingCosts]:
    """Random decisions with random orders, some for more than the account can carry.

    endings: of symbols, whose bars end with them; so do those of one stock and one coin.
    """
    rng = np.random.default_rng(seed)
    bars = bars_of(rng, wild, 4 * capital, timeframe)
    if endings is not None:
        bars = ended_bars(bars, endings, seed)
    impact = float(seed % 2)
    costs = replace(COSTS, stock_impact=impact, crypto_impact=impact)
    broker = account_on(
        bars,
        capital,
        costs=costs,
        fees=FEES,
        fills=fills or FillTerms(remainder="carry" if seed % 3 else "cancel"),
        margin=margin,
        impact=bool(impact),
        actions=ACTIONS,
        endings=endings,
    )
    decisions: list[Decision] = []
    rows: list[EquityRow] = []
    for t in range(len(bars.times)):
        if t:
            broker.advance(t)
        account = broker.account()
        choices, orders, cancels = [], [], []
        for number, symbol in enumerate(rng.permutation(SYMBOLS)[: rng.integers(0, 4)].tolist()):
            price = account.prices.get(symbol)
            if price is None:
                continue
            worth = max(account.equity, 1_000.0) * big * rng.normal(0.1, 0.4)
            qty = round(worth / price, 3) if symbol.endswith("USD") else float(int(worth / price))
            weights = rng.normal(0, 2, 2).tolist()
            held = float(account.projected_positions.get(symbol, 0)) * price
            held = held / account.equity if account.equity > 0 else NAN
            kelly = NAN if rng.random() < 0.1 else weights[0]
            basis_, limits = rationale(rng), binding(rng)
            amount = Decimal(repr(qty))
            choices.append(
                Choice(
                    symbol, 0.0, 0.01, kelly, held, weights[1], amount, price, limits, 0.0, basis_
                )
            )
            position = account.positions.get(symbol, Decimal(0))
            sent = legs(f"o{t}-{number}", symbol, qty, float(position))
            if timeframe.is_daily and symbol in STOCKS:
                sent = [replace(order, tif="opg") for order in sent]
            orders += sent
            for waits in account.open_orders if sent else ():
                against = min(position * waits.signed_qty, waits.signed_qty * amount) < 0
                if waits.symbol == symbol and against:
                    cancels.append(waits)
        decision = decision_at(account.as_of, account.equity, choices, orders, cancels)
        decisions.append(decision)
        place_orders(broker, decision.orders, decision.cancelled_quantities)
        broker.open_bars()
        rows.append(broker.equity_row())
    events = broker.margin_event_counts()
    return Run("wild", decisions, broker.fills, rows, events, broker.bookings), bars, costs


def legs(name: str, symbol: str, qty: float, held: float) -> list[Order]:
    """An order, or one that closes what is held and one that opens the other side."""
    if held * qty >= 0:
        return [market(name, symbol, qty)] if qty else []
    first = math.copysign(min(abs(qty), abs(held)), qty)
    closing = replace(market(name, symbol, first), reduces=True)
    rest = 0.0 if symbol.endswith("USD") else qty - first
    return [closing, *([market(f"{name}-then", symbol, rest)] if rest else [])]


def decision_at(
    at: np.datetime64,
    equity: float,
    choices: list[Choice],
    orders: list[Order],
    cancels: Sequence[Order] = (),
) -> Decision:
    decision = decision_from_choices(at, at, equity, 1.0, choices, tuple(orders))
    return replace(decision, orders_to_cancel=tuple(cancels))
