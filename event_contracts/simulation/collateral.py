"""Collateral that a venue requires of an order: cash for what it can add to a position."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal

from event_contracts.trading.fees import NOTHING, FeeRules
from event_contracts.trading.orders import MarketView, Outcome, RestingOrder, Verb, other


@dataclass(frozen=True, slots=True)
class Collateral:
    """The venue's own admission: no limits, no buffer, and no cash for what closes a position.

    A sale is capped at the position before it is checked. Purchases first close what is held of
    the other side, in the order in which they were placed.

    positions: contracts held by market, YES above 0 and NO below.
    """

    fees: FeeRules
    positions: Callable[[str], Decimal]

    def refusal(
        self,
        action: Verb,
        side: Outcome,
        price: Decimal,
        count: Decimal,
        view: MarketView,
        *,
        rests: bool,
    ) -> str | None:
        """Return why an order may not be sent, or None."""
        del rests
        if action == "SELL":
            return None
        free = view.cash - self._reserved(view.resting)
        closes = view.held(other(side)) - view.resting_count("BUY", side)
        opens = count - max(closes, NOTHING)
        cost = self.fees.most_cost(price, opens) if opens > 0 else NOTHING
        return None if cost <= free else f"buying {count} {side} may cost ${cost}; ${free} is free"

    def _reserved(self, resting: Iterable[RestingOrder]) -> Decimal:
        """Return the USD that resting orders may use."""
        closing: dict[tuple[str, Outcome], Decimal] = {}
        total = NOTHING
        for each in resting:
            market, side = each.order.market, each.order.side
            held = self.positions(market)
            left = closing.get((market, side), max(-held if side == "YES" else held, NOTHING))
            closes = min(left, each.remaining)
            closing[market, side] = left - closes
            if closes < each.remaining:
                total += self.fees.most_cost(each.order.price, each.remaining - closes)
        return total
