"""Markets as the venue lists them: their quote, the prices they take, what positions are worth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from event_contracts.trading.connection import Answer, KalshiConnection
from event_contracts.trading.fees import NOTHING
from event_contracts.trading.fields import MarketEntry, ticks_of
from event_contracts.trading.orders import PAYOUT, LimitOrder, Quote
from event_contracts.trading.ticks import Ticks
from event_contracts.trading.venue_orders import yes_price
from foundation.errors import BrokerError

ASKED = 50  # tickers in one request: addresses have a longest length
TRADED = "active"  # the status of a market that takes orders


@dataclass(frozen=True, slots=True)
class Listing:
    """A market as the venue lists it.

    status: `active` where it takes orders.
    quote: its best prices.
    bid_size: contracts at the YES bid. ask_size: at the YES ask.
    ticks: the prices that it takes.
    fractional: whether it takes parts of contracts.
    closes: UTC, the end of trading.
    result: `yes` or `no` once it is known what came true; before that, and of another end, another
        word or none.
    """

    status: str
    quote: Quote
    bid_size: Decimal
    ask_size: Decimal
    ticks: Ticks
    fractional: bool
    closes: np.datetime64
    result: str

    @classmethod
    def of(cls, entry: Answer) -> Listing:
        """The market of an entry.

        Raises
        ------
        SenselessAnswer
            naming the field that is missing or makes no sense.
        ValueError
            for a bid above the ask.
        """
        ticks = ticks_of(entry)
        bid = MarketEntry.bid.of(entry)
        # Where nobody offers the venue writes 0 or 1, by the page that one reads.
        ask = MarketEntry.ask.of(entry) or PAYOUT
        return cls(
            MarketEntry.status.of(entry),
            Quote(bid, ask, ticks.step(bid, ask)),
            MarketEntry.bid_size.of(entry),
            MarketEntry.ask_size.of(entry),
            ticks,
            MarketEntry.fractional.of(entry),
            MarketEntry.closes.of(entry),
            MarketEntry.result.of(entry),
        )

    @property
    def settled(self) -> bool:
        """Whether it is known which side came true."""
        return self.result in ("yes", "no")

    @property
    def trades(self) -> bool:
        """Whether it takes orders."""
        return self.status == TRADED and not self.settled

    def refusal(self, order: LimitOrder) -> str | None:
        """Why the market takes no such order, in words; nothing where it does."""
        if self.status != TRADED:
            return f"{order.market} is {self.status}"
        if not self.ticks.allows(yes_price(order.side, order.price)):
            return f"{order.market} has no price of {order.price} for {order.side}"
        if not self.fractional and order.count % 1:
            return f"{order.market} takes whole contracts, not {order.count}"
        return None


class UnknownMarket(BrokerError):
    """A market that the venue does not list."""


def read_markets(connection: KalshiConnection, markets: Iterable[str]) -> dict[str, Listing]:
    """Markets as the venue lists them now, by ticker.

    Raises
    ------
    BrokerError
        for a venue that does not answer; `UnknownMarket` where it does not list one of them.
    """
    wanted = list(dict.fromkeys(markets))
    listed: dict[str, Listing] = {}
    for first in range(0, len(wanted), ASKED):
        tickers = ",".join(wanted[first : first + ASKED])
        found = list(connection.pages("markets", "/markets", "markets", tickers=tickers))
        with connection.translated_errors("markets"):
            listed |= {MarketEntry.ticker.of(entry): Listing.of(entry) for entry in found}
    for market in wanted:
        if market not in listed:
            raise UnknownMarket(f"{market}: the venue has no such market")
    return listed


def sale_value(positions: Mapping[str, Decimal], listings: Mapping[str, Listing]) -> Decimal:
    """USD that positions, YES above 0 and NO below, bring at the best bids."""
    total = NOTHING
    for market, position in positions.items():
        total += abs(position) * listings[market].quote.bid("YES" if position > 0 else "NO")
    return total
