"""Queries for last trades that return nothing, rather than fail, if the feed does not respond."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from foundation.errors import BrokerError
from trainingdata.instruments import is_symbol
from trainingdata.last_trade import LastTrade

log = logging.getLogger(__name__)


class TradeSource(Protocol):
    """Interface of a feed of last trades, such as `BarFeed` or `MarketData`."""

    def last_trades(self, symbols: Sequence[str]) -> Mapping[str, LastTrade]:
        """Return the last trade of each symbol that has one.

        Raises
        ------
        BrokerError
            if the feed does not respond.
        """
        ...


class EmptyTradeSource:
    """A feed that has no trades."""

    def last_trades(self, symbols: Sequence[str]) -> Mapping[str, LastTrade]:
        del symbols
        return {}


def fetch_last_trades(source: TradeSource, symbols: Iterable[str]) -> Mapping[str, LastTrade]:
    """Return last trades of stocks and crypto; an empty mapping if the feed does not respond."""
    names = sorted(filter(is_symbol, symbols))
    try:
        return source.last_trades(names) if names else {}
    except BrokerError as error:
        log.warning("cannot read last trades: %s", error)
        return {}


def fetch_last_prices(source: TradeSource, symbols: Iterable[str]) -> dict[str, float]:
    """Return last trade prices by symbol, USD; an empty mapping if the feed does not respond."""
    return {symbol: trade.price for symbol, trade in fetch_last_trades(source, symbols).items()}
