"""An account on recorded bars that speaks as Alpaca's API does: plain answers, no HTTP.

It stands at an instant of the panel; `advance` moves it. A market order meets the open of the bar that starts there, what
waits meets the bars that follow: the broker underneath is the backtest's own.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np

from execution.broker import refusal
from execution.orders import Fill, Order
from marketsimulator.broker import SimulatedBroker
from marketsimulator.settings import BacktestSettings
from marketsimulator.tickets import NAMES, OPEN, Answer, Refused, Ticket, asset_id, order_of, stamp, text
from sizing.quantity import whole
from trainingdata.bars import Bars
from trainingdata.instruments import Kind, instrument, spelled
from trainingdata.sessions import in_session, started_at, stock_grid

ACCOUNT = str(uuid.uuid5(NAMES, "account"))
THOUSANDTH = Decimal("0.001")
Listener = Callable[[Answer], None]


class Venue:
    """One account, its orders and its clock."""

    def __init__(self, settings: BacktestSettings, bars: Bars, first: int) -> None:
        """bars: the panel, history before instant number `first` included.

        A market order that finds no bar, or too little volume, waits for the next one, as at the venue: who wants the rest
        cancelled says so.
        """
        settings = replace(settings, fills=replace(settings.fills, remainder="carry"))
        self.settings, self.bars, self.index, self._first = settings, bars, first, first
        self.broker: SimulatedBroker = settings.broker(bars, first)
        self.tickets: dict[str, Ticket] = {}
        self.activities: list[Answer] = []
        self.listeners: list[Listener] = []
        self.flags: dict[str, dict[str, bool]] = {}
        self.curve: list[tuple[np.datetime64, float]] = []
        self._by_number: dict[str, Ticket] = {}
        self._working: dict[str, Ticket] = {}
        self._seen = 0
        self._entries: dict[str, tuple[Decimal, float]] = {}

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

    def _mark(self) -> None:
        row = self.broker.row()
        self._settle()
        self.curve.append((self.now, row.equity))
        flows = {"INT": -row.interest, "FEE": -(row.fees + row.rounding) + 0.0, "DIV": row.dividends, "MA": -row.borrow}
        for kind, usd in flows.items():
            if usd:
                self._note({"activity_type": kind, "date": str(self.now.astype("datetime64[D]")), "net_amount": repr(usd)})

    def _note(self, activity: Answer) -> None:
        number = f"{stamp(self.now)}::{len(self.activities):09d}"
        shared = {"id": number, "account_id": ACCOUNT, "description": activity["activity_type"], "status": "executed"}
        self.activities.append({**shared, **activity})

    def submit(self, request: Mapping[str, Any], *, partial: bool = False) -> Answer:
        """Take an order, and answer with what has become of it at once; partial: half of it fills, the rest is cancelled.

        Raises
        ------
        Refused
            for what the venue would not take.
        """
        order = order_of(request, len(self.tickets))
        if order.client_order_id in self.tickets:
            raise Refused(422, 40010001, "client_order_id must be unique")
        if order.symbol not in self.bars.symbols:
            raise Refused(422, 42210000, f"asset {order.symbol} is not tradable here")
        if why := refusal(order) or self._conflict(order):
            raise Refused(403, 40310000, why)
        ticket = Ticket(order, str(uuid.uuid5(NAMES, order.client_order_id)), stamp(self.now))
        self.tickets[order.client_order_id] = self._by_number[ticket.number] = ticket
        self._working[order.client_order_id] = ticket
        self._tell("new", ticket)
        half = whole(float(order.qty) / 2, Decimal(1) if instrument(order.symbol).kind is Kind.STOCK else THOUSANDTH)
        self.broker.submit([replace(order, qty=half) if partial and half else order])
        self._settle()
        return ticket.answer()

    def _conflict(self, order: Order) -> str:
        """Why an order cannot stand beside what is held and open; empty where it can."""
        held = self.broker.account().positions.get(order.symbol, Decimal(0))
        flags = self.flags.get(order.symbol, {})
        if not flags.get("tradable", True):
            return f"asset {order.symbol} is not tradable"
        short = order.side == "sell" and held <= 0
        if short and not (flags.get("shortable", True) and flags.get("easy_to_borrow", True)):
            return f"asset {order.symbol} cannot be sold short"
        if instrument(order.symbol).kind is Kind.CRYPTO and order.side == "sell" and order.qty > held:
            return f"insufficient balance for {spelled(order.symbol)} (requested: {order.qty}, available: {held})"
        if held * order.signed_qty < 0 and abs(order.signed_qty) > abs(held):
            return f"insufficient qty available for order (requested: {order.qty}, available: {abs(held)})"
        opposite = (t for t in self._working.values() if t.order.symbol == order.symbol and t.order.side != order.side)
        if order.type == "market" and any(True for _ in opposite):
            return "potential wash trade detected. use complex orders"
        return ""

    def cancel(self, number: str) -> None:
        """Cancel an open order.

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
        if client_order_id not in self.tickets:
            raise Refused(404, 40410000, f"order not found for {client_order_id}")
        return self.tickets[client_order_id]

    def _settle(self) -> None:
        """Tell orders what they did, and listeners; what works no longer is closed."""
        for fill in self.broker.fills[self._seen :]:
            self._filled(fill)
        self._seen = len(self.broker.fills)
        if not self._working:
            return
        waiting = {order.client_order_id for order in self.broker.account().open_orders}
        for name, ticket in list(self._working.items()):
            whole = ticket.filled == ticket.order.qty
            if whole or name not in waiting:
                ticket.status, ticket.closed = ("filled" if whole else "canceled"), stamp(self.now)
                del self._working[name]
                if not whole:
                    self._tell("canceled", ticket)

    def _filled(self, fill: Fill) -> None:
        self._average(fill)
        ticket = self.tickets.get(fill.client_order_id)
        if ticket is None or fill.price == 0:
            if ticket is not None:
                ticket.fills.append(fill)
            kind = "CFEE" if ticket is not None else "SPLIT" if fill.price == 0 else "FILL"
            self._note(
                {"activity_type": kind, "date": str(fill.at.astype("datetime64[D]")), **_traded(fill), "net_amount": "0"}
            )
            return
        ticket.fills.append(fill)
        whole = ticket.filled == ticket.order.qty
        ticket.status = "filled" if whole else "partially_filled"
        ticket.closed = stamp(self.now) if whole else None
        left = ticket.order.qty - ticket.filled
        event = "fill" if whole else "partial_fill"
        self._note(
            {
                "activity_type": "FILL",
                "type": event,
                "transaction_time": stamp(fill.at),
                **_traded(fill),
                "side": ticket.order.side,
                "leaves_qty": text(left),
                "cum_qty": text(ticket.filled),
                "order_id": ticket.number,
                "order_status": ticket.status,
            }
        )
        self._tell(
            event, ticket, {"price": repr(fill.price), "qty": text(abs(fill.qty)), "position_qty": self._held(fill.symbol)}
        )

    def _held(self, symbol: str) -> str:
        return text(self.broker.account().positions.get(symbol, Decimal(0)))

    def _tell(self, event: str, ticket: Ticket, more: Mapping[str, Any] | None = None) -> None:
        if not self.listeners:
            return
        identity = str(uuid.uuid5(NAMES, f"{ticket.number}{event}{ticket.filled}"))
        update = {
            "event": event,
            "execution_id": identity,
            "timestamp": stamp(self.now),
            "order": ticket.answer(),
            **(more or {}),
        }
        for listener in self.listeners:
            listener(update)

    def account(self) -> Answer:
        """`GET /v2/account`."""
        account = self.broker.account()
        equity, terms = account.equity, self.settings.margin
        values = {s: float(q) * account.prices[s] for s, q in account.positions.items()}
        coins = sum(v for s, v in values.items() if instrument(s).kind is Kind.CRYPTO)
        stocks = [v for s, v in values.items() if instrument(s).kind is Kind.STOCK]
        leverage = terms.leverage if equity >= terms.margin_equity else 1.0
        power = max(leverage * (equity - coins) - sum(map(abs, stocks)), 0.0)
        longs, shorts = (sum(v for v in values.values() if (v > 0) is sign) for sign in (True, False))
        yesterday = next((e for at, e in reversed(self.curve) if at < self.now.astype("datetime64[D]")), equity)
        return {
            "id": ACCOUNT,
            "account_number": "SIMULATED",
            "status": "ACTIVE",
            "crypto_status": "ACTIVE",
            "currency": "USD",
            "cash": repr(account.cash),
            "equity": repr(equity),
            "last_equity": repr(yesterday),
            "portfolio_value": repr(equity),
            "buying_power": repr(power),
            "regt_buying_power": repr(max(2 * (equity - coins) - sum(map(abs, stocks)), 0.0)),
            "non_marginable_buying_power": repr(account.unborrowed_cash),
            "long_market_value": repr(longs),
            "short_market_value": repr(shorts),
            "multiplier": f"{leverage:g}",
            "shorting_enabled": equity >= terms.margin_equity,
            "trading_blocked": False,
            "account_blocked": False,
            "transfers_blocked": False,
            "trade_suspended_by_user": False,
            "created_at": stamp(self.bars.times[self._first]),
        }

    def positions(self) -> list[Answer]:
        """`GET /v2/positions`."""
        account = self.broker.account()
        book = self.broker.short_proceeds()
        return [self._position(s, q, account.prices[s], book.get(s, 0.0)) for s, q in account.positions.items()]

    def _position(self, symbol: str, quantity: Decimal, price: float, proceeds: float) -> Answer:
        coin, value = instrument(symbol).kind is Kind.CRYPTO, float(quantity) * price
        entry = proceeds / float(-quantity) if quantity < 0 else self._entries[symbol][1]
        return {
            "asset_id": asset_id(symbol),
            "symbol": symbol,
            "exchange": "CRYPTO" if coin else "NASDAQ",
            "asset_class": "crypto" if coin else "us_equity",
            "asset_marginable": not coin,
            "qty": text(quantity),
            "qty_available": text(quantity),
            "side": "long" if quantity > 0 else "short",
            "avg_entry_price": repr(entry),
            "cost_basis": repr(entry * float(quantity)),
            "market_value": repr(value),
            "unrealized_pl": repr(value - entry * float(quantity)),
            "current_price": repr(price),
        }

    def _average(self, fill: Fill) -> None:
        """Mean price of what is held: what opens averages, what closes leaves it."""
        before, entry = self._entries.get(fill.symbol, (Decimal(0), 0.0))
        after = before + fill.qty
        if before * after <= 0:
            entry = fill.price
        elif abs(after) > abs(before) and fill.price > 0:
            entry = (entry * float(before) + fill.price * float(fill.qty)) / float(after)
        self._entries[fill.symbol] = after, entry

    def clock(self) -> Answer:
        """`GET /v2/clock`."""
        grid, now = stock_grid(), self.now
        k = int(np.searchsorted(grid.closes, now, side="right"))
        opened = bool(in_session(np.array([now]))[0])
        following = k + 1 if opened else k
        return {
            "timestamp": stamp(now),
            "is_open": opened,
            "next_open": stamp(grid.opens[following]),
            "next_close": stamp(grid.closes[k]),
        }

    def bars_of(self, symbols: Sequence[str], start: np.datetime64, end: np.datetime64) -> dict[str, list[Answer]]:
        """Bars that begin between two instants and are known by now, by symbol; what the panel lacks is left out."""
        found: dict[str, list[Answer]] = {}
        known = self.bars.between(0, self.index + 1)
        for symbol in symbols:
            if symbol not in known.symbols:
                continue
            s = known.symbols.index(symbol)
            times, values = known.own(s)
            begins = started_at(known.instruments[s].kind, times)
            rows = np.flatnonzero((begins >= start) & (begins <= end))
            stamps = [stamp(begin) for begin in begins[rows]]
            found[symbol] = [
                {"t": at, "o": o, "h": h, "l": low, "c": c, "v": v, "n": 1, "vw": c}
                for at, (o, h, low, c, v) in zip(stamps, values[rows].tolist(), strict=True)
            ]
        return found


def _traded(fill: Fill) -> Answer:
    return {"symbol": spelled(fill.symbol), "qty": text(abs(fill.qty)), "price": repr(fill.price)}
