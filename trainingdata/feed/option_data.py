"""Prices of options and of their underlying, from Alpaca or a server with the same interface."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date
from decimal import Decimal

import numpy as np

from foundation.errors import InvalidResponse
from trainingdata.bars import CLOSE
from trainingdata.feed.endpoint import ApiKeys, BrokerSettings, translate_venue_errors
from trainingdata.feed.fields import QuoteEntry
from trainingdata.feed.market_data import MarketData
from trainingdata.feed.pages import limit_pages
from trainingdata.instants import format_utc
from trainingdata.sessions import session_on
from trainingdata.source import Feed

log = logging.getLogger(__name__)

MAX_TRADE_AGE = np.timedelta64(5, "m")
# A feed that is free of charge may lag a quarter of an hour behind.
MAX_QUOTE_AGE = np.timedelta64(20, "m")


class OptionData:
    """Quotes of options on one underlying stock, and prices of that stock.

    settings: address of the venue.
    keys: API keys of the account.
    feed: feed of the stock's prices, `iex` or `sip`.
    underlying: symbol of the stock.
    scale: factor on the stock's prices, for options on the index that the stock tracks.
    """

    def __init__(
        self, settings: BrokerSettings, keys: ApiKeys, feed: Feed, underlying: str, scale: float
    ) -> None:
        from alpaca.data.historical import OptionHistoricalDataClient

        self._settings = settings
        self._keys = keys
        self._underlying = underlying
        self._scale = scale
        client = OptionHistoricalDataClient(
            keys.key, keys.secret, raw_data=True, url_override=settings.address
        )
        self._options = limit_pages(settings.install_transport(client))
        self._bars = MarketData(settings, keys, feed, "raw")
        self._closes: dict[date, float] = {}

    def index_level(self, now: np.datetime64) -> float:
        """Return the index level in points: the stock's last trade times the scale.

        Raises BrokerError for a venue that does not respond, or has no trade within MAX_TRADE_AGE
        before `now`.
        """
        trade = self._bars.last_trades([self._underlying]).get(self._underlying)
        with translate_venue_errors(
            f"the last trade of {self._underlying}", self._settings, self._keys
        ):
            if trade is None:
                raise InvalidResponse("it contains no trade")
            if now - trade.traded_at > MAX_TRADE_AGE:
                raise InvalidResponse(
                    f"the trade is stale: it is from {format_utc(trade.traded_at)}, and now it is"
                    f" {format_utc(now)}"
                )
            return trade.price * self._scale

    def index_close(self, day: date, now: np.datetime64) -> float | None:
        """Return the index close of a session in points: the stock's close times the scale.

        The result is None if the day has no session, or if the session's last bar is not known at
        `now`.

        Raises BrokerError for a venue that does not respond; DataError for bars that cannot be
        trusted.
        """
        session = session_on(np.datetime64(day, "D"))
        if session is None or now < session.closes:
            return None
        if day not in self._closes:
            tables = self._bars.bars_by_symbol([self._underlying], session.opens, session.closes)
            # A feed may lack the end of a session: an earlier bar's close is not the session's.
            if not tables or tables[0][1][-1] != session.closes:
                return None
            self._closes[day] = float(tables[0][2][-1, CLOSE]) * self._scale
        return self._closes[day]

    def quotes(
        self, symbols: Sequence[str], now: np.datetime64
    ) -> dict[str, tuple[Decimal, Decimal]]:
        """Return bid and ask of options by OCC symbol, in USD per share.

        Options without a quote are missing from the result. So are options whose quote has no
        timestamp, or is more than 20 minutes older than `now`.

        Raises BrokerError for a venue that does not respond.
        """
        from alpaca.data.requests import OptionLatestQuoteRequest

        with translate_venue_errors(f"quotes of {', '.join(symbols)}", self._settings, self._keys):
            request = OptionLatestQuoteRequest(symbol_or_symbols=list(symbols))
            answer = self._options.get_option_latest_quote(request)
            quotes = {}
            for name, row in answer.items():
                ask = QuoteEntry.ask.read(row) if name in symbols else None
                bid = QuoteEntry.bid.read(row) if ask else None
                if (
                    ask
                    and bid is not None
                    and _is_recent(name, QuoteEntry.quoted_at.read(row), now)
                ):
                    quotes[name] = (bid, ask)
            return quotes


def _is_recent(name: str, at: np.datetime64 | None, now: np.datetime64) -> bool:
    """Return whether an option's quote is recent enough; if not, log its age."""
    if at is not None and now - at <= MAX_QUOTE_AGE:
        return True
    when = "an unknown time" if at is None else format_utc(at)
    log.warning("%s: no current quote: the latest is from %s", name, when)
    return False
