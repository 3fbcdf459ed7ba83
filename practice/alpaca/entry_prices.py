"""Mean entry prices of all positions, since they were opened and within the trading day."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import numpy as np

from marketsimulator.account.entry_prices import EntryPrices
from trainingdata.instants import new_york_date

_ONE_NANOSECOND = np.timedelta64(1, "ns")


class DailyEntryPrices:
    """Entry prices of all positions: since they were opened, and within the trading day.

    since_opened: mean entry prices since each position was opened.
    since_close: mean entry prices within the trading day; positions from earlier days have the last
        close as entry price.
    last_day: closes of the last trading day, USD by symbol.
    """

    def __init__(self, last_day: Mapping[str, float]) -> None:
        self.since_opened = EntryPrices()
        self.since_close = EntryPrices()
        self.last_day = dict(last_day)

    def start_day(self, closes: Mapping[str, float]) -> None:
        """Start a trading day, and measure its profit from the last closes, USD by symbol."""
        self.last_day = {**self.last_day, **closes}
        self.since_close.reset_entry_prices(self.last_day)

    def add_fill(self, symbol: str, quantity: Decimal, price: float) -> None:
        """Apply a fill to the entry prices since opening and to those of the trading day."""
        self.since_opened.add_fill(symbol, quantity, price)
        self.since_close.add_fill(symbol, quantity, price)

    def apply_split(self, symbol: str, quantity: Decimal) -> float:
        """Apply a split to all entry prices of a symbol and to its close of the last trading day.

        Returns the number of old shares per new share.

        quantity: signed change of the position.
        """
        ratio = self.since_opened.apply_split(symbol, quantity)
        self.since_close.apply_split(symbol, quantity)
        if symbol in self.last_day:
            self.last_day[symbol] *= ratio
        return ratio

    def profit_fields(
        self, symbol: str, quantity: float, price: float, entry_price: float | None = None
    ) -> dict[str, str]:
        """Return entry price, value and profit fields of a position, in Alpaca's format.

        quantity: signed quantity: shares, coins, or shares that options deliver.
        price: present price, USD.
        entry_price: mean entry price, USD; None: the recorded entry price since opening.
        """
        if entry_price is None:
            entry_price = self.since_opened.entry_price(symbol)
        # A symbol without a price on the last trading day is compared with its entry price.
        last_day = self.last_day.get(symbol, entry_price)
        cost = quantity * entry_price
        day_cost = quantity * self.since_close.entry_price(symbol)
        value = quantity * price
        return {
            "avg_entry_price": repr(entry_price),
            "cost_basis": repr(cost),
            "market_value": repr(value),
            "unrealized_pl": repr(value - cost),
            "unrealized_plpc": repr(_relative_change(value - cost, cost)),
            "unrealized_intraday_pl": repr(value - day_cost),
            "unrealized_intraday_plpc": repr(_relative_change(value - day_cost, day_cost)),
            "lastday_price": repr(last_day),
            "change_today": repr(_relative_change(price - last_day, last_day)),
        }


def _relative_change(change: float, base: float) -> float:
    return change / abs(base) if base else 0.0


def trading_day(at: np.datetime64) -> np.datetime64:
    """Return the New York trading date of an instant; midnight belongs to the date before it."""
    return np.datetime64(new_york_date(np.array([at - _ONE_NANOSECOND]))[0])
