"""What the contracts of an account are worth, each market for itself.

    both sides quoted            the middle of the quote
    nobody offers                the bid: it can be sold for that
    nobody bids                  what the side could last be sold for, and no more than is asked
    no trading, result unknown   what the side could last be sold for
    result known                 $1 or nothing, though it is paid later

A side that was never seen to be bid for is worth nothing where it would count. A market that
settles at neither side counts like one without a result until it pays.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from event_contracts.trading.fees import NOTHING
from event_contracts.trading.listings import Listing
from event_contracts.trading.orders import PAYOUT, Outcome

Sides = tuple[Decimal, Decimal]  # USD of YES and of NO
_UNSOLD: Sides = (NOTHING, NOTHING)


def sale_prices(listings: Mapping[str, Listing], before: Mapping[str, Sides]) -> dict[str, Sides]:
    """What each side of a market can be sold for, or could be when it was last bid for; USD.

    before: the same, as it was until now.
    """
    prices = {}
    for market, listing in listings.items():
        yes, no = before.get(market, _UNSOLD)
        if listing.trades:
            yes, no = listing.quote.bid("YES") or yes, listing.quote.bid("NO") or no
        prices[market] = (yes, no)
    return prices


def value_of(position: Decimal, listing: Listing, sale: Sides) -> Decimal:
    """USD that a position is worth, by the table at the head of this module.

    position: contracts, YES above 0 and NO below.
    sale: what YES and NO could last be sold for.
    """
    side: Outcome = "YES" if position > 0 else "NO"
    return abs(position) * _price(side, listing, sale[side == "NO"])


def _price(side: Outcome, listing: Listing, last: Decimal) -> Decimal:
    bid, ask = listing.quote.bid(side), listing.quote.ask(side)
    if listing.settled:
        return PAYOUT if listing.result == side.lower() else NOTHING
    if not listing.trades:
        return last
    if not bid:
        return min(last, ask)
    return bid if ask == PAYOUT else (bid + ask) / 2
