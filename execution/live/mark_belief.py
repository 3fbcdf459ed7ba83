"""Which of the marks that a venue values positions at are believed: those that a trade confirms."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from execution.live.bar_belief import LARGEST_GAP
from execution.orders import Account
from foundation.errors import BrokerError
from trainingdata.feed.market_data import LastTrade
from trainingdata.instants import DAY
from trainingdata.instruments import is_symbol

log = logging.getLogger(__name__)

OLD = 7 * DAY  # age of a last trade from which on it says nothing of a price
UNKNOWN = float("nan")


class MarkBelief:
    """What is believed of an account's marks, reading by reading.

    A mark counts that is near the one believed before. Another one counts that the feed's last
    trade is near to, or, where the feed has no recent trade, that two readings in a row say.

    last_trades: of the feed, by symbol, however old.
    """

    def __init__(self, last_trades: Callable[[Sequence[str]], Mapping[str, LastTrade]]) -> None:
        self._last_trades = last_trades
        self._believed: Mapping[str, float] = {}  # USD by symbol
        self._read: Mapping[str, float] = {}  # the same, at the last reading

    def doubted(self, account: Account, *, again: bool) -> dict[str, float]:
        """Symbols whose marks are not believed, each with its price, USD; NaN where none is known.

        again: whether the reading before was not believed.
        """
        before = self._read if again else {}
        self._read = _marks(account)
        far = [s for s, mark in self._read.items() if not _is_near(mark, self._believed.get(s))]
        prices = {**before, **self._traded(far, account.as_of)} if far else {}
        return {
            symbol: prices.get(symbol, UNKNOWN)
            for symbol in far
            if not _is_near(self._read[symbol], prices.get(symbol))
        }

    def believe(self, account: Account) -> None:
        """Take over the marks of an account."""
        self._believed = _marks(account)

    def _traded(self, symbols: Iterable[str], now: np.datetime64) -> dict[str, float]:
        """USD that each symbol last traded at, where that was not too long ago."""
        names = sorted(filter(is_symbol, symbols))
        try:
            trades = self._last_trades(names) if names else {}
        except BrokerError as error:
            log.warning("marks are read without last trades: %s", error)
            return {}
        return {symbol: trade.price for symbol, trade in trades.items() if now - trade.at < OLD}


def _marks(account: Account) -> dict[str, float]:
    return {symbol: account.prices[symbol] for symbol, held in account.positions.items() if held}


def _is_near(price: float, other: float | None) -> bool:
    return other is not None and abs(price / other - 1.0) < LARGEST_GAP
