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
from event_contracts.trading.orders import PAYOUT
from event_contracts.trading.records import WHOLE
from event_contracts.trading.sampler import Sample

Sides = tuple[Decimal, Decimal]  # USD of YES and of NO
_UNSOLD: Sides = (NOTHING, NOTHING)


def sale_prices(samples: Mapping[str, Sample], before: Mapping[str, Sides]) -> dict[str, Sides]:
    """What each side of a market can be sold for, or could be when it was last bid for; USD.

    before: the same, as it was until now.
    """
    prices = {}
    for market, sample in samples.items():
        yes, no = before.get(market, _UNSOLD)
        bid, ask = _quote(sample)
        if sample.trades:
            yes = bid or yes
            no = (PAYOUT - ask) or no
        prices[market] = (yes, no)
    return prices


def value_of(position: Decimal, sample: Sample, sale: Sides) -> Decimal:
    """USD that a position is worth, by the table at the head of this module.

    position: contracts, YES above 0 and NO below.
    sale: what YES and NO could last be sold for.
    """
    return abs(position) * _price(sample, sale, yes=position > 0)


def _price(sample: Sample, sale: Sides, *, yes: bool) -> Decimal:
    bid, ask = _quote(sample)
    if not yes:
        bid, ask = PAYOUT - ask, PAYOUT - bid
    last = sale[0] if yes else sale[1]
    if sample.settled:
        return PAYOUT if bool(sample.tick["estimate"]) == yes else NOTHING
    if not sample.trades:
        return last
    if not bid:
        return min(last, ask)
    return bid if ask == PAYOUT else (bid + ask) / 2


def _quote(sample: Sample) -> tuple[Decimal, Decimal]:
    """Bid and ask of YES, USD."""
    bid, ask = (Decimal(int(sample.tick[name])) / WHOLE for name in ("bid", "ask"))
    return bid, ask
