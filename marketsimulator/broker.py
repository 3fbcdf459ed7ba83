"""The simulated broker: an account on recorded bars, stepped from instant to instant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from execution.fees import FeeSchedule, TradingCosts
from execution.orders import Account, Fill, Order, exact
from marketsimulator.settlement import Book, Terms, carry, fill
from trainingdata.bars import CLOSE, OPEN, Bars
from trainingdata.errors import InputError
from trainingdata.instruments import Kind
from trainingdata.sessions import Instants, known_at, new_york_date, nights_after, session_number

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MarginTerms:
    """What the broker lends: multiples of equity, and the yearly rate on what is borrowed overnight.

    leverage: on stocks from margin_equity USD up, 1× below.
    """

    leverage: float = 4.0
    margin_equity: float = 2000.0
    interest_rate: float = 0.065

    def __post_init__(self) -> None:
        if not self.leverage >= 1:
            raise InputError(f"margin.leverage: {self.leverage} is below 1")
        if not self.margin_equity >= 0:
            raise InputError(f"margin.margin_equity: {self.margin_equity} is negative")
        if not 0 <= self.interest_rate < 1:
            raise InputError(f"margin.interest_rate: {self.interest_rate} is outside 0 … 1")


@dataclass(frozen=True, slots=True)
class Row:
    """The account after the fills of an instant, marked at the last known closes; the last five are that instant's flows."""

    at: np.datetime64
    cash: float
    equity: float
    gross_stock: float
    gross_crypto: float
    interest: float
    fees: float
    other: float
    spread: float
    slippage: float


class SimulatedBroker:
    """Fills market orders at the open of the bar that starts at the decision's instant, on the panel it was given.

    It walks the panel's instants forward: `advance` to an instant, look at the `account`, `submit` orders, read the `row`.
    """

    def __init__(
        self, bars: Bars, *, capital: float, costs: TradingCosts, fees: FeeSchedule, margin: MarginTerms, first: int = 0
    ) -> None:
        if not capital > 0:
            raise InputError(f"capital: {capital} is not above 0")
        self._bars = bars
        self._fees = fees
        self._opens_at = _fill_rows(bars)
        self._dates = new_york_date(bars.times)
        self._terms = Terms(
            half_spread=costs.half_spread(bars.crypto),
            slippage=costs.slippage(bars.crypto),
            increment=np.array([float(i.increment) for i in bars.instruments]),
            crypto=bars.crypto,
            taker=fees.crypto_taker,
            sec=0.0,
            taf=0.0,
            taf_cap=0.0,
            cat=0.0,
            leverage=margin.leverage,
            margin_equity=margin.margin_equity,
            interest_rate=margin.interest_rate,
        )
        zero = np.zeros(len(bars.symbols))
        self._book = Book(float(capital), 0.0, 0.0, zero, zero.copy())
        self._row = {s: k for k, s in enumerate(bars.symbols)}
        self._marks = bars.between(0, first + 1).last_closes()
        self._flows = np.zeros(5)  # interest, fees, other, spread, slippage of this instant
        self._index = first
        self._set_day_fees()

    def advance(self, index: int) -> None:
        """Move to a later instant of the panel: mark the closes known there, charge what carrying the book costs."""
        times = self._bars.times
        before = self._index
        previous, now = times[before], times[index]
        for step in range(before + 1, index + 1):
            known = self._bars.mask[:, step]
            self._marks[known] = self._bars.values[known, step, CLOSE]
        self._index = index
        nights = nights_after(previous, now)
        opened = session_number(now) != session_number(previous)
        self._book, interest, other = carry(self._book, self._terms, nights, opened)
        self._flows[:] = (interest, 0.0, other, 0.0, 0.0)
        if self._dates[index] != self._dates[before]:
            self._set_day_fees()

    def account(self) -> Account:
        """The account at this instant."""
        quantity = self._book.quantity
        held = np.flatnonzero(quantity)
        symbols = self._bars.symbols
        return Account(
            cash=self._book.cash,
            positions={symbols[s]: exact(float(quantity[s])) for s in held},
            prices={s: m for s, m in zip(symbols, self._marks.tolist(), strict=True) if m == m},
            as_of=np.datetime64(self._bars.times[self._index]),
            unsettled=self._book.unsettled,
            short_proceeds=float(self._book.short_proceeds.sum()),
        )

    def submit(self, orders: Sequence[Order]) -> list[Fill]:
        """Fill the orders of this instant, in their order; what does not fill is cancelled."""
        if not orders:
            return []
        now = np.datetime64(self._bars.times[self._index])
        rows = np.array([self._row[o.symbol] for o in orders])
        wanted = np.array([float(o.signed_qty) for o in orders])
        self._book, done = fill(self._book, self._terms, self._marks, self._opens(), rows, wanted)
        self._flows += (0.0, done.fee.sum(), 0.0, done.spread.sum(), done.slippage.sum())
        return [
            Fill(order.client_order_id, order.symbol, exact(float(q)), float(price), float(fee), now)
            for order, q, price, fee in zip(orders, done.quantity, done.price, done.fee, strict=True)
            if q != 0
        ]

    def row(self) -> Row:
        """The account after this instant's fills."""
        value = np.where(self._book.quantity != 0, self._book.quantity * self._marks, 0.0)
        crypto = self._bars.crypto
        interest, fees, other, spread, slippage = self._flows.tolist()
        return Row(
            at=np.datetime64(self._bars.times[self._index]),
            cash=self._book.cash,
            equity=self._book.cash + float(value.sum()),
            gross_stock=float(np.abs(value[~crypto]).sum()),
            gross_crypto=float(np.abs(value[crypto]).sum()),
            interest=interest,
            fees=fees,
            other=other,
            spread=spread,
            slippage=slippage,
        )

    def _opens(self) -> Array:
        """[S] opens of the bars that start now; NaN where none does."""
        rows = self._opens_at[:, self._index]
        there = np.maximum(rows, 0)
        symbols = np.arange(len(rows))
        starts = (rows >= 0) & self._bars.mask[symbols, there]
        return np.where(starts, self._bars.values[symbols, there, OPEN], np.nan)

    def _set_day_fees(self) -> None:
        day = self._fees.on(self._dates[self._index])
        self._terms = self._terms._replace(sec=day.sec, taf=day.taf, taf_cap=day.taf_cap, cat=day.cat)


def _fill_rows(bars: Bars) -> npt.NDArray[np.int64]:
    """[S, T] index of the instant at which the bar that starts at each instant becomes known; -1 where none is in the panel."""

    def of(kind: Kind) -> npt.NDArray[np.int64]:
        ends: Instants = known_at(kind, bars.times)
        place = np.minimum(np.searchsorted(bars.times, ends), len(bars.times) - 1)
        return np.where(bars.times[place] == ends, place, -1)

    rows = {kind: of(kind) for kind in Kind}
    return np.stack([rows[item.kind] for item in bars.instruments])
