"""Prices of options and of what they are on, from Alpaca or a server that speaks as it does."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np

from trainingdata.bars import CLOSE
from trainingdata.feed.endpoint import BrokerSettings, Keys, asking
from trainingdata.feed.market_data import MarketData
from trainingdata.sessions import session_of
from trainingdata.source import Feed


class OptionData:
    """What the venue says of options on one stock. scale: of the stock's prices, for options on
    the index that it follows.
    """

    def __init__(
        self, settings: BrokerSettings, keys: Keys, feed: Feed, underlying: str, scale: float
    ) -> None:
        from alpaca.data.historical import OptionHistoricalDataClient, StockHistoricalDataClient

        self._settings = settings
        self._keys = keys
        self._feed = feed
        self._underlying = underlying
        self._scale = scale
        told: dict[str, Any] = {"raw_data": True, "url_override": settings.address}
        self._options = settings.made_safe(
            OptionHistoricalDataClient(keys.key, keys.secret, **told)
        )
        self._stocks = settings.made_safe(StockHistoricalDataClient(keys.key, keys.secret, **told))
        self._bars = MarketData(settings, keys, feed, "raw")
        self._closes: dict[date, float] = {}

    def index(self) -> float:
        """The last trade of the stock, times the scale, points.

        Raises
        ------
        BrokerError
            for a venue that does not answer, or has none.
        """
        from alpaca.data.enums import DataFeed
        from alpaca.data.requests import StockLatestTradeRequest

        with asking(f"the last trade of {self._underlying}", self._settings, self._keys):
            request = StockLatestTradeRequest(
                symbol_or_symbols=self._underlying, feed=DataFeed(self._feed)
            )
            price = (
                float(self._stocks.get_stock_latest_trade(request)[self._underlying]["p"])
                * self._scale
            )
            if not (np.isfinite(price) and price > 0):
                raise ValueError(f"the price is {price}")
            return price

    def close_of(self, day: date, now: np.datetime64) -> float | None:
        """The stock's last close of a session, times the scale; None where there is no such
        session, or its end is not known.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        DataError
            for bars that cannot be trusted.
        """
        session = session_of(np.datetime64(day, "D"))
        if session is None or now < session.closes:
            return None
        if day not in self._closes:
            tables = self._bars.tables([self._underlying], session.opens, session.closes)
            if not tables or tables[0][1][-1] != session.closes:
                return None
            self._closes[day] = float(tables[0][2][-1, CLOSE]) * self._scale
        return self._closes[day]

    def quotes(self, symbols: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Bid and ask of options by OCC symbol, as the venue writes them; one without a quote is
        left out.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        from alpaca.data.requests import OptionLatestQuoteRequest

        with asking(f"quotes of {', '.join(symbols)}", self._settings, self._keys):
            answer = self._options.get_option_latest_quote(
                OptionLatestQuoteRequest(symbol_or_symbols=list(symbols))
            )
            return {
                name: (str(row["bp"]), str(row["ap"]))
                for name, row in answer.items()
                if name in symbols and row["ap"]
            }
