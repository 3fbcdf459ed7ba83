"""What a practice venue shows of its markets: books, others' trades, statuses, payments."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

import numpy as np

from execution.kalshi.orders import Outcome
from marketsimulator.kalshi.exchange import Settlement
from marketsimulator.kalshi.tickets import Trade

MarketStatus = Literal["initialized", "active", "closed", "determined", "finalized"]
PriceLevel = tuple[Decimal, Decimal]  # USD, contracts


@dataclass(frozen=True, slots=True)
class Book:
    """What a market shows of others' orders, the account's left out.

    bids: levels of YES, USD and contracts. asks: levels of YES.
    """

    bids: tuple[PriceLevel, ...] = ()
    asks: tuple[PriceLevel, ...] = ()


@dataclass(frozen=True, slots=True)
class PublicTrade:
    """What others traded in the step to a tick.

    price: USD of YES. taker: the side that the taker took.
    """

    ticker: str
    price: Decimal
    count: Decimal
    taker: Outcome


@dataclass(frozen=True, slots=True)
class TickNews:
    """What a tick of the clock brought.

    trades: the account's. public: others'. moved: tickers whose book may have changed.
    """

    trades: tuple[Trade, ...]
    public: tuple[PublicTrade, ...]
    moved: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Payment:
    """A settlement that has been paid.

    at: UTC. settlement: what the exchange settled.
    """

    number: int
    at: np.datetime64
    settlement: Settlement = field(repr=False)
