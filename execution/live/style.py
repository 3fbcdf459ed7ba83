"""How orders are worked: at the market, or by limits that follow it until they have filled.

A limit order that has not filled after a while is cancelled, and what is left of it is ordered
again at a new limit under an id of its own, in the place of the first; the last try goes to the
market or is cancelled. The backtest trades at the market: with limits live fills differ from it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_DOWN, ROUND_UP, Decimal
from typing import Literal

import numpy as np

from execution.alpaca.order_requests import order_request
from execution.broker import Asset, Broker, is_whole
from execution.intents import IntentBook
from execution.orders import Account, Fill, Order
from foundation.errors import refuse_outside
from trainingdata.feed.market_data import LastTrade
from trainingdata.instruments import Kind

log = logging.getLogger(__name__)

CENT = Decimal("0.01")
COIN_DIGITS = 6  # of a coin's price in USD

Prices = Callable[[Sequence[str]], Mapping[str, LastTrade]]


@dataclass(frozen=True, slots=True)
class StyleSettings:
    """How orders are worked; names are keys of the YAML below `style`.

    type: `market`, or `limit`.
    concession: share of the last trade that a limit gives up, 0 to 0.05.
    seconds: that a limit order may take before it is priced anew, 1 to 600.
    tries: limits in all, 1 to 20.
    last: what becomes of what no limit has filled: `market` or `cancel`.
    """

    type: Literal["market", "limit"] = "market"
    concession: float = 0.0005
    seconds: float = 15.0
    tries: int = 3
    last: Literal["market", "cancel"] = "market"

    def __post_init__(self) -> None:
        refuse_outside(self, "style", concession=(0, 0.05), seconds=(1, 600), tries=(1, 20))

    def styled(self, order: Order, price: float | None) -> Order:
        """A market order as this style sends it; price: USD, of the last trade."""
        if self.type == "market" or order.type != "market" or price is None:
            return order
        limit = limit_price(order, price, self.concession)
        return replace(order, type="limit", limit_price=limit)


def limit_price(order: Order, price: float, concession: float) -> float:
    """The limit of an order that gives up a share of a price, in the venue's steps."""
    worst = price * (1 + concession if order.side == "buy" else 1 - concession)
    coin = order.instrument.kind is Kind.CRYPTO
    step = Decimal(1).scaleb(-COIN_DIGITS) if coin else CENT
    rounding = ROUND_UP if order.side == "buy" else ROUND_DOWN
    return float(max(Decimal(repr(worst)).quantize(step, rounding), step))


class WorkedOrders:
    """A broker whose limit orders are priced anew until they have filled, or given up.

    inner: sends them, and waits for each try as long as its patience says.
    book: in which a successor takes the place of the order before it.
    prices: the last trades of symbols.
    """

    def __init__(
        self, inner: Broker, book: IntentBook, prices: Prices, settings: StyleSettings
    ) -> None:
        self._inner = inner
        self._book = book
        self._prices = prices
        self._settings = settings

    def now(self) -> np.datetime64:
        """What the venue's clock says."""
        return self._inner.now()

    def account(self) -> Account:
        """The account now, open orders included."""
        return self._inner.account()

    def cancel(self, client_order_ids: Iterable[str]) -> Mapping[str, Decimal]:
        """Cancel what still works under these ids, and return what of each has not filled."""
        return self._inner.cancel(client_order_ids)

    def fills_since(self, at: np.datetime64) -> list[Fill]:
        """Every fill after an instant, oldest first."""
        return self._inner.fills_since(at)

    def assets(self, symbols: Sequence[str]) -> Mapping[str, Asset]:
        """What may be done with each symbol that the venue knows."""
        return self._inner.assets(symbols)

    def submit(self, orders: Sequence[Order]) -> list[Fill]:
        """Send orders, work those with limits, and return what has filled, by the first ids.

        Raises
        ------
        OutcomeUnknown
            where nobody knows what became of an order.
        """
        fills = self._inner.submit(orders)
        working = {order.client_order_id: order for order in orders if order.type == "limit"}
        limited = set(working)
        for attempt in range(1, self._settings.tries + 1):
            working = {first: each for first, each in working.items() if self._is_left(each)}
            if not working:
                break
            working = self._successors(working, last=attempt == self._settings.tries)
            self._inner.submit(list(working.values()))
        return [
            *(fill for fill in fills if fill.client_order_id not in limited),
            *(
                fill
                for order in orders
                if order.client_order_id in limited
                for fill in self._filled(order)
            ),
        ]

    def _is_left(self, order: Order) -> bool:
        """Whether an order has not filled whole, by what the venue said of it last."""
        intent = self._book.get(order.client_order_id)
        return intent is not None and not is_whole(intent.progress.filled, order.qty)

    def _filled(self, order: Order) -> Iterator[Fill]:
        """What an order and those in its place have filled, under its id.

        A coin's fee is not among it: the venue takes it out of what was bought.
        """
        name = order.client_order_id
        at = self._inner.now()
        while name and (intent := self._book.get(name)) is not None:
            progress = intent.progress
            if progress.filled and progress.filled_price is not None:
                signed = progress.filled if order.side == "buy" else -progress.filled
                price = float(progress.filled_price)
                yield Fill(order.client_order_id, order.symbol, signed, price, 0.0, at)
            name = progress.successor

    def _successors(self, working: Mapping[str, Order], *, last: bool) -> dict[str, Order]:
        """What takes the place of orders that have not filled whole, by their first ids."""
        left = self._inner.cancel([order.client_order_id for order in working.values()])
        if last and self._settings.last == "cancel":
            return {}
        trades = self._prices(sorted({order.symbol for order in working.values()}))
        successors = {}
        for first, order in working.items():
            rest = left.get(order.client_order_id, Decimal(0))
            trade = trades.get(order.symbol)
            if not rest or trade is None:
                continue
            successor = _successor(order, rest, None if last else trade.price, self._settings)
            if self._planned(order, successor):
                successors[first] = successor
        return successors

    def _planned(self, order: Order, successor: Order) -> bool:
        """Whether the book has put a successor in an order's place."""
        before = self._book.get(order.client_order_id)
        if before is None or before.state != "canceled":
            return False
        intent = replace(
            before,
            client_order_id=successor.client_order_id,
            request=order_request(successor),
            state="planned",
            why="",
            progress=replace(
                before.progress, state="planned", venue_id="", filled=Decimal(0), filled_price=None
            ),
        )
        self._book.put_in_place(order.client_order_id, intent)
        return True


def _successor(
    order: Order, quantity: Decimal, price: float | None, settings: StyleSettings
) -> Order:
    """The order for what is left of another; price: USD, of the last trade, none for the market."""
    stem, _, attempt = order.client_order_id.rpartition("-")
    name = f"{stem}-{int(attempt) + 1}"
    if price is None:
        return replace(order, client_order_id=name, qty=quantity, type="market", limit_price=None)
    limit = limit_price(order, price, settings.concession)
    return replace(order, client_order_id=name, qty=quantity, limit_price=limit)
