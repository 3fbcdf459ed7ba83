"""The venue's stream of trade updates, as a hint: it says when to look, REST says what is there.

Fills can be missed while it is down; nothing is ever taken from it but the news that something has happened.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

from trainingdata.endpoint import BrokerSettings, Keys


class TradeUpdates:
    """Listens in a thread of its own while it is entered; it reconnects by itself."""

    def __init__(self, settings: BrokerSettings, keys: Keys) -> None:
        from alpaca.trading.stream import TradingStream

        address = None if settings.address is None else f"{settings.address.replace('http', 'ws', 1)}/stream"
        self._stream = TradingStream(keys.key, keys.secret, paper=settings.paper, raw_data=True, url_override=address or "")
        self._stream.subscribe_trade_updates(self._hear)
        self._news = threading.Event()
        self._thread = threading.Thread(target=self._stream.run, name="trade updates", daemon=True)
        self.heard = 0

    def wait(self, seconds: float) -> None:
        """Until something happens to an order, or so many seconds have passed."""
        self._news.wait(seconds)
        self._news.clear()

    def __enter__(self) -> TradeUpdates:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stream.stop()
        self._thread.join(10)

    async def _hear(self, _: Any) -> None:
        self.heard += 1
        self._news.set()
