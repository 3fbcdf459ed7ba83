"""Underlying of an options desk: a stock of the venue and a volatility index that follows it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import numpy as np
import pandas as pd

from practice.alpaca.record import VenueRecord
from trainingdata.bars import CLOSE, Bars
from trainingdata.instants import new_york_date
from trainingdata.sessions import is_in_session, session_on
from trainingdata.volatility_index import estimate_intraday_volatility_index

PriceSource = Callable[[str], float | None]


class Underlying:
    """Underlying of an options desk: the price of a stock and its volatility index.

    The index is computed from its previous close and the stock's move since then.
    """

    def __init__(
        self, record: VenueRecord, bars: Bars, price: PriceSource, symbol: str, vix: pd.Series
    ) -> None:
        """Create the underlying for a stock.

        record: record of the venue, which also tells the present instant.
        bars: panel of the venue.
        price: function that returns the present price of a symbol, before costs.
        symbol: symbol of the stock.
        vix: closes of the volatility index by date, points.
        """
        self._record = record
        self._price = price
        self._symbol = symbol
        self._vix = vix
        times, values = bars.bars_of_symbol(bars.symbols.index(symbol))
        self._closes = dict(zip(times.tolist(), values[:, CLOSE].tolist(), strict=True))

    def now(self) -> np.datetime64:
        return self._record.now()

    def index_level(self) -> float | None:
        """Return the stock's price, USD; None while the market is closed."""
        return self._price(self._symbol) if is_in_session(np.array([self.now()]))[0] else None

    def last_level(self) -> float | None:
        """Return the stock's last price, USD, also while the market is closed."""
        return self._price(self._symbol)

    def volatility_index(self) -> float | None:
        """Return the estimated present level of the volatility index, points.

        None while the market is closed, or if the previous close of the stock or index is unknown.
        """
        session = session_on(new_york_date(np.array([self.now()]))[0])
        index = self.index_level()
        if session is None or index is None:
            return None
        vix_before = self._vix.get(pd.Timestamp(session.previous_date))
        close_before = self.index_close(session.previous_date.astype(object))
        if vix_before is None or close_before is None:
            return None
        return float(estimate_intraday_volatility_index(vix_before, index, close_before))

    def index_close(self, day: date) -> float | None:
        """Return the stock's close on a day, USD.

        None if the day has no session or if its session has not ended yet.
        """
        session = session_on(np.datetime64(day, "D"))
        # The panel holds future closes: none is returned before its session has ended.
        if session is None or session.closes > self.now():
            return None
        return self._closes.get(session.closes.astype("datetime64[ns]").item())
