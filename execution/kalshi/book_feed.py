"""The venue's stream of order books, kept in a thread of its own; it reconnects by itself."""

from __future__ import annotations

import json
import logging
import random
import socket
import threading
import time
from collections.abc import Iterable
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from execution.kalshi.books import BookKeeper, OrderBook
from execution.kalshi.endpoint import STREAM, KalshiKeys, KalshiSettings, milliseconds
from foundation.errors import BrokerError, SenselessAnswer, in_one_line
from trainingdata.feed.fields import as_mapping

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

log = logging.getLogger(__name__)

PARTING = 10.0  # seconds that a stream may take to end
ALIVE = 10.0  # seconds between pings, and for the answer to one
FIRST_PAUSE = 0.2  # seconds before a connection is tried again, doubled with every failure
LONGEST_PAUSE = 30.0
PATIENCE = 10.0  # seconds that a snapshot may take before the connection is made anew
LARGEST = 2**24  # bytes of a message


class BookFeed:
    """Keeps the books of some markets while it is entered.

    A book is used only while it is certain: from its snapshot until a number is missing or the
    connection is lost. It goes straight to the venue: through a proxy quotes are read by REST.

    settings: where the venue is.
    keys: what opens it.
    markets: tickers.
    connections: how often it has been connected.
    """

    def __init__(self, settings: KalshiSettings, keys: KalshiKeys, markets: Iterable[str]) -> None:
        self._settings = settings
        self._keys = keys
        self._keeper = BookKeeper(markets)
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._ended = threading.Event()
        self._stream: ClientConnection | None = None
        self._thread = threading.Thread(target=self._run, name="order books", daemon=True)
        self.connections = 0

    def __enter__(self) -> BookFeed:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        with self._lock:
            stream = self._stream
            self._keeper.end("nobody listens to its stream")
        if stream is not None:
            stream.close()
        self._thread.join(PARTING)
        if self._thread.is_alive():
            log.warning("order books: the stream did not end in %.0f s", PARTING)

    def book(self, market: str) -> OrderBook:
        """The book of a market.

        Raises
        ------
        BrokerError
            for one that is not certain now, saying why.
        """
        with self._lock:
            if why := self._keeper.staleness(market):
                raise BrokerError(f"{market}: its order book is stale: {why}")
            return self._keeper.book(market)

    def best(self, market: str) -> tuple[Decimal, Decimal]:
        """Best bid and ask of YES, USD; 0 and 1 where there is none.

        Raises
        ------
        BrokerError
            for a book that is not certain now, or whose bid is above its ask.
        """
        book = self.book(market)
        if book.best_bid > book.best_ask:
            raise BrokerError(
                f"{market}: its order book is crossed: {book.best_bid} bid, {book.best_ask} ask"
            )
        return book.best_bid, book.best_ask

    def wait(self, seconds: float) -> bool:
        """Wait for so many seconds, or until something was heard; whether it was."""
        heard = self._news.wait(seconds)
        self._news.clear()
        return heard

    def wait_until_certain(self, seconds: float) -> bool:
        """Wait for so many seconds, or until no book is stale; whether none is."""
        until = time.monotonic() + seconds
        while not self._keeper.all_certain and (left := until - time.monotonic()) > 0:
            self.wait(left)
        return self._keeper.all_certain

    def _run(self) -> None:
        failures = 0
        while not self._ended.is_set():
            why = self._listen()
            with self._lock:
                certain = self._keeper.all_certain
                self._keeper.end(why)
            if self._ended.is_set():
                return
            failures = 0 if certain else failures + 1
            self._news.set()
            log.warning("order books: %s; it is tried again", why)
            pause = min(FIRST_PAUSE * 2**failures, LONGEST_PAUSE)
            self._ended.wait(pause * random.uniform(0.5, 1.0))

    def _listen(self) -> str:
        """Listen until the connection ends; why it did."""
        from websockets.exceptions import WebSocketException

        try:
            with self._connected() as stream:
                with self._lock:
                    self._stream = stream
                    self.connections += 1
                    first = self._keeper.begin()
                stream.send(json.dumps(first))
                certain_at = time.monotonic()
                while not self._ended.is_set():
                    if self._take_next(stream):
                        certain_at = time.monotonic()
                    elif time.monotonic() - certain_at > PATIENCE:
                        return f"no snapshot came in {PATIENCE:g} s"
        except (WebSocketException, OSError, TimeoutError) as error:
            return self._shown(f"the stream was lost: {type(error).__name__}: {error}")
        except SenselessAnswer as error:
            return self._shown(str(error))
        finally:
            with self._lock:
                self._stream = None
        return "the stream has ended"

    def _connected(self) -> ClientConnection:
        from websockets.sync.client import connect

        address = self._settings.stream_address
        parts = urlsplit(address)
        port = parts.port or (443 if parts.scheme == "wss" else 80)
        # With a socket of its own the library follows no redirect: keys are sent nowhere else.
        line = socket.create_connection(
            (parts.hostname or "", port), timeout=self._settings.connect_timeout
        )
        try:
            return connect(
                address,
                sock=line,
                additional_headers=self._keys.headers("GET", STREAM, milliseconds()),
                open_timeout=self._settings.read_timeout,
                ping_interval=ALIVE,
                ping_timeout=ALIVE,
                close_timeout=PARTING / 2,
                max_size=LARGEST,
            )
        except BaseException:
            line.close()
            raise

    def _take_next(self, stream: ClientConnection) -> bool:
        """Wait a while for the next message; whether every book is certain after it."""
        try:
            text = stream.recv(timeout=PATIENCE)
        except TimeoutError:
            return self._keeper.all_certain
        self._take(stream, text)
        return self._keeper.all_certain

    def _take(self, stream: ClientConnection, text: Any) -> None:
        try:
            message = as_mapping(json.loads(text))
        except ValueError as error:
            if isinstance(error, SenselessAnswer):
                raise
            raise SenselessAnswer("a message is no JSON") from None
        with self._lock:
            asked = self._keeper.heard(message)
        self._news.set()
        for command in asked:
            log.info("order books: %s", command)
            stream.send(json.dumps(command))

    def _shown(self, text: str) -> str:
        return in_one_line(self._keys.redact(text))
