"""The options that a `Venue` trades, in Alpaca's words: orders of several legs, positions,
quotes, contracts.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pandas as pd

from execution.spreads.orders import Contract, OptionLeg, SpreadOrder, contract_of
from foundation.errors import InputError, OrderRejected
from marketsimulator.account.broker import SimulatedBroker
from marketsimulator.options.desk import OptionDesk, SpreadTicket
from marketsimulator.settings import OptionTerms
from marketsimulator.venue.record import Record
from marketsimulator.venue.tickets import NAMES, Answer, Refused, asset_id, stamp, text
from sizing.autoscaler.rules import SHARES
from trainingdata.bars import CLOSE, Bars
from trainingdata.sessions import in_session, new_york_date, session_of
from trainingdata.volatility_index import volatility_index, within_day

Price = Callable[[str], float | None]

REACH = 0.1  # strikes there are, of the underlying's price up and down
ENDED = {
    "filled": "filled_at",
    "canceled": "canceled_at",
    "expired": "expired_at",
    "rejected": "failed_at",
}


class Underlying:
    """A stock of the venue as what options are on, with a volatility index that follows from
    its close before.
    """

    def __init__(
        self, record: Record, bars: Bars, price: Price, symbol: str, vix: pd.Series, response: float
    ) -> None:
        self._record = record
        self._price = price
        self._symbol = symbol
        self._vix = vix
        self._response = response
        times, values = bars.own(bars.symbols.index(symbol))
        self._closes = dict(zip(times.tolist(), values[:, CLOSE].tolist(), strict=True))

    def now(self) -> np.datetime64:
        """Where the venue's clock stands."""
        return self._record.now

    def index(self) -> float | None:
        """What it trades at; None while its market is shut."""
        return self._price(self._symbol) if in_session(np.array([self.now()]))[0] else None

    def volatility(self) -> float | None:
        """The volatility index; None where its close before is not known."""
        session = session_of(new_york_date(np.array([self.now()]))[0])
        index = self.index()
        if session is None or index is None:
            return None
        before = self._vix.get(pd.Timestamp(session.before))
        close = self.close_of(session.before.astype(object))
        return (
            None
            if before is None or close is None
            else float(within_day(before, index, close, self._response))
        )

    def close_of(self, day: date) -> float | None:
        """The last close of a session that has ended."""
        session = session_of(np.datetime64(day, "D"))
        if session is None or session.closes > self.now():
            return None
        return self._closes.get(session.closes.astype("datetime64[ns]").item())


class VenueOptions:
    """The venue's option desks, one an underlying. aside: USD set aside for what positions can
    lose at most.
    """

    def __init__(
        self, record: Record, broker: SimulatedBroker, bars: Bars, price: Price, terms: OptionTerms
    ) -> None:
        """price: of a stock, what a market order sent now trades at."""
        self._record = record
        self._broker = broker
        self._bars = bars
        self._price = price
        self._orders: dict[str, OptionDesk] = {}
        self._names: dict[str, str] = {}
        self._working: dict[str, SpreadTicket | None] = {}
        vix = None if terms.vix is None else volatility_index(terms.vix, "options.vix")
        if absent := [s for s in terms.symbols if vix is not None and s not in bars.symbols]:
            raise InputError(f"options.symbols: there are no bars of {absent[0]}")
        self.desks = (
            {}
            if vix is None
            else {symbol: self._desk(symbol, vix, terms) for symbol in terms.symbols}
        )

    def _desk(self, symbol: str, vix: pd.Series, terms: OptionTerms) -> OptionDesk:
        market = Underlying(self._record, self._bars, self._price, symbol, vix, terms.response)
        broker = self._broker

        def free() -> float:
            return broker.account().unborrowed_cash

        def flow(usd: Decimal) -> None:
            broker.deposit(float(usd))

        return OptionDesk(symbol, market, terms.smile, terms.slippage, free=free, flow=flow)

    @property
    def aside(self) -> float:
        """USD that positions can lose at most."""
        return float(sum(desk.aside for desk in self.desks.values()))

    @property
    def value(self) -> float:
        """What closing all positions would bring in, USD, below 0 where it would cost."""
        return float(sum(desk.value() for desk in self.desks.values()))

    def advance(self) -> None:
        """The venue's clock has moved."""
        for desk in self.desks.values():
            before = desk.held()
            desk.advance()
            self._note_changes()
            for contract in before.keys() - desk.held().keys():
                session = session_of(np.datetime64(contract.expiry, "D"))
                if session is not None and session.closes <= self._record.now:
                    told = {
                        "symbol": contract.symbol,
                        "qty": str(-before[contract]),
                        "price": "0",
                        "net_amount": "0",
                    }
                    self._record.note(
                        {"activity_type": "OPEXP", "date": str(contract.expiry), **told}
                    )

    def submit(
        self, request: Mapping[str, Any], *, partial: bool = False, reject: bool = False
    ) -> Answer:
        """Take an order of several legs. partial: half of it fills, the rest is cancelled; reject:
        turned down afterwards.

        Raises
        ------
        Refused
            for what the venue would not take.
        """
        order = _order_of(request, len(self._orders))
        roots = {leg.contract.root for leg in order.legs}
        desk = self.desks.get(roots.pop()) if len(roots) == 1 else None
        if desk is None:
            raise Refused(
                422,
                42210000,
                f"options on {', '.join(self.desks) or 'nothing'} are traded here, on one in an"
                " order",
            )
        self._record.refuse_known(order.client_order_id)
        try:
            if reject:
                desk.reject(order)
            else:
                desk.send(order, partial=partial)
        except OrderRejected as why:
            raise Refused(403, 40310000, str(why)) from None
        name = order.client_order_id
        self._orders[name] = desk
        self._names[_number(name)] = name
        self._working[name] = None
        self._record.keep(name)
        self._note_changes()
        return self.answer(name)

    def names(self) -> Iterable[str]:
        """Ids of all orders, in the order they came."""
        return self._orders

    def knows(self, name: str) -> bool:
        """Whether an order has this id."""
        return name in self._orders

    def ticket(self, name: str) -> SpreadTicket:
        """An order by its own id."""
        return self._orders[name].tickets[name]

    def name_of(self, number: str) -> str | None:
        """The own id of the order that the venue calls so."""
        return self._names.get(number)

    def cancel(self, name: str) -> None:
        """Cancel an open order.

        Raises
        ------
        Refused
            for one that is not open.
        """
        if (status := self.ticket(name).status) != "new":
            raise Refused(422, 42210000, f"order is already in {status} state")
        self._orders[name].cancel(name)
        self._note_changes()

    def answer(self, name: str, *, nested: bool = True) -> Answer:
        """An order in Alpaca's words; what is brought in is below 0. nested: with its legs in
        it.
        """
        ticket = self.ticket(name)
        order = ticket.order
        filled = str(ticket.filled)
        net = None if not ticket.filled else repr(float(-ticket.fill.credit))
        limit = None if order.least is None else f"{-order.least:.2f}"
        shared = _times(ticket) | {
            "qty": str(order.contracts),
            "filled_qty": filled,
            "order_class": "mleg",
            "order_type": "market" if limit is None else "limit",
            "type": "market" if limit is None else "limit",
            "time_in_force": "day",
            "status": ticket.status,
            "asset_class": "us_option",
            "extended_hours": False,
        }
        prices: Sequence[Decimal | None] = ticket.prices or (None,) * len(order.legs)
        legs = [
            {
                "id": _number(f"{name}/{leg.contract.symbol}"),
                "client_order_id": _number(f"{name}/{leg.contract.symbol}/own"),
                "asset_id": asset_id(leg.contract.symbol),
                "symbol": leg.contract.symbol,
                "side": "buy" if leg.buy else "sell",
                "ratio_qty": "1",
                "filled_avg_price": None if price is None else str(price),
                **shared,
                "limit_price": None,
                "legs": None,
            }
            for leg, price in zip(order.legs, prices, strict=True)
        ]
        own = {
            "id": _number(name),
            "client_order_id": name,
            "symbol": "",
            "side": None,
            "filled_avg_price": net,
        }
        return {**shared, **own, "limit_price": limit, "legs": legs if nested else None}

    def positions(self) -> list[Answer]:
        """Options held, as `GET /v2/positions` says them."""
        found = []
        for desk in self.desks.values():
            held = desk.held()
            known = desk.quotes(held)
            for contract, count in held.items():
                quote = known.get(contract)
                price = Decimal(0) if quote is None else (quote.bid if count > 0 else quote.ask)
                position = {
                    "asset_id": asset_id(contract.symbol),
                    "symbol": contract.symbol,
                    "exchange": "",
                    "asset_class": "us_option",
                    "asset_marginable": False,
                    "qty": str(count),
                    "qty_available": str(count),
                    "side": "long" if count > 0 else "short",
                    "market_value": str(price * count * SHARES),
                    "current_price": str(price),
                }
                unknown = (
                    "avg_entry_price",
                    "cost_basis",
                    "unrealized_pl",
                    "unrealized_plpc",
                    "change_today",
                )
                found.append(
                    {**position, **dict.fromkeys(unknown, "0"), "lastday_price": str(price)}
                )
        return found

    def quotes(self, symbols: Iterable[str]) -> dict[str, Answer]:
        """Latest quotes by OCC symbol; what has none is left out."""
        wanted = [contract_of(symbol) for symbol in symbols]
        found = {}
        for desk in self.desks.values():
            for contract, quote in desk.quotes(wanted).items():
                told = {
                    "t": stamp(self._record.now),
                    "bp": float(quote.bid),
                    "bs": 10,
                    "ap": float(quote.ask),
                    "as": 10,
                }
                found[contract.symbol] = {**told, "bx": "C", "ax": "C", "c": " "}
        return found

    def contracts(self, query: Mapping[str, str]) -> list[Answer]:
        """Options of a day: strikes a point apart, as far as a tenth of the price from it."""
        found = []
        day = date.fromisoformat(
            query.get("expiration_date") or str(new_york_date(np.array([self._record.now]))[0])
        )
        least = float(query.get("strike_price_gte") or 0)
        most = float(query.get("strike_price_lte") or 1e6)
        for root in query.get("underlying_symbols", "").split(","):
            price = self._price(root) if root in self.desks else None
            if price is None or session_of(np.datetime64(day, "D")) is None:
                continue
            for strike in range(int(np.ceil(price * (1 - REACH))), int(price * (1 + REACH)) + 1):
                if least <= strike <= most:
                    found += [
                        _contract(Contract(root, day, call, Decimal(strike)))
                        for call in (True, False)
                    ]
        return [each for each in found if query.get("type") in (None, each["type"])]

    def _note_changes(self) -> None:
        """Tell of what orders have become, and write down what they traded."""
        for name, before in list(self._working.items()):
            ticket = self.ticket(name)
            if ticket == before:
                continue
            self._working[name] = ticket
            if before is None:
                self._tell("new", name, ticket)
            if ticket.filled:
                for leg, price in zip(ticket.order.legs, ticket.prices, strict=True):
                    self._traded(name, leg, price, ticket)
            if ticket.status != "new":
                del self._working[name]
                self._tell("fill" if ticket.status == "filled" else ticket.status, name, ticket)

    def _traded(self, name: str, leg: OptionLeg, price: Decimal, ticket: SpreadTicket) -> None:
        told = {
            "activity_type": "FILL",
            "type": "fill",
            "transaction_time": stamp(ticket.closed or ticket.at),
            "symbol": leg.contract.symbol,
            "qty": text(Decimal(ticket.filled)),
            "price": str(price),
            "side": "buy" if leg.buy else "sell",
            "leaves_qty": "0",
            "cum_qty": text(Decimal(ticket.filled)),
            "order_id": _number(f"{name}/{leg.contract.symbol}"),
            "order_status": ticket.status,
        }
        self._record.note(told)

    def _tell(self, event: str, name: str, ticket: SpreadTicket) -> None:
        self._record.tell(event, f"{name}{event}{ticket.filled}", lambda: self.answer(name))


def _order_of(request: Mapping[str, Any], number: int) -> SpreadOrder:
    """The order of several legs that a request asks for.

    Raises
    ------
    Refused
        naming what is missing or cannot be.
    """
    try:
        kind = str(request["type"])
        name = str(request.get("client_order_id") or uuid.uuid5(NAMES, f"spread {number}"))
        if kind not in ("market", "limit") or (kind == "limit") != (
            request.get("limit_price") is not None
        ):
            raise ValueError(
                "an order of several legs is a market order, or a limit order with a limit_price"
            )
        if request.get("time_in_force") != "day":
            raise ValueError("an order of several legs is good for the day")
        legs = []
        for asked in request["legs"]:
            if Decimal(str(asked["ratio_qty"])) != 1:
                raise ValueError("legs of a ratio other than 1 are not served here")
            side = str(asked.get("side") or str(asked["position_intent"]).split("_")[0])
            if side not in ("buy", "sell"):
                raise ValueError(f"side {side!r} is none of buy, sell")
            legs.append(OptionLeg(contract_of(str(asked["symbol"])), side == "buy"))
        count = Decimal(str(request["qty"]))
        if count != int(count):
            raise ValueError(f"qty {count} is no number of contracts")
        least = None if kind == "market" else -Decimal(str(request["limit_price"]))
        return SpreadOrder(name, tuple(legs), int(count), least)
    except (KeyError, TypeError, AttributeError, InvalidOperation, OverflowError) as error:
        raise Refused(422, 40010001, f"{error} is missing or no number") from None
    except (InputError, ValueError) as error:
        raise Refused(422, 40010001, str(error)) from None


def _times(ticket: SpreadTicket) -> Answer:
    at = stamp(ticket.at)
    closed = None if ticket.closed is None else stamp(ticket.closed)
    ends = {key: closed if ticket.status == status else None for status, key in ENDED.items()}
    return {"created_at": at, "updated_at": closed or at, "submitted_at": at, **ends}


def _contract(contract: Contract) -> Answer:
    return {
        "id": asset_id(contract.symbol),
        "symbol": contract.symbol,
        "name": contract.symbol,
        "status": "active",
        "tradable": True,
        "expiration_date": str(contract.expiry),
        "root_symbol": contract.root,
        "underlying_symbol": contract.root,
        "underlying_asset_id": asset_id(contract.root),
        "type": "call" if contract.call else "put",
        "style": "european",
        "strike_price": str(contract.strike),
        "size": "100",
    }


def _number(name: str) -> str:
    return str(uuid.uuid5(NAMES, f"spread {name}"))
