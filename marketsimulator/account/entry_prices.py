"""Mean entry prices of the positions of a simulated account."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from execution.orders.average_cost import average_cost

_NO_POSITION = (Decimal(0), 0.0)


class EntryPrices:
    """Quantities and mean entry prices (USD) of an account's positions, updated by fills."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[Decimal, float]] = {}

    def entry_price(self, symbol: str) -> float:
        """Return the mean entry price of a position, USD."""
        return self._held[symbol][1]

    def add_fill(self, symbol: str, quantity: Decimal, price: float) -> None:
        """Apply a fill: an opening fill changes the mean entry price, a closing fill does not.

        A crypto fee is passed as a fill at price 0 that reduces the position.
        """
        before, entry = self._held.get(symbol, _NO_POSITION)
        entry, _ = average_cost(float(before), entry, float(quantity), price)
        self._held[symbol] = before + quantity, entry

    def apply_split(self, symbol: str, quantity: Decimal) -> float:
        """Apply a split; return the number of old shares per new share.

        The total cost of the position does not change.

        quantity: signed change of the position.
        """
        before, entry = self._held.get(symbol, _NO_POSITION)
        after = before + quantity
        ratio = float(before / after) if before and after else 1.0
        self._held[symbol] = after, entry * ratio
        return ratio

    def reset_entry_prices(self, prices: Mapping[str, float]) -> None:
        """Set the entry price of each position to the price in `prices`, if there is one.

        This starts a trading day, within which profit is measured from the last close.
        """
        for symbol, (quantity, entry) in self._held.items():
            self._held[symbol] = quantity, prices.get(symbol, entry)
