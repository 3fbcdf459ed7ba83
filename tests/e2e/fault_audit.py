"""Audit of a fault run at the exchange: unprotected positions, stray stops and excess trades.

The audit reads neither the loop nor its journal. Positions, orders, trades and times are the
exchange's; alerts are those that were delivered.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from execution.decision.reduction import REDUCTION_ORDER_NUMBER
from execution.orders.orders import PROTECTIVE_LEG, STOP_TYPES, Order
from foundation.notices import ALL_CLEAR
from practice.alpaca.stocks import Venue

MINUTE = 60.0  # seconds of the exchange's clock
MAX_UNPROTECTED = Decimal("0.1")  # fraction of a position without a stop, as `protect.band`
PROTECTION = "protection"  # prefix of the kinds of alerts that name positions without a stop
Quantities = Mapping[str, Decimal]


class Moment(NamedTuple):
    """Positions and open orders at an instant, signed quantities by symbol.

    held: positions.
    stops: unfilled quantities of resting stops.
    trades: unfilled quantities of other open orders.
    """

    held: Quantities
    stops: Quantities
    trades: Quantities

    @classmethod
    def of(cls, venue: Venue) -> Moment:
        """Return the present state; orders being cancelled and elected orders are no stops."""
        stops: defaultdict[str, Decimal] = defaultdict(Decimal)
        trades: defaultdict[str, Decimal] = defaultdict(Decimal)
        for ticket in [*venue.tickets.values()]:
            order = ticket.order
            if not ticket.is_open or ticket.status == "pending_cancel":
                continue
            left = (order.qty - ticket.filled_quantity).copy_sign(order.signed_qty)
            elected = is_elected(order, venue.market_price(order.symbol))
            if order.type in STOP_TYPES and not elected:
                stops[order.symbol] += left
            elif order.type != "stop_limit":
                trades[order.symbol] += left
        return cls(venue.broker.account().positions, stops, trades)

    def is_unprotected(self, symbol: str) -> bool:
        """Return whether more than a tenth of a position has neither a stop nor a sale."""
        held = self.held.get(symbol, Decimal(0))
        orders = (each.get(symbol, Decimal(0)) for each in (self.stops, self.trades))
        covered = sum((abs(order) for order in orders if order * held < 0), Decimal(0))
        return bool(abs(held) - covered > MAX_UNPROTECTED * abs(held))

    def is_stray(self, symbol: str) -> bool:
        """Return whether a stop rests without a position to close."""
        stop = self.stops.get(symbol, Decimal(0))
        return bool(stop and stop * self.held.get(symbol, Decimal(0)) >= 0)


def is_elected(order: Order, price: float | None) -> bool:
    """Return whether the market has passed the stop price of an order."""
    if order.stop_price is None or price is None:
        return False
    return price <= order.stop_price if order.side == "sell" else price >= order.stop_price


class Audit:
    """Counter of faults that last longer than a minute of the exchange's clock.

    symbols: symbols that the process trades.
    counts: number of positions without a stop, a sale or an alert, and of stops without a position.
    """

    def __init__(self, symbols: Sequence[str]) -> None:
        self._symbols = symbols
        self._named: set[str] = set()
        self._ages: dict[tuple[str, str], float] = {}
        self.counts: Counter[str] = Counter(unprotected=0, stray_stops=0)

    def alert(self, kind: str, text: str) -> None:
        """Record a notice; an alert of protection applies until its all-clear or a new stop."""
        named = {s for s in self._symbols if re.search(rf"\b{s}\b", text)}
        if kind == ALL_CLEAR:
            self._named -= named
        elif kind.startswith(PROTECTION):
            self._named |= named

    def restart(self) -> None:
        """Restart all minutes because a new process begins."""
        self._ages.clear()

    def observe(self, moment: Moment, seconds: float) -> list[str]:
        """Record the state after some seconds; return the faults counted just now."""
        found = []
        for symbol in self._symbols:
            is_unprotected = moment.is_unprotected(symbol)
            if not is_unprotected:
                self._named.discard(symbol)
            unknown = is_unprotected and symbol not in self._named
            for name, lasts in (("unprotected", unknown), ("stray_stops", moment.is_stray(symbol))):
                before = self._ages.pop((name, symbol), 0.0)
                if lasts:
                    self._ages[name, symbol] = before + seconds
                    if before <= MINUTE < before + seconds:
                        self.counts[name] += 1
                        found.append(f"{name}: {symbol}")
        return found


class Trade(NamedTuple):
    """A change of a position; name: id of its order, empty for a split or a fee."""

    name: str
    symbol: str
    signed: Decimal

    @property
    def leg(self) -> str:
        """Order number in the id, which tells stops, commands and decisions apart."""
        return (["", *self.name.rsplit("-", 2)])[-2]

    @property
    def key(self) -> tuple[str, str]:
        """Instant and symbol in the id of the order."""
        _, when, symbol, *_ = ["", "", "", *self.name.rsplit("-", 4)][-5:]
        return when, symbol


def trades_of(venue: Venue) -> list[Trade]:
    """Return the exchange's trades, oldest first."""
    names = {ticket.venue_order_id: name for name, ticket in venue.tickets.items()}
    trades = []
    for row in venue.record.activities:
        symbol = row.get("symbol", "").replace("/", "")
        if "qty" in row and symbol in venue.market.bars.symbols:
            quantity = Decimal(row["qty"])
            signed = -quantity if row.get("side") == "sell" else quantity
            trades.append(Trade(names.get(row.get("order_id", ""), ""), symbol, signed))
    return trades


def turned_positions(trades: Iterable[Trade]) -> int:
    """Count the trades of stops and commands that open or reverse a position."""
    held: defaultdict[str, Decimal] = defaultdict(Decimal)
    count = 0
    for trade in trades:
        before = held[trade.symbol]
        held[trade.symbol] += trade.signed
        closes = trade.leg in (PROTECTIVE_LEG, str(REDUCTION_ORDER_NUMBER))
        count += closes and (before * trade.signed >= 0 or before * held[trade.symbol] < 0)
    return count


def sold_beyond(trades: Iterable[Trade], ordered: Mapping[tuple[str, str], Decimal]) -> int:
    """Count the commands that traded too much.

    ordered: exclusive upper bound of a command's trades, by its instant and the symbol.
    """
    traded: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for trade in trades:
        if trade.leg == str(REDUCTION_ORDER_NUMBER):
            traded[trade.key] += abs(trade.signed)
    return sum(traded[key] >= most for key, most in ordered.items())


def open_after(venue: Venue, prefix: str, answer: Mapping[str, str]) -> list[str]:
    """Return the ids of open orders that a done command should have ended.

    prefix: prefix of the ids of the job's orders. Stops do not count, because they are sent again.
    answer: answer to the command.
    """
    if answer["state"] != "done" or answer["verb"] not in ("reduce", "exit", "flatten"):
        return []
    only = answer["argument"] if answer["verb"] == "exit" else ""
    return [
        name
        for name, ticket in [*venue.tickets.items()]
        if ticket.is_open
        and name.startswith(f"{prefix}-")
        and Trade(name, "", Decimal(0)).leg != PROTECTIVE_LEG
        and only in ("", ticket.order.symbol)
    ]
