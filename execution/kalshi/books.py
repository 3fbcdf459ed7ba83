"""Order books from a stream's snapshots and deltas; what is not certain is stale and asked anew.

Messages of a subscription are numbered. One that is missing could have changed any of its books:
all of them are stale then, and a new snapshot of each is asked for. What comes before that snapshot
is in it. One that comes twice or late is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from execution.kalshi.fees import NOTHING
from execution.kalshi.fields import DeltaMessage, Level, SnapshotMessage, StreamMessage
from execution.kalshi.orders import PAYOUT, Outcome
from foundation.errors import SenselessAnswer

CHANNEL = "orderbook_delta"
UNHEARD = "nothing has been heard of it"
Command = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OrderBook:
    """What waits in a market, USD of YES and contracts above 0.

    bids: by price, of what buys YES.
    asks: by price, of what sells it.
    """

    bids: Mapping[Decimal, Decimal] = field(default_factory=dict)
    asks: Mapping[Decimal, Decimal] = field(default_factory=dict)

    @classmethod
    def of(cls, bids: Iterable[Level], asks: Iterable[Level]) -> OrderBook:
        """The book of levels; those without a contract are none."""
        return cls(
            {price: count for price, count in bids if count},
            {price: count for price, count in asks if count},
        )

    @property
    def best_bid(self) -> Decimal:
        """USD of YES; 0 where nobody bids."""
        return max(self.bids, default=NOTHING)

    @property
    def best_ask(self) -> Decimal:
        """USD of YES; 1 where nobody offers."""
        return min(self.asks, default=PAYOUT)

    def after(self, side: Outcome, price: Decimal, change: Decimal) -> OrderBook:
        """The book with contracts added at a price, or taken away; side: YES of bids, NO of asks.

        Raises
        ------
        SenselessAnswer
            for more taken away than is there.
        """
        levels = dict(self.bids if side == "YES" else self.asks)
        count = levels.pop(price, NOTHING) + change
        if count < 0:
            raise SenselessAnswer(
                f"delta_fp takes {-change} at {price}, {count - change} are there"
            )
        if count:
            levels[price] = count
        return OrderBook(levels, self.asks) if side == "YES" else OrderBook(self.bids, levels)


class BookKeeper:
    """The books of one connection after another; it sends nothing itself.

    markets: tickers that are followed.
    """

    def __init__(self, markets: Iterable[str]) -> None:
        self.markets = tuple(markets)
        self._books: dict[str, OrderBook] = {}
        self._stale = dict.fromkeys(self.markets, UNHEARD)
        self._serials: dict[int, int] = {}
        self._commands = 0

    def begin(self) -> Command:
        """What a new connection is asked; nothing that was known before holds."""
        self.end("its stream has begun anew")
        self._serials.clear()
        return self._command(
            "subscribe",
            channels=[CHANNEL],
            market_tickers=list(self.markets),
            use_yes_price=True,
        )

    def end(self, why: str) -> None:
        """Nothing is certain any more."""
        self._stale = {market: self._stale.get(market) or why for market in self.markets}

    def staleness(self, market: str) -> str:
        """Why a book is not to be used, in words; empty where it is."""
        return self._stale.get(market, UNHEARD)

    @property
    def all_certain(self) -> bool:
        """Whether no book is stale."""
        return not any(self._stale.values())

    def book(self, market: str) -> OrderBook:
        """The book of a market as it was last certain."""
        return self._books.get(market, OrderBook())

    def heard(self, message: Mapping[str, Any]) -> list[Command]:
        """What is to be asked after a message.

        Raises
        ------
        SenselessAnswer
            for a message without its fields, and for one that says that a command failed.
        """
        kind = StreamMessage.kind.of(message)
        content = StreamMessage.content.of(message)
        if kind == "error":
            raise SenselessAnswer(f"the stream says: {content.get('msg')!r}")
        if kind not in ("orderbook_snapshot", CHANNEL):
            return []
        subscription = StreamMessage.subscription.of(message)
        serial = StreamMessage.serial.of(message)
        if subscription is None or serial is None:
            raise SenselessAnswer("sid or seq is missing")
        last = self._serials.get(subscription)
        if last is not None and serial <= last:
            return []
        self._serials[subscription] = serial
        asked = []
        if last is not None and serial != last + 1:
            self.end(f"seq went from {last} to {serial}")
            asked.append(self._snapshot(subscription, self.markets))
        if kind == CHANNEL:
            return asked + self._change(subscription, content)
        self._take(content)
        return asked

    def _take(self, content: Mapping[str, Any]) -> None:
        market = SnapshotMessage.ticker.of(content)
        bids = SnapshotMessage.bids.of(content)
        asks = SnapshotMessage.asks.of(content)
        if market in self.markets:
            self._books[market] = OrderBook.of(bids, asks)
            self._stale[market] = ""

    def _change(self, subscription: int, content: Mapping[str, Any]) -> list[Command]:
        market = DeltaMessage.ticker.of(content)
        side = DeltaMessage.side.of(content)
        price = DeltaMessage.price.of(content)
        change = DeltaMessage.change.of(content)
        if self.staleness(market):
            return []
        try:
            self._books[market] = self._books[market].after(side, price, change)
        except SenselessAnswer as error:
            self._stale[market] = error.why
            return [self._snapshot(subscription, (market,))]
        return []

    def _snapshot(self, subscription: int, markets: Iterable[str]) -> Command:
        return self._command(
            "update_subscription",
            sids=[subscription],
            action="get_snapshot",
            market_tickers=list(markets),
        )

    def _command(self, name: str, **params: Any) -> Command:
        self._commands += 1
        return {"id": self._commands, "cmd": name, "params": params}
