"""The practice venue's websocket: books, others' trades and the account's fills as they change.

A client subscribes to channels; each channel of a command is a subscription with an `sid` of its
own, and messages of a subscription to books are numbered by `seq` from 1. `update_subscription`
takes `add_markets`, `delete_markets` and `get_snapshot`, which sends the books anew. An empty side
of a book is left out of a snapshot. With `use_yes_price` levels of NO have the price of YES.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from execution.kalshi.fees import NOTHING
from execution.kalshi.orders import PAYOUT
from marketsimulator.kalshi.news import Book, PriceLevel, PublicTrade, TickNews
from marketsimulator.kalshi.tickets import Answer, Trade, counted, dollars, milliseconds, written
from marketsimulator.kalshi.venue import KalshiVenue
from marketsimulator.venue.faults import BOOK_FAULTS, FaultPlan

BOOKS = "orderbook_delta"
TRADES = "trade"
FILLS = "fill"
CHANNELS = (BOOKS, TRADES, FILLS)
ERRORS = {  # codes of the API
    2: "Params required",
    3: "Channels required",
    5: "Unknown command",
    7: "Unknown subscription ID",
    8: "Unknown channel name",
    11: "Invalid parameter",
    13: "Unsupported action",
}
_ACTIONS = ("add_markets", "delete_markets", "get_snapshot")


class _Unusable(Exception):
    """A command that cannot be done; code: of `ERRORS`."""

    def __init__(self, code: int) -> None:
        super().__init__(ERRORS[code])
        self.code = code


@dataclass(slots=True)
class _Subscription:
    """One channel of a connection.

    tickers: of markets; empty for all, which only trades and fills may have.
    yes_prices: whether levels of NO have the price of YES.
    seq: number of the last message.
    late: messages that a fault holds until the next one has gone.
    """

    sid: int
    channel: str
    tickers: list[str]
    yes_prices: bool
    seq: int = 0
    late: list[Answer] = field(default_factory=list)

    def wants(self, ticker: str) -> bool:
        return not self.tickers or ticker in self.tickers


class _Connection:
    """A client: what it has subscribed to, and what is on its way to it."""

    def __init__(self) -> None:
        self.subscriptions: dict[int, _Subscription] = {}
        self.outbox: asyncio.Queue[Answer] = asyncio.Queue()
        self.sids = 0

    def subscribe(self, channel: str, tickers: list[str], *, yes_prices: bool) -> _Subscription:
        self.sids += 1
        subscription = _Subscription(self.sids, channel, list(tickers), yes_prices)
        self.subscriptions[self.sids] = subscription
        return subscription


class BookStream:
    """Every connection, and what each is sent."""

    def __init__(self, venue: KalshiVenue, faults: FaultPlan) -> None:
        self._venue = venue
        self._faults = faults
        self._sockets: dict[web.WebSocketResponse, _Connection] = {}
        self._shown = {ticker: venue.book(ticker) for ticker in venue.exchange.listings}
        venue.listeners.append(self.publish)

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """`GET /trade-api/ws/v2`."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        connection = _Connection()
        self._sockets[socket] = connection
        writer = asyncio.get_running_loop().create_task(_write(socket, connection.outbox))
        try:
            async for message in socket:
                if message.type == WSMsgType.TEXT:
                    self._obey(connection, message.data)
        finally:
            writer.cancel()
            del self._sockets[socket]
        return socket

    async def hang_up(self) -> None:
        """Drop every connection; a client may come back."""
        for socket in list(self._sockets):
            await socket.close()

    def publish(self, news: TickNews) -> None:
        """Send what a tick brought to whoever has subscribed to it."""
        deltas = {
            ticker: _changes(self._shown[ticker], self._book(ticker)) for ticker in news.moved
        }
        for ticker in news.moved:
            self._shown[ticker] = self._book(ticker)
        for connection in self._sockets.values():
            for subscription in connection.subscriptions.values():
                for message in self._messages(subscription, news, deltas):
                    self._send(connection, subscription, message)

    def _messages(
        self, subscription: _Subscription, news: TickNews, deltas: Mapping[str, list[_Change]]
    ) -> list[Answer]:
        """What a tick brought to one subscription."""
        wants = subscription.wants
        if subscription.channel == TRADES:
            return [self._trade_message(each) for each in news.public if wants(each.ticker)]
        if subscription.channel == FILLS:
            return [_fill_message(each) for each in news.trades if wants(each.ticker)]
        return [
            self._delta_message(subscription, ticker, change)
            for ticker, changes in deltas.items()
            if wants(ticker)
            for change in changes
        ]

    def _send(self, connection: _Connection, subscription: _Subscription, message: Answer) -> None:
        """Send a message, or fail to, on demand."""
        fault = self._faults.take(BOOK_FAULTS, path=subscription.channel)
        kind = fault.kind if fault is not None else ""
        if kind == "silence":
            return
        numbered = _numbered(subscription, message)
        if kind == "gap":
            return
        if kind == "out_of_order":
            subscription.late.append(numbered)
            return
        sent = [numbered, *([numbered] if kind == "duplicate" else []), *subscription.late]
        subscription.late = []
        for each in sent:
            connection.outbox.put_nowait(each)

    def _obey(self, connection: _Connection, text: str) -> None:
        """Do a command, and answer it."""
        command: Any = {}
        try:
            command = json.loads(text)
            self._do(connection, command)
        except _Unusable as error:
            self._answer_error(connection, command.get("id"), error.code)
        except (ValueError, AttributeError, TypeError):
            self._answer_error(connection, None, 11)

    def _do(self, connection: _Connection, command: Mapping[str, Any]) -> None:
        number = command.get("id")
        params = command.get("params")
        if not isinstance(params, Mapping):
            raise _Unusable(2)
        if command.get("cmd") == "subscribe":
            self._subscribe(connection, number, params)
        elif command.get("cmd") == "unsubscribe":
            for sid in params.get("sids", []):
                _known(connection, sid)
                del connection.subscriptions[sid]
                connection.outbox.put_nowait({"id": number, "type": "unsubscribed", "sid": sid})
        elif command.get("cmd") == "update_subscription":
            self._update(connection, number, params)
        else:
            raise _Unusable(5)

    def _subscribe(self, connection: _Connection, number: Any, params: Mapping[str, Any]) -> None:
        channels = params.get("channels")
        if not isinstance(channels, list) or not channels:
            raise _Unusable(3)
        if set(channels) - set(CHANNELS):
            raise _Unusable(8)
        tickers = self._tickers(params)
        if BOOKS in channels and not tickers:
            raise _Unusable(11)
        yes_prices = params.get("use_yes_price") is True
        for channel in channels:
            subscription = connection.subscribe(channel, tickers, yes_prices=yes_prices)
            msg = {"channel": channel, "sid": subscription.sid}
            connection.outbox.put_nowait({"id": number, "type": "subscribed", "msg": msg})
            if channel == BOOKS:
                self._snapshots(connection, subscription, tickers)

    def _update(self, connection: _Connection, number: Any, params: Mapping[str, Any]) -> None:
        sids = params.get("sids") or [params.get("sid")]
        if len(sids) != 1:
            raise _Unusable(11)
        subscription = _known(connection, sids[0])
        action = params.get("action")
        if action not in _ACTIONS:
            raise _Unusable(13)
        tickers = self._tickers(params)
        if action == "delete_markets":
            kept = [each for each in subscription.tickers if each not in tickers]
            subscription.tickers = kept
        elif action == "add_markets":
            subscription.tickers += [each for each in tickers if each not in subscription.tickers]
        answer = {
            "id": number,
            "sid": subscription.sid,
            "type": "ok",
            "msg": {"market_tickers": subscription.tickers},
        }
        connection.outbox.put_nowait(answer)
        if action != "delete_markets" and subscription.channel == BOOKS:
            self._snapshots(connection, subscription, tickers or subscription.tickers)

    def _tickers(self, params: Mapping[str, Any]) -> list[str]:
        tickers = params.get("market_tickers")
        if tickers is None:
            tickers = [params["market_ticker"]] if "market_ticker" in params else []
        if not isinstance(tickers, list) or set(tickers) - set(self._venue.exchange.listings):
            raise _Unusable(11)
        return tickers

    def _snapshots(
        self, connection: _Connection, subscription: _Subscription, tickers: Sequence[str]
    ) -> None:
        for ticker in tickers:
            book = self._book(ticker)
            msg: Answer = {"market_ticker": ticker, "market_id": ticker}
            yes = [[dollars(price), counted(size)] for price, size in book.bids]
            no = [[_no_price(subscription, level), counted(level[1])] for level in book.asks]
            msg |= {"yes_dollars_fp": yes} if yes else {}
            msg |= {"no_dollars_fp": no} if no else {}
            message = {"type": "orderbook_snapshot", "sid": subscription.sid, "msg": msg}
            connection.outbox.put_nowait(_numbered(subscription, message))

    def _book(self, ticker: str) -> Book:
        return self._venue.book(ticker)

    def _delta_message(self, subscription: _Subscription, ticker: str, change: _Change) -> Answer:
        side, level = change
        price = dollars(level[0]) if side == "yes" else _no_price(subscription, level)
        msg = {
            "market_ticker": ticker,
            "market_id": ticker,
            "price_dollars": price,
            "delta_fp": counted(level[1]),
            "side": side,
            "ts": written(self._venue.now),
            "ts_ms": milliseconds(self._venue.now),
        }
        return {"type": BOOKS, "sid": subscription.sid, "msg": msg}

    def _trade_message(self, trade: PublicTrade) -> Answer:
        msg = {
            "market_ticker": trade.ticker,
            "yes_price_dollars": dollars(trade.price),
            "no_price_dollars": dollars(PAYOUT - trade.price),
            "count_fp": counted(trade.count),
            "taker_side": trade.taker.lower(),
            "ts": milliseconds(self._venue.now) // 1000,
            "ts_ms": milliseconds(self._venue.now),
        }
        return {"type": TRADES, "msg": msg}

    def _answer_error(self, connection: _Connection, number: Any, code: int) -> None:
        msg = {"code": code, "msg": ERRORS[code]}
        connection.outbox.put_nowait({"id": number, "type": "error", "msg": msg})


_Change = tuple[str, PriceLevel]  # side of the book, price of YES and contracts that came or went


def _changes(before: Book, after: Book) -> list[_Change]:
    """What turns one book into another, level by level."""
    changes: list[_Change] = []
    for side, old, new in (("yes", before.bids, after.bids), ("no", before.asks, after.asks)):
        were = dict(old)
        are = dict(new)
        for price in sorted(were.keys() | are.keys()):
            delta = are.get(price, NOTHING) - were.get(price, NOTHING)
            if delta:
                changes.append((side, (price, delta)))
    return changes


def _no_price(subscription: _Subscription, level: PriceLevel) -> str:
    """The price of a level of NO as a subscription wants it."""
    return dollars(level[0] if subscription.yes_prices else PAYOUT - level[0])


def _fill_message(trade: Trade) -> Answer:
    msg = {
        "trade_id": trade.trade_id,
        "order_id": trade.order_id,
        "client_order_id": trade.client_order_id,
        "market_ticker": trade.ticker,
        "is_taker": trade.taker,
        "side": trade.outcome.lower(),
        "action": trade.verb.lower(),
        "outcome_side": "yes" if trade.side == "bid" else "no",
        "book_side": trade.side,
        "yes_price_dollars": dollars(trade.price),
        "count_fp": counted(trade.count),
        "fee_cost": dollars(trade.fee),
        "post_position_fp": counted(trade.position),
        "ts": milliseconds(trade.at) // 1000,
        "ts_ms": milliseconds(trade.at),
    }
    return {"type": FILLS, "msg": msg}


def _numbered(subscription: _Subscription, message: Answer) -> Answer:
    """A message with the subscription's id, and of books with the next number."""
    message = {**message, "sid": subscription.sid}
    if subscription.channel == BOOKS:
        subscription.seq += 1
        message["seq"] = subscription.seq
    return message


def _known(connection: _Connection, sid: Any) -> _Subscription:
    if sid not in connection.subscriptions:
        raise _Unusable(7)
    return connection.subscriptions[sid]


async def _write(socket: web.WebSocketResponse, outbox: asyncio.Queue[Answer]) -> None:
    """Send what waits, in its order."""
    while True:
        message = await outbox.get()
        if not socket.closed:
            await socket.send_str(json.dumps(message))
