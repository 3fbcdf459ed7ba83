"""An account on recorded bars that takes orders as Alpaca does: no HTTP.

It stands at an instant of the panel; `advance` moves it. A market order meets the open of the bar
that starts there, what waits meets the bars that follow: the broker underneath is the backtest's
own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np

from execution.broker import Asset
from execution.orders import Account, Fill, Order
from execution.venue_rules import refusal
from marketsimulator.account.broker import SimulatedBroker
from marketsimulator.settings import BacktestSettings, OptionTerms, VenueSettings
from marketsimulator.venue.options import VenueOptions
from marketsimulator.venue.record import Record
from marketsimulator.venue.tickets import (
    OPEN,
    Answer,
    Refused,
    Ticket,
    changed,
    number_of,
    order_of,
    stamp,
    text,
)
from sizing.quantity import whole
from trainingdata.bars import Bars
from trainingdata.instruments import Kind, instrument, spelled
from trainingdata.sessions import in_session

THOUSANDTH = Decimal("0.001")
FLAGS = ("tradable", "shortable", "easy_to_borrow", "fractionable")


class Venue:
    """One account, its orders and its clock.

    record: what is noted and told. tickets: by client_order_id, in the order they came. entries:
    quantity and mean price of what is held. curve: instants and equity. flags: what assets allow
    where that is not everything. halts: from and until when (none: still) a symbol did not trade.
    """

    def __init__(self, settings: BacktestSettings, bars: Bars, first: int) -> None:
        """bars: the panel, history before instant number `first` included.

        A market order that finds no bar, or too little volume, waits for the next one, as at the
        venue: who wants the rest cancelled says so.
        """
        settings = replace(settings, fills=replace(settings.fills, remainder="carry"))
        self.settings = settings
        self.bars = bars
        self.index = first
        self.first = first
        self.broker: SimulatedBroker = settings.broker(bars, first)
        self.tickets: dict[str, Ticket] = {}
        self.record = Record(lambda: self.now)
        self.flags: dict[str, dict[str, bool]] = {}
        self.halts: dict[str, list[tuple[np.datetime64, np.datetime64 | None]]] = {}
        self.curve: list[tuple[np.datetime64, float]] = []
        self.entries: dict[str, tuple[Decimal, float]] = {}
        self._by_number: dict[str, Ticket] = {}
        self._by_name: dict[str, Ticket] = {}
        self._working: dict[str, Ticket] = {}
        self._seen = 0
        self.options = VenueOptions(
            self.record,
            self.broker,
            bars,
            self.price_of,
            settings.options if isinstance(settings, VenueSettings) else OptionTerms(),
        )

    @property
    def now(self) -> np.datetime64:
        """Where the clock stands."""
        return np.datetime64(self.bars.times[self.index])

    @property
    def over(self) -> bool:
        """Whether no instant follows."""
        return self.index + 1 >= len(self.bars.times)

    def advance(self, index: int) -> None:
        """Move to a later instant, every one between included; what waits meets the bars."""
        while self.index < min(index, len(self.bars.times) - 1):
            self._mark()
            self.index += 1
            self.broker.advance(self.index)
            self._settle()
            self.options.advance()

    def submit(
        self, request: Mapping[str, Any], *, partial: bool = False, reject: bool = False
    ) -> Answer:
        """Take an order, and answer with what has become of it at once.

        partial: half of it fills, the rest is cancelled; reject: it is taken, and turned down
        afterwards.

        Raises
        ------
        Refused
            for what the venue would not take.
        """
        if request.get("order_class") == "mleg":
            return self.options.submit(request, partial=partial, reject=reject)
        order, notional = order_of(request, len(self.tickets), self.price_of)
        self._check(order, self.broker.account())
        return self._send(
            Ticket.of(order, stamp(self.now), notional), partial=partial, reject=reject
        ).answer()

    def change(self, number: str, request: Mapping[str, Any]) -> Answer:
        """Put a new order in the place of an open one, which is `replaced`; where the new one
        cannot be, the old one stays.

        Raises
        ------
        Refused
            for an order that is not there or cannot be changed, and a new one that the venue would
            not take.
        """
        old = self.found(number)
        account = self.broker.account()
        order = changed(old, request, len(self.tickets))
        beside = tuple(
            other
            for other in account.open_orders
            if other.client_order_id != old.order.client_order_id
        )
        self._check(order, replace(account, open_orders=beside))
        self.broker.cancel([old.order.client_order_id])
        old.replaced_by = number_of(order)
        self._settle()
        ticket = Ticket.of(order, stamp(self.now))
        ticket.replaces = old.number
        return self._send(ticket).answer()

    def _check(self, order: Order, account: Account) -> None:
        self.record.refuse_known(order.client_order_id)
        if order.symbol not in self.bars.symbols:
            raise Refused(422, 42210000, f"asset {order.symbol} is not tradable here")
        short = (
            not order.reduces
            and order.side == "sell"
            and account.positions.get(order.symbol, Decimal(0)) <= 0
        )
        opens = (
            order if short else replace(order, reduces=True)
        )  # whether it opens a short is the venue's to see
        if why := refusal(opens, self.asset(order.symbol), account, self.settings.orders):
            raise Refused(403, 40310000, why)
        coin = instrument(order.symbol).kind is Kind.CRYPTO
        if coin and short:
            raise Refused(
                403, 40310000, f"insufficient balance for {spelled(order.symbol)} (available: 0)"
            )

    def _send(self, ticket: Ticket, *, partial: bool = False, reject: bool = False) -> Ticket:
        order = ticket.order
        self.tickets[order.client_order_id] = ticket
        for each in (ticket, *ticket.legs):
            self._by_number[each.number] = self._by_name[each.order.client_order_id] = each
            self.record.keep(each.order.client_order_id)
        if reject:
            ticket.status = "rejected"
            ticket.closed = stamp(self.now)
            self._tell("rejected", ticket)
            return ticket
        for each in (ticket, *ticket.legs):
            self._working[each.order.client_order_id] = each
        self._tell("new", ticket)
        half = whole(
            float(order.qty) / 2,
            Decimal(1) if instrument(order.symbol).kind is Kind.STOCK else THOUSANDTH,
        )
        self.broker.submit([replace(order, qty=half) if partial and half else order])
        self._settle()
        return ticket

    def price_of(self, symbol: str) -> float | None:
        """What a market order sent now trades at, before spread: the open that starts now, else
        the last close.
        """
        opening = self.broker.opening(symbol) if symbol in self.bars.symbols else None
        self._settle()
        return opening or self.broker.account().prices.get(symbol)

    def asset(self, symbol: str) -> Asset:
        """What is allowed with a symbol of the panel."""
        coin = instrument(symbol).kind is Kind.CRYPTO
        flags = {
            "tradable": True,
            "shortable": not coin,
            "easy_to_borrow": not coin,
            "fractionable": True,
        }
        return Asset(
            symbol,
            **{**flags, **self.flags.get(symbol, {})},
            increment=THOUSANDTH**3,
            smallest=THOUSANDTH**3,
        )

    def halt(self, symbol: str, halted: bool) -> None:
        """Stop trading in a symbol from now on, or resume it: orders wait, and there are no
        bars.
        """
        spans = self.halts.setdefault(symbol, [])
        if halted == bool(spans and spans[-1][1] is None):
            return
        if halted:
            spans.append((self.now, None))
        else:
            spans[-1] = (spans[-1][0], self.now)
        self.broker.halt(symbol, halted)

    def cancel(self, number: str) -> None:
        """Cancel an open order, and what is bound to it.

        Raises
        ------
        Refused
            for one that is not there, or not open.
        """
        ticket = self.found(number)
        if ticket.status not in OPEN:
            raise Refused(422, 42210000, f"order is already in {ticket.status} state")
        self.broker.cancel([ticket.order.client_order_id])
        self._settle()

    def found(self, number: str) -> Ticket:
        """The order of an id.

        Raises
        ------
        Refused
            where there is none.
        """
        if number not in self._by_number:
            raise Refused(404, 40410000, f"order not found for {number}")
        return self._by_number[number]

    def named(self, client_order_id: str) -> Ticket:
        """The order of a client's id.

        Raises
        ------
        Refused
            where there is none.
        """
        if client_order_id not in self._by_name:
            raise Refused(404, 40410000, f"order not found for {client_order_id}")
        return self._by_name[client_order_id]

    def _mark(self) -> None:
        row = self.broker.row()
        self._settle()
        self.curve.append((self.now, row.equity + self.options.aside + self.options.value))
        flows = {
            "INT": -row.interest,
            "FEE": -(row.fees + row.rounding) + 0.0,
            "DIV": row.dividends,
            "MA": -row.borrow,
        }
        for kind, usd in flows.items():
            if usd:
                self.record.note(
                    {
                        "activity_type": kind,
                        "date": str(self.now.astype("datetime64[D]")),
                        "net_amount": repr(usd),
                    }
                )

    def _settle(self) -> None:
        """Tell orders what they did, and listeners; what works no longer is closed."""
        for fill in self.broker.fills[self._seen :]:
            self._filled(fill)
        self._seen = len(self.broker.fills)
        states = self.broker.states(self._working)
        for name, ticket in list(self._working.items()):
            state = states.get(name, "canceled")
            if state in ("held", "working"):
                ticket.status = self._status(ticket, state)
                continue
            short = ticket.filled != ticket.order.qty
            ended = (
                "replaced" if ticket.replaced_by else state if state == "expired" else "canceled"
            )
            ticket.status = ended if short else "filled"
            ticket.closed = stamp(self.now)
            del self._working[name]
            if short:
                self._tell(ticket.status, ticket)

    def _status(self, ticket: Ticket, state: str) -> str:
        """Of an order that is open: an order for a market that is shut is accepted, and new
        once it opens.
        """
        if state == "held":
            return "held"
        if ticket.filled:
            return "partially_filled"
        shut = (
            instrument(ticket.order.symbol).kind is Kind.STOCK
            and not in_session(np.array([self.now]))[0]
        )
        return "accepted" if shut else "new"

    def _filled(self, fill: Fill) -> None:
        self._average(fill)
        ticket = self._by_name.get(fill.client_order_id)
        if ticket is None or fill.price == 0:
            if ticket is not None:
                ticket.fills.append(fill)
            kind = "CFEE" if ticket is not None else "SPLIT" if fill.price == 0 else "FILL"
            day = str(fill.at.astype("datetime64[D]"))
            self.record.note(
                {"activity_type": kind, "date": day, **_traded(fill), "net_amount": "0"}
            )
            return
        ticket.fills.append(fill)
        done = ticket.filled == ticket.order.qty
        ticket.status = "filled" if done else "partially_filled"
        ticket.closed = stamp(self.now) if done else None
        event = "fill" if done else "partial_fill"
        told = {
            "side": ticket.order.side,
            "leaves_qty": text(ticket.order.qty - ticket.filled),
            "cum_qty": text(ticket.filled),
            "order_id": ticket.number,
            "order_status": ticket.status,
        }
        at = stamp(fill.at)
        self.record.note(
            {
                "activity_type": "FILL",
                "type": event,
                "transaction_time": at,
                **_traded(fill),
                **told,
            }
        )
        held = text(self.broker.account().positions.get(fill.symbol, Decimal(0)))
        self._tell(
            event,
            ticket,
            {"price": repr(fill.price), "qty": text(abs(fill.qty)), "position_qty": held},
        )

    def _tell(self, event: str, ticket: Ticket, more: Mapping[str, Any] | None = None) -> None:
        self.record.tell(event, f"{ticket.number}{event}{ticket.filled}", ticket.answer, more)

    def _average(self, fill: Fill) -> None:
        """Mean price of what is held: what opens averages, what closes leaves it."""
        before, entry = self.entries.get(fill.symbol, (Decimal(0), 0.0))
        after = before + fill.qty
        if before * after <= 0:
            entry = fill.price
        elif abs(after) > abs(before) and fill.price > 0:
            entry = (entry * float(before) + fill.price * float(fill.qty)) / float(after)
        self.entries[fill.symbol] = after, entry


def _traded(fill: Fill) -> Answer:
    return {"symbol": spelled(fill.symbol), "qty": text(abs(fill.qty)), "price": repr(fill.price)}
