"""Alpaca, or a server that speaks as it does, behind the `Broker` protocol."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np

from execution.alpaca.account import account_of, instant_of, number
from execution.alpaca.order_desk import DONE, Answer, OrderDesk
from execution.broker import Asset
from execution.orders import TERMS, Account, Fill, Order, OrderTerms
from execution.venue_rules import refusal
from foundation.errors import OrderRejected
from trainingdata.feed.endpoint import BrokerSettings, Keys
from trainingdata.instruments import BILLIONTH, instrument, is_symbol, spelled

log = logging.getLogger(__name__)

ORDERS = 500  # the most the venue lists at once
RECENT = 60.0  # seconds for which an account that was read is still the account


class AlpacaBroker:
    """An account at the venue.

    terms: what an order may be worth; what the venue would refuse is not sent to it. patience:
    seconds that orders may take to be done; what market orders have not done then is cancelled.
    pause: how it waits; listen: how it waits for news of orders, `TradeUpdates.wait` to be told at
    once.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        keys: Keys,
        *,
        terms: OrderTerms = TERMS,
        patience: float = 10.0,
        pause: Callable[[float], None] = time.sleep,
        listen: Callable[[float], None] | None = None,
    ) -> None:
        self._desk = OrderDesk(settings, keys, pause)
        self._patience = patience
        self._listen = listen or pause
        self._assets: dict[str, Asset] = {}
        self._terms = terms
        self._last: Account | None = None
        self._read_at = 0.0
        self._names: dict[str, str] = {}

    def account(self) -> Account:
        """The account as of the venue's clock, open orders and positions with the venue's prices in
        it.

        Cash that may buy coins is never more than the venue says is not marginable. What is neither
        stock nor coin is not held here; where it is owed, it is taken off cash.

        Raises
        ------
        BrokerError
            for a venue that does not answer, refuses, or answers nonsense.
        """
        client = self._desk.client
        with self._desk.asking("the account"):
            # Orders before positions: one that fills in between is counted twice, which is too
            # careful, never not at all.
            orders = client.get("/orders", {"status": "open", "limit": ORDERS, "nested": "true"})
            positions = client.get_all_positions()
            facts = client.get_account()
            clock = client.get_clock()
            self._last = account_of(facts, positions, orders, clock)
            self._read_at = time.monotonic()
        return self._last

    def now(self) -> np.datetime64:
        """What the venue's clock says."""
        with self._desk.asking("the clock"):
            return instant_of(self._desk.client.get_clock()["timestamp"])

    def submit(self, orders: Sequence[Order]) -> list[Fill]:
        """Send orders, in their order; what they had filled when done, or when patience ended.

        An order that is rejected, or that the venue would not take beside the account as it was
        last read and what has filled since, is logged and fills nothing.

        Raises
        ------
        OutcomeUnknown
            where nobody knows what became of one; those after it are not sent.
        """
        if not orders:
            return []
        sent = self._sent(orders, self._known_account())
        waited = 0.0
        step = 0.05
        while waited < self._patience and any(answer["status"] not in DONE for _, answer in sent):
            self._listen(step)
            waited = waited + step
            step = min(2 * step, 1.0)
            sent = [(order, self._desk.again(answer)) for order, answer in sent]
        done = [
            (order, self._desk.ended(answer) if _at_once(order) else answer)
            for order, answer in sent
        ]
        for order, answer in done:
            if answer["status"] in ("rejected", "expired"):
                log.warning(
                    "%s: %s by the venue after it was taken",
                    order.client_order_id,
                    answer["status"],
                )
        fills = [fill for order, answer in done for fill in self._filled(order, answer)]
        ended = all(answer["status"] in DONE for _, answer in done)
        self._last = _with(self._last, fills) if ended and self._last is not None else None
        return fills

    def _known_account(self) -> Account:
        """The account as last read, with what has filled since; read again where it is old, or
        something may have happened.
        """
        if self._last is None or time.monotonic() - self._read_at > RECENT:
            return self.account()
        return self._last

    def _sent(self, orders: Sequence[Order], account: Account) -> list[tuple[Order, Answer]]:
        """The orders that the venue has taken, with what it said."""
        sent = []
        for order in orders:
            if why := refusal(order, self._assets.get(order.symbol), account, self._terms):
                log.warning("%s is not sent: %s", order.client_order_id, why)
                continue
            try:
                sent.append((order, self._known(order, self._desk.post(_request(order)))))
            except OrderRejected as error:
                log.warning("%s", error)
                continue
            if not _at_once(order):
                account = replace(account, open_orders=(*account.open_orders, order))
        return sent

    def cancel(self, client_order_ids: Iterable[str]) -> None:
        """Cancel what is open under these ids; others are left alone.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        self._last = None
        for name in client_order_ids:
            found = self._desk.named(name)
            if found is not None:
                self._desk.ended(found)

    def fills_since(self, at: np.datetime64) -> list[Fill]:
        """Every fill of stocks and coins after an instant, oldest first. Fees are the venue's to
        book: 0 here.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        rows: list[Answer] = []
        token: str | None = None
        with self._desk.asking("fills"):
            while True:
                query = {
                    "after": f"{at}Z",
                    "direction": "asc",
                    "page_size": 100,
                    **({"page_token": token} if token else {}),
                }
                page = self._desk.client.get("/account/activities/FILL", query)
                rows += page
                if len(page) < 100:
                    break
                token = str(page[-1]["id"])
            return [self._fill_of(row) for row in rows if is_symbol(str(row["symbol"]))]

    def assets(self, symbols: Sequence[str]) -> dict[str, Asset]:
        """What may be done with each symbol that the venue knows.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        found = {}
        for symbol in symbols:
            if (answer := self._desk.find(f"asset {symbol}", f"/assets/{symbol}")) is not None:
                with self._desk.asking(f"asset {symbol}"):
                    found[symbol] = _asset(symbol, answer)
        self._assets |= found
        return found

    def _fill_of(self, row: Answer) -> Fill:
        order = str(row["order_id"])
        if order not in self._names:
            self._names[order] = str(self._desk.client.get(f"/orders/{order}")["client_order_id"])
        quantity = number(row, "qty") * (1 if row["side"] == "buy" else -1)
        symbol = instrument(str(row["symbol"])).symbol
        price = float(number(row, "price"))
        return Fill(
            self._names[order], symbol, quantity, price, 0.0, instant_of(row["transaction_time"])
        )

    def _known(self, order: Order, answer: Answer) -> Answer:
        self._names[str(answer["id"])] = order.client_order_id
        for leg, own in itertools.product(answer.get("legs") or (), order.legs):
            if leg["type"] == own.type:
                self._names[str(leg["id"])] = own.client_order_id
        return answer

    @staticmethod
    def _filled(order: Order, answer: Answer) -> list[Fill]:
        quantity = number(answer, "filled_qty") if answer.get("filled_qty") else Decimal(0)
        if quantity == 0:
            return []
        signed = quantity if order.side == "buy" else -quantity
        at = instant_of(answer.get("filled_at") or answer.get("updated_at"))
        return [
            Fill(
                order.client_order_id,
                order.symbol,
                signed,
                float(number(answer, "filled_avg_price")),
                0.0,
                at,
            )
        ]


def _asset(symbol: str, answer: Answer) -> Asset:
    """An asset of the venue; a share is a step where nothing finer is said, and a billionth of
    it where fractions trade.
    """
    fractions = answer.get("fractionable") is True
    finest = BILLIONTH if fractions else Decimal(1)
    increment = (
        number(answer, "min_trade_increment") if answer.get("min_trade_increment") else finest
    )
    smallest = number(answer, "min_order_size") if answer.get("min_order_size") else increment
    tradable = answer.get("tradable") is True and answer.get("status") == "active"
    short = answer.get("shortable") is True
    easy = answer.get("easy_to_borrow") is True
    return Asset(symbol, tradable, short, easy, fractions, increment, smallest)


def _request(order: Order) -> dict[str, Any]:
    """The order in the venue's words, quantities exact."""
    request: dict[str, Any] = {
        "symbol": spelled(order.symbol),
        "qty": f"{order.qty:f}",
        "side": order.side,
        "type": order.type,
        "time_in_force": order.tif,
        "client_order_id": order.client_order_id,
    }
    for name in ("limit_price", "stop_price", "trail_price", "trail_percent"):
        if (price := getattr(order, name)) is not None:
            request[name] = repr(price)
    if order.extended_hours:
        request["extended_hours"] = True
    if order.or_stop is not None:
        exits = {
            "take_profit": {"limit_price": repr(order.limit_price)},
            "stop_loss": {"stop_price": repr(order.or_stop)},
        }
        return {**request, **exits, "order_class": "oco"}
    legs = {
        "take_profit": ("limit_price", order.take_profit),
        "stop_loss": ("stop_price", order.stop_loss),
    }
    exits = {leg: {key: repr(price)} for leg, (key, price) in legs.items() if price is not None}
    return {
        **request,
        **exits,
        **({"order_class": ("oto", "bracket")[len(exits) - 1]} if exits else {}),
    }


def _at_once(order: Order) -> bool:
    """Whether an order is for now, and what it has not done soon is cancelled."""
    return order.type == "market" and order.tif not in ("opg", "cls")


def _with(account: Account, fills: Sequence[Fill]) -> Account:
    """The account with the positions that fills have made of it; its cash is read again before
    it decides.
    """
    held = dict(account.positions)
    prices = dict(account.prices)
    for fill in fills:
        held[fill.symbol] = held.get(fill.symbol, Decimal(0)) + fill.qty
        prices.setdefault(fill.symbol, fill.price)
    return replace(
        account,
        positions={symbol: quantity for symbol, quantity in held.items() if quantity},
        prices=prices,
    )
