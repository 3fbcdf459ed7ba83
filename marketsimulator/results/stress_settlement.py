"""What the broker does to a book whose prices have moved: the simulator's own settlement, stepped.

From the book's instant on every price is where the move has left it. Sessions open and close by
the exchange's calendar, margin is looked at as in a backtest, and what is called is closed at the
next opens. Nobody decides anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from execution.fees import FeeSchedule, TradingCosts
from execution.lending import MarginTerms
from execution.orders import Fill
from foundation.arrays import Array, Instants
from marketsimulator.account.book import Book, hold, new_book
from marketsimulator.account.broker import SimulatedBroker
from marketsimulator.account.margin import close_margin, required_equity
from marketsimulator.account.terms import FillTerms, holdings_of, tier_table
from marketsimulator.account.timeline import timeline
from marketsimulator.results.stress_book import HeldBook
from marketsimulator.results.stress_scenarios import Moves
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import FIELDS, VOLUME, Bars, panel
from trainingdata.instants import HOUR, hour_begun
from trainingdata.instruments import Kind
from trainingdata.sessions import beyond_calendar, in_session, stock_grid

SESSIONS = 10  # closes that a call may take to end
# none: no call; met: what was closed ended it; nothing_left: it stands, and nothing more could be
# closed; standing: it stands, and more would be closed after the last session.
Ending = Literal["none", "met", "nothing_left", "standing"]


@dataclass(frozen=True, slots=True)
class SettlementTerms:
    """What a book is settled by."""

    costs: TradingCosts
    fees: FeeSchedule
    margin: MarginTerms
    fills: FillTerms

    @classmethod
    def of(cls, settings: BacktestSettings) -> SettlementTerms:
        """Those of a backtest."""
        return cls(settings.costs, settings.fees, settings.margin, settings.fills)


@dataclass(frozen=True, slots=True)
class Liquidation:
    """A position, or a part of one, that the broker closes.

    symbol: of the position.
    at: start of the bar whose open it meets, or when a bar that nobody saw begin became known.
    quantity: signed; below 0 it is sold.
    price: USD.
    proceeds: USD that come into the account after fees, below 0 for a short that is bought back.
    cost: USD of spread, slippage and fees.
    """

    symbol: str
    at: np.datetime64
    quantity: float
    price: float
    proceeds: float
    cost: float


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a book.

    close: the first close after the move.
    required: USD that its stocks needed then.
    collateral: USD of equity without coins then, after the night's charges.
    standing: whether a margin call stood before the move already, as the close before had left it.
    called: whether there was a margin call, before or then.
    deficit: whether the intraday margin was exceeded before it.
    liquidations: in their order.
    ending: of the call.
    sessions: closes until then.
    equity: USD at the end.
    gross: USD of all positions then.
    """

    close: np.datetime64
    required: float
    collateral: float
    standing: bool
    called: bool
    deficit: bool
    liquidations: tuple[Liquidation, ...]
    ending: Ending
    sessions: int
    equity: float
    gross: float

    @property
    def missing(self) -> float:
        """USD of collateral that is missing at the close; below 0 what is there beyond need."""
        return self.required - self.collateral


def settle(book: HeldBook, moves: Moves, terms: SettlementTerms) -> Settled:
    """What becomes of a book once its prices have moved, until no call stands or none can end.

    Raises
    ------
    InputError
        for an instant after which the calendar has too few sessions.
    """
    bars, first = moved_bars(book, moves)
    account = _account(book, bars, first, terms)
    # Where no bar says what a symbol trades, nothing is bounded by its volume.
    fills = terms.fills if book.has_volumes else FillTerms(volume_share=None)
    impact = bool(account.holding["impact"].any())
    line = timeline(bars, terms.fees, terms.margin, fills, impact=impact, actions=())
    broker = SimulatedBroker(bars, line, account, first)
    if book.option_risk:
        broker.deposit(-book.option_risk)
    state = account.account[0]
    if not in_session(bars.times[first : first + 1])[0]:
        # What the close before has called is closed at the next opens, moved or not.
        close_margin(account, line.days[line.day[first]])
    standing = bool(state["called"])
    closes = np.flatnonzero(line.nights > 0)
    closes = closes[closes > first]
    broker.advance(int(closes[0]))
    close = broker.now()
    required = float(required_equity(account, 0.0))
    collateral = float(state["equity"] - state["coins"])
    called = bool(state["called"])
    ending: Ending = "none"
    if called or standing:
        ending = "standing" if called else "met"
    deficit = bool(state["deficits"])
    sessions = 1
    while ending == "standing" and sessions < len(closes):
        sold = len(broker.fills)
        broker.advance(int(closes[sessions]))
        sessions += 1
        if not state["called"]:
            ending = "met"
        elif len(broker.fills) == sold:
            ending = "nothing_left"
    prices = dict(zip(book.symbols, book.marks * (1.0 + moves.fractions), strict=True))
    return Settled(
        close=close,
        required=required,
        collateral=collateral,
        standing=standing,
        called=called or standing,
        deficit=deficit,
        liquidations=tuple(_liquidation(fill, prices[fill.symbol]) for fill in broker.fills),
        ending=ending,
        sessions=sessions,
        equity=float(state["equity"]),
        gross=float(state["stock"] + state["coins"]),
    )


def _liquidation(fill: Fill, reference: float) -> Liquidation:
    quantity = float(fill.qty)
    return Liquidation(
        symbol=fill.symbol,
        at=fill.at,
        quantity=quantity,
        price=fill.price,
        proceeds=-quantity * fill.price - fill.fee,
        cost=abs(quantity) * abs(fill.price - reference) + fill.fee,
    )


def _account(book: HeldBook, bars: Bars, first: int, terms: SettlementTerms) -> Book:
    """The book as settlement keeps it."""
    holding = holdings_of(bars.instruments, terms.costs, terms.margin)
    account = new_book(book.cash, holding, tier_table(terms.fees))
    hold(account, book.cash, book.quantities, bars.between(0, first + 1).last_closes())
    # Shorts were sold for other prices than the present ones, and interest is charged by those.
    account.holding["proceeds"] = book.proceeds
    account.account[0]["proceeds"] = book.proceeds.sum()
    return account


def moved_bars(book: HeldBook, moves: Moves) -> tuple[Bars, int]:
    """The book's last bars, then bars that stand where the moves have led; number of its instant.

    Stocks have every bar of the sessions that follow, but for those that are halted; a coin, which
    nobody liquidates, one bar. Each has the volume that its symbol's bars usually have.

    Raises
    ------
    InputError
        for an instant after which the calendar has too few sessions.
    """
    ends = _ends_of_stock_bars(book.at)
    next_hour = np.array([hour_begun(book.at) + HOUR], dtype="datetime64[ns]")
    tables = []
    for s, item in enumerate(book.instruments):
        times, values = _history(book, s)
        usual = float(np.median(values[:, VOLUME]))
        later = next_hour if item.kind is Kind.CRYPTO else ends
        if moves.halted[s]:
            later = later[:0]
        price = book.marks[s] * (1.0 + moves.fractions[s])
        flat = np.tile([price, price, price, price, usual], (len(later), 1))
        tables.append(
            (item, np.concatenate([times, later]), np.concatenate([values, flat], axis=0))
        )
    # Sessions close whether anything of the book trades in them or not.
    bars = _with_instants(panel(tables, book.source), ends)
    return bars, int(np.searchsorted(bars.times, book.at))


def _with_instants(bars: Bars, instants: Instants) -> Bars:
    """The panel, which has these instants as well, with no bar where there was none."""
    times = np.union1d(bars.times, instants)
    rows = np.searchsorted(times, bars.times)
    values = np.full((len(bars.symbols), len(times), len(FIELDS)), np.nan)
    mask = np.zeros((len(bars.symbols), len(times)), dtype=bool)
    values[:, rows] = bars.values
    mask[:, rows] = bars.mask
    return Bars(bars.instruments, times, values, mask, bars.source)


def _history(book: HeldBook, s: int) -> tuple[Instants, Array]:
    """The bars by which impact and volume are judged, and one at the book's instant."""
    mark = book.marks[s]
    times = np.array([book.at], dtype="datetime64[ns]")
    known, values = book.recent(s)
    if len(known) and known[-1] == book.at:
        return known, values
    usual = float(np.median(values[:, VOLUME])) if len(known) else 0.0
    now = np.array([[mark, mark, mark, mark, usual]])
    return np.concatenate([known, times]), np.concatenate([values, now], axis=0)


def _ends_of_stock_bars(at: np.datetime64) -> Instants:
    """When the bars of the sessions become known that close after an instant."""
    grid = stock_grid()
    first = int(np.searchsorted(grid.closes, at, side="right"))
    if first + SESSIONS + 1 >= len(grid.closes):
        raise beyond_calendar(at)
    kept = (grid.ends > at) & (grid.ends <= grid.closes[first + SESSIONS])
    return np.asarray(grid.ends[kept])
