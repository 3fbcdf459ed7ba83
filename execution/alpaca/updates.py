"""The venue's stream of trade updates, as a hint: it says when to look, REST says what is there.

Fills can be missed while the stream is down, so nothing is taken from it but the news that
something has happened. A connection that has come back is such news: what it missed is read from
REST at once.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any

from trainingdata.feed.endpoint import BrokerSettings, Keys

log = logging.getLogger(__name__)

PARTING = 10.0  # seconds that a stream may take to end
# The SDK's own settings of a connection, and for how long it may wait for the other side to close.
CONNECTION = {"ping_interval": 10, "ping_timeout": 180, "max_queue": 1024, "close_timeout": 1}
STREAM_LOG = "alpaca.trading.stream"  # logs every lost connection with a traceback


class TradeUpdates:
    """Listens in a thread of its own while it is entered, and reconnects by itself.

    heard: updates so far.
    connections: how often it has been connected.
    """

    def __init__(self, settings: BrokerSettings, keys: Keys) -> None:
        from alpaca.trading.stream import TradingStream

        on_connection = self._on_connection

        class Stream(TradingStream):
            async def _start_ws(self) -> None:
                await super()._start_ws()  # type: ignore[no-untyped-call]
                on_connection()

        address = ""
        if settings.address is not None:
            address = f"{settings.address.replace('http', 'ws', 1)}/stream"
        self._stream = Stream(
            keys.key,
            keys.secret,
            paper=settings.paper,
            raw_data=True,
            url_override=address,
            websocket_params=CONNECTION,
        )
        self._stream.subscribe_trade_updates(self._on_update)
        self._news = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="trade updates", daemon=True
        )
        self._listening: asyncio.Task[None] | None = None
        self.heard = 0
        self.connections = 0

    def wait(self, seconds: float) -> None:
        """Wait for news of an order, for the connection to come back, or for so many seconds."""
        self._news.wait(seconds)
        self._news.clear()

    def __enter__(self) -> TradeUpdates:
        logging.getLogger(STREAM_LOG).addFilter(_without_traceback)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ended = asyncio.run_coroutine_threadsafe(self._stop(), self._loop)
        # A stream that does not end well has nothing more to say: what is done beside it goes on.
        try:
            trouble: BaseException | None = ended.exception(PARTING)
        except (TimeoutError, CancelledError) as late:
            trouble = late
        if trouble is not None:
            log.warning("trade updates: the stream did not end well: %s", type(trouble).__name__)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PARTING)
        if not self._thread.is_alive():
            self._end_rest()
            self._loop.close()
        logging.getLogger(STREAM_LOG).removeFilter(_without_traceback)

    def _end_rest(self) -> None:
        """Have connections that are under way end before their loop does."""
        rest = asyncio.all_tasks(self._loop)
        for task in rest:
            task.cancel()
        if rest:
            self._loop.run_until_complete(asyncio.wait(rest, timeout=PARTING))

    async def _listen(self) -> None:
        self._listening = asyncio.current_task()
        await self._stream._run_forever()  # type: ignore[no-untyped-call]

    async def _stop(self) -> None:
        """Stop listening, however far the connection has come."""
        # The SDK loses a cancellation that meets a message. The request to stop is not lost, so it
        # comes first.
        await self._stream.stop_ws()
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        await self._stream.close()

    def _on_connection(self) -> None:
        self.connections += 1
        self._news.set()

    async def _on_update(self, _: Any) -> None:
        self.heard += 1
        self._news.set()


def _without_traceback(record: logging.LogRecord) -> bool:
    """Take the traceback off a log record of the SDK, and let the record pass."""
    record.exc_info = None
    return True
