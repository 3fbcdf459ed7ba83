"""Mean entry prices of positions, since their opening and since the last trading day's close."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import numpy as np

from execution.orders.average_cost import average_cost
from trainingdata.instants import new_york_date

_AN_INSTANT_BEFORE = np.timedelta64(1, "ns")
_NOTHING = (Decimal(0), 0.0)


class EntryPrices:
    """Signed quantity and mean entry price (USD) of each position, by symbol."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[Decimal, float]] = {}

    def price(self, symbol: str) -> float:
        """Return the mean entry price of a position, USD."""
        return self._held[symbol][1]

    def add(self, symbol: str, quantity: Decimal, price: float) -> None:
        """Add a fill: an opening fill moves the mean price, a closing one leaves it.

        A crypto fee is a fill at price 0.
        """
        before, entry = self._held.get(symbol, _NOTHING)
        entry, _ = average_cost(float(before), entry, float(quantity), price)
        self._held[symbol] = before + quantity, entry

    def split(self, symbol: str, quantity: Decimal) -> float:
        """Add the new shares of a split, signed, and return old shares per new one.

        The position's cost is unchanged.
        """
        before, entry = self._held.get(symbol, _NOTHING)
        after = before + quantity
        ratio = float(before / after) if before and after else 1.0
        self._held[symbol] = after, entry * ratio
        return ratio

    def revalue(self, prices: Mapping[str, float]) -> None:
        """Start a trading day: positions with a price enter at that price."""
        for symbol, (quantity, entry) in self._held.items():
            self._held[symbol] = quantity, prices.get(symbol, entry)


class DailyEntries:
    """Entry prices of all positions, and the last trading day's closes.

    since_opened: mean entry prices since the opening.
    since_close: mean entry prices within the day; earlier positions enter at the last close.
    last_day: closes of the last trading day, USD by symbol.
    """

    def __init__(self, last_day: Mapping[str, float]) -> None:
        self.since_opened = EntryPrices()
        self.since_close = EntryPrices()
        self.last_day = dict(last_day)

    def begin_day(self, closes: Mapping[str, float]) -> None:
        """Start a trading day after these closes."""
        self.last_day = {**self.last_day, **closes}
        self.since_close.revalue(self.last_day)

    def add(self, symbol: str, quantity: Decimal, price: float) -> None:
        """Add a fill."""
        self.since_opened.add(symbol, quantity, price)
        self.since_close.add(symbol, quantity, price)

    def split(self, symbol: str, quantity: Decimal) -> None:
        """Add the new shares of a split, and adjust the last day's close for it."""
        ratio = self.since_opened.split(symbol, quantity)
        self.since_close.split(symbol, quantity)
        if symbol in self.last_day:
            self.last_day[symbol] *= ratio

    def results(
        self, symbol: str, units: float, price: float, entry: float | None = None
    ) -> dict[str, str]:
        """Return the fields of a position that depend on its entry and the last day's close.

        units: signed shares, coins, or shares under options.
        price: USD, present price.
        entry: mean entry price from another record, USD; None: from these entries.
        """
        if entry is None:
            entry = self.since_opened.price(symbol)
        # A symbol without a price on the last trading day is compared with its entry price.
        last_day = self.last_day.get(symbol, entry)
        cost = units * entry
        day_cost = units * self.since_close.price(symbol)
        value = units * price
        return {
            "avg_entry_price": repr(entry),
            "cost_basis": repr(cost),
            "market_value": repr(value),
            "unrealized_pl": repr(value - cost),
            "unrealized_plpc": repr(_share(value - cost, cost)),
            "unrealized_intraday_pl": repr(value - day_cost),
            "unrealized_intraday_plpc": repr(_share(value - day_cost, day_cost)),
            "lastday_price": repr(last_day),
            "change_today": repr(_share(price - last_day, last_day)),
        }


def _share(change: float, base: float) -> float:
    return change / abs(base) if base else 0.0


def trading_day(at: np.datetime64) -> np.datetime64:
    """Return the New York trading date of an instant; midnight belongs to the previous date."""
    return np.datetime64(new_york_date(np.array([at - _AN_INSTANT_BEFORE]))[0])
