"""Stress-test outcomes: loss, margin call and liquidation of an account in each scenario.

After the price move the account is simulated at constant prices, with the settlement of a backtest:
sessions follow the exchange calendar, margin is assessed at each close, and called positions are
closed at the next opens. No decisions are made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

import numpy as np

from execution.orders.orders import Fill, Order, OrderSizeLimits, Side, default_time_in_force
from foundation.arrays import Array, Instants
from foundation.decimals import round_parts_to_cents, to_cents
from marketsimulator.account.book import Book, set_opening_balance
from marketsimulator.account.broker import SimulatedBroker
from marketsimulator.account.margin import assess_margin, required_equity
from marketsimulator.account.terms import FillTerms
from marketsimulator.results.stress.book import StressedBook
from marketsimulator.results.stress.scenarios import (
    HALTED_MOVE_BASIS,
    PriceMove,
    Scenario,
    scenario_price_moves,
)
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import build_panel
from trainingdata.instruments import AssetClass
from trainingdata.market import Market
from trainingdata.sessions import exchange_calendar, is_in_session, outside_calendar_error
from trainingdata.timeframe import Timeframe, nth_next_bar_end

OPTIONS_LABEL = "options"  # label of the maximum loss of open options
_UNLIMITED_ORDERS = OrderSizeLimits(
    min_fractional_value=0.0, min_crypto_value=0.0, crypto_dust=0.0, max_crypto_value=1e15
)
MAX_MARGIN_CALL_SESSIONS = 10  # closes after which a margin call counts as unmet
# none: no call; met: liquidation met it; nothing_left: unmet, nothing left to close; standing:
# unmet, and more would be closed after the last session.
MarginCallOutcome = Literal["none", "met", "nothing_left", "standing"]


@dataclass(frozen=True, slots=True)
class MarginCheck:
    """Margin of the account at the first close after the price move; amounts in USD."""

    checked_at: np.datetime64
    required_collateral: Decimal  # requirement of the stock positions
    collateral: Decimal  # equity less crypto, after the night's charges
    had_margin_call: bool  # true if a call was open before the move
    has_margin_call: bool  # true if a call was open before the move or at this close
    collateral_shortfall: Decimal  # required less actual collateral; excess if negative
    has_intraday_deficit: bool  # true if there was one before the close


@dataclass(frozen=True, slots=True)
class ScenarioOutcome:
    """Loss, margin and liquidations of an account in one scenario; amounts in USD.

    Leverage is None if the account has no equity.
    """

    name: str
    source: str
    moves: Mapping[str, PriceMove]  # by symbol of the book
    loss: Decimal
    stop_cost: Decimal  # spread, slippage and fees if stops close all positions at the next opens
    losses_by_symbol: Mapping[str, Decimal]  # gains are negative; they add up to `loss`
    equity_after: Decimal  # before any liquidation
    leverage_after: float | None
    margin: MarginCheck
    liquidations: tuple[Fill, ...]  # positions closed by the broker, in order
    call_ending: MarginCallOutcome  # how the margin call ended
    final_equity: Decimal  # after liquidations, their costs and nightly charges
    final_leverage: float | None

    @property
    def loss_with_stops(self) -> Decimal:
        """Return the loss if the price moves in a gap and stops fill at the opens after it."""
        return self.loss + self.stop_cost

    @property
    def is_wiped_out(self) -> bool:
        """Return whether equity is negative after the price move or at the end."""
        return min(self.equity_after, self.final_equity) < 0


@dataclass(frozen=True, eq=False, slots=True)
class StressResult:
    """Result of a stress test: the account and its outcome in each scenario."""

    book: StressedBook
    outcomes: tuple[ScenarioOutcome, ...]

    @property
    def worst_outcome(self) -> ScenarioOutcome | None:
        """Return the outcome with the largest loss; None without scenarios."""
        return max(self.outcomes, key=lambda outcome: outcome.loss, default=None)


def run_stress(
    book: StressedBook, scenarios: Sequence[Scenario], settings: BacktestSettings
) -> StressResult:
    """Run a stress test: apply each scenario to the account separately.

    settings: backtest settings that determine settlement: costs, fees, margin and fills.
    """
    # If a symbol has no volume, no fill is bounded by volume.
    fills = settings.fills if book.volumes.all() else FillTerms(volume_share=None)
    terms = replace(settings, fills=fills)
    outcomes = (
        _simulate_scenario(book, each, scenario_price_moves(each, book), terms)
        for each in scenarios
    )
    return StressResult(book, tuple(outcomes))


def compute_leverage(gross: float, equity: float) -> float | None:
    """Return gross exposure divided by equity; None without positive equity."""
    return gross / equity if equity > 0 else None


def _simulate_scenario(
    book: StressedBook,
    scenario: Scenario,
    moves: Mapping[str, PriceMove],
    settings: BacktestSettings,
) -> ScenarioOutcome:
    """Simulate a scenario and return its outcome.

    The simulation ends when no margin call is open, or when nothing is left that could meet it.
    """
    fractions = np.array([each.fraction for each in moves.values()])
    prices = book.marks * (1.0 + fractions)
    parts = dict(zip(book.symbols, (-book.position_values * fractions).tolist(), strict=True))
    if book.max_option_loss:
        parts[OPTIONS_LABEL] = book.max_option_loss
    lost = sum(parts.values())
    loss = to_cents(lost)
    equity = book.equity

    market = _market_after_moves(book, prices)
    first = market.start_row
    account = _open_account(book, market, settings)
    line = settings.build_timeline(market)
    broker = SimulatedBroker(market, line, account)
    broker.deposit(-book.max_option_loss)
    for symbol, each in moves.items():
        if each.basis == HALTED_MOVE_BASIS:
            broker.set_halted(symbol, True)
    state = account.account[0]
    if not is_in_session(market.run_bars.times[:1])[0]:
        # Positions called at the previous close are closed at the next opens, moved or not.
        assess_margin(account, line.day_terms[line.day_term_rows[first]])
    standing = bool(state["called"])
    first_close, *closes = (
        first + 1 + np.flatnonzero(line.nights_since_previous[first + 1 :] > 0)
    ).tolist()
    broker.advance(first_close)
    required = to_cents(required_equity(account, 0.0))
    collateral = to_cents(float(state["equity"] - state["crypto"]))
    margin = MarginCheck(
        checked_at=broker.now(),
        required_collateral=required,
        collateral=collateral,
        had_margin_call=standing,
        has_margin_call=bool(state["called"]) or standing,
        collateral_shortfall=required - collateral,
        has_intraday_deficit=bool(state["deficits"]),
    )
    ending: MarginCallOutcome = "standing" if state["called"] else "met" if standing else "none"
    for close in closes:
        if ending != "standing":
            break
        sold = len(broker.fills)
        broker.advance(close)
        if not state["called"]:
            ending = "met"
        elif len(broker.fills) == sold:
            ending = "nothing_left"
    gross = float(np.abs(book.position_values * (1.0 + fractions)).sum())
    after = to_cents(equity) - loss
    # Rounded apart, the two would differ where the broker does nothing.
    spent = to_cents(float(state["equity"]) - (equity - lost))
    return ScenarioOutcome(
        name=scenario.name,
        source=scenario.source,
        moves=moves,
        loss=loss,
        stop_cost=to_cents(_cost_of_stops(book, market, moves, settings)),
        losses_by_symbol=round_parts_to_cents(parts, loss),
        equity_after=after,
        leverage_after=compute_leverage(gross, equity - lost),
        margin=margin,
        liquidations=tuple(broker.fills),
        call_ending=ending,
        final_equity=after + spent,
        final_leverage=compute_leverage(
            float(state["stock"] + state["crypto"]), float(state["equity"])
        ),
    )


def _open_account(book: StressedBook, market: Market, settings: BacktestSettings) -> Book:
    """Return the account of a stress test with its positions, before the price moves."""
    account = settings.build_book(market.bars)
    # Shorts were sold for other prices than the present ones, and interest is charged by those.
    short_proceeds = np.array([book.short_proceeds.get(symbol, 0.0) for symbol in book.symbols])
    set_opening_balance(account, book.account.cash, book.quantities, book.marks, short_proceeds)
    return account


def _cost_of_stops(
    book: StressedBook, market: Market, moves: Mapping[str, PriceMove], settings: BacktestSettings
) -> float:
    """Return spread, slippage and fees if stops close all positions at the opens after the move.

    A stop does not limit the loss of a gap between two bars: it fills at the open after it. A
    halted symbol is not closed.
    """
    settings = replace(settings, fills=FillTerms(volume_share=None))
    account = _open_account(book, market, settings)
    line = settings.build_timeline(market)
    broker = SimulatedBroker(market, line, account, _UNLIMITED_ORDERS)
    opened = bool(is_in_session(market.run_bars.times[:1])[0])
    orders = []
    for symbol, held in book.account.positions.items():
        if held and moves[symbol].basis != HALTED_MOVE_BASIS:
            tif = default_time_in_force(symbol, None if opened else "opg")
            side: Side = "sell" if held > 0 else "buy"
            orders.append(Order(f"stop-{symbol}", symbol, side, abs(held), "a stop", True, tif=tif))
    broker.submit(orders)
    broker.advance(market.start_row + 1)
    paid = sum(each.usd for each in broker.bookings if each.kind in ("spread", "slippage"))
    return sum(fill.fee for fill in broker.fills) - paid


def _market_after_moves(book: StressedBook, prices: Array) -> Market:
    """Return a market of the account's recent bars, followed by bars at constant prices [S].

    Stocks have all bars of the next `MAX_MARGIN_CALL_SESSIONS` sessions. Crypto has one bar,
    because it is not liquidated. Each bar has the median volume of its symbol. There are no
    corporate actions.
    """
    timeframe = book.past_bars.timeframe
    ends = _ends_of_stock_bars(timeframe, book.account.as_of)
    now = np.array([book.account.as_of])
    next_bar = nth_next_bar_end(timeframe.clock(AssetClass.CRYPTO), now, 1)
    tables = []
    for s, (item, usual) in enumerate(zip(book.past_bars.instruments, book.volumes, strict=True)):
        times, values = book.recent_bars(s)
        if not len(times) or times[-1] != book.account.as_of:
            times = np.concatenate([times, now])
            values = np.concatenate([values, [[*[book.marks[s]] * 4, usual]]])
        later = next_bar if item.kind is AssetClass.CRYPTO else ends
        flat = np.tile([*[prices[s]] * 4, usual], (len(later), 1))
        tables.append((item, np.concatenate([times, later]), np.concatenate([values, flat])))
    # Sessions close whether anything of the book trades in them or not.
    bars = build_panel(tables, book.description, timeframe, ends)
    return Market(bars, int(np.searchsorted(bars.times, book.account.as_of)))


def _ends_of_stock_bars(timeframe: Timeframe, at: np.datetime64) -> Instants:
    """Return the ends of the stock bars in the next `MAX_MARGIN_CALL_SESSIONS` sessions."""
    closes = exchange_calendar().closes
    first = int(np.searchsorted(closes, at, side="right"))
    if first + MAX_MARGIN_CALL_SESSIONS + 1 >= len(closes):
        raise outside_calendar_error(at)
    ends = timeframe.stock_clock.ends
    return np.asarray(ends[(ends > at) & (ends <= closes[first + MAX_MARGIN_CALL_SESSIONS])])
