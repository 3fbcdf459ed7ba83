"""The exchange's own audit: what it has, by its clock, beside what was ordered and alerted.

Nothing here asks the loop or its journal: positions, orders and trades are the exchange's, alerts
are those that arrived at the person.
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
from marketsimulator.venue.stocks import Venue

MINUTE = 60.0  # seconds of the exchange's clock
BARE = Decimal("0.1")  # share of a position that may be without a stop, as `protect.band`
PROTECTION = "protection"  # how kinds of alerts begin that name positions without a stop
Quantities = Mapping[str, Decimal]


class Moment(NamedTuple):
    """What the exchange has at a moment, signed quantities by symbol.

    held: positions.
    stops: what is left of stops that rest.
    trades: what is left of other open orders.
    """

    held: Quantities
    stops: Quantities
    trades: Quantities

    @classmethod
    def of(cls, venue: Venue) -> Moment:
        """The present moment; an order that is being cancelled, or was elected, is no stop."""
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

    def is_bare(self, symbol: str) -> bool:
        """Whether more than a share of a position has neither stop nor sale."""
        held = self.held.get(symbol, Decimal(0))
        orders = (each.get(symbol, Decimal(0)) for each in (self.stops, self.trades))
        covered = sum((abs(order) for order in orders if order * held < 0), Decimal(0))
        return bool(abs(held) - covered > BARE * abs(held))

    def is_stray(self, symbol: str) -> bool:
        """Whether a stop rests without a position that it would close."""
        stop = self.stops.get(symbol, Decimal(0))
        return bool(stop and stop * self.held.get(symbol, Decimal(0)) >= 0)


def is_elected(order: Order, price: float | None) -> bool:
    """Whether the market has passed a stop."""
    if order.stop_price is None or price is None:
        return False
    return price <= order.stop_price if order.side == "sell" else price >= order.stop_price


class Audit:
    """Counts of what lasts longer than a minute of the exchange's clock while a process runs.

    symbols: that the process trades.
    counts: positions without a stop, a sale or an alert that names them; stops without a position.
    """

    def __init__(self, symbols: Sequence[str]) -> None:
        self._symbols = symbols
        self._named: set[str] = set()
        self._ages: dict[tuple[str, str], float] = {}
        self.counts: Counter[str] = Counter(unprotected=0, stray_stops=0)

    def alert(self, kind: str, text: str) -> None:
        """A notice has arrived; one of protection stands until its all-clear, or a stop rests."""
        named = {s for s in self._symbols if re.search(rf"\b{s}\b", text)}
        if kind == ALL_CLEAR:
            self._named -= named
        elif kind.startswith(PROTECTION):
            self._named |= named

    def restart(self) -> None:
        """A process begins, which has a minute."""
        self._ages.clear()

    def observe(self, moment: Moment, seconds: float) -> list[str]:
        """Seconds have passed, and this is what there is now; what was counted just now."""
        found = []
        for symbol in self._symbols:
            bare = moment.is_bare(symbol)
            if not bare:
                self._named.discard(symbol)
            unknown = bare and symbol not in self._named
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
        """What its order was for: a stop, a command, or a decision."""
        return (["", *self.name.rsplit("-", 2)])[-2]

    @property
    def key(self) -> tuple[str, str]:
        """The instant and symbol for which its order was sent."""
        _, when, symbol, *_ = ["", "", "", *self.name.rsplit("-", 4)][-5:]
        return when, symbol


def trades_of(venue: Venue) -> list[Trade]:
    """The exchange's trades, oldest first."""
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
    """Trades of stops and commands that open a position, or turn one around."""
    held: defaultdict[str, Decimal] = defaultdict(Decimal)
    count = 0
    for trade in trades:
        before = held[trade.symbol]
        held[trade.symbol] += trade.signed
        closes = trade.leg in (PROTECTIVE_LEG, str(REDUCTION_ORDER_NUMBER))
        count += closes and (before * trade.signed >= 0 or before * held[trade.symbol] < 0)
    return count


def sold_beyond(trades: Iterable[Trade], ordered: Mapping[tuple[str, str], Decimal]) -> int:
    """Commands that traded more than was ordered.

    ordered: quantity below which a command's trades stay, by its instant and the symbol.
    """
    traded: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for trade in trades:
        if trade.leg == str(REDUCTION_ORDER_NUMBER):
            traded[trade.key] += abs(trade.signed)
    return sum(traded[key] >= most for key, most in ordered.items())


def open_after(venue: Venue, prefix: str, answer: Mapping[str, str]) -> list[str]:
    """Ids of a job's orders that a command should have ended and that are open.

    prefix: what ids of the job's orders begin with. Stops are sent again, and are none.
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
