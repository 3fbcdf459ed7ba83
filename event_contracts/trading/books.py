"""An account as the venue shows it, and what its fills and settlements explain of that.

A pair of YES and NO pays $1 at once, so that a NO is a YES sold, with $1 set aside for it. With
positions q, YES above 0 and NO below, whatever the order in which things are listed:

    cash + Σ max(−q, 0)  moves by  −p·C − fee of a bid, p·C − fee of an ask,
                         and by  q·y of a market that pays y for a YES

p is the price of YES, C are contracts, and `fee` is what the venue says that it charged, or by our
rules where it says nothing. The venue lists no deposits: what its cash says beyond all this was
paid in, or taken out below 0. Less than $1 is rounding, and counts as profit or loss; so does all
of it where the contracts are not explained either, for cash has then moved with trades that are
not listed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np

from event_contracts.trading.connection import Answer, KalshiConnection
from event_contracts.trading.fees import NOTHING, FeeRules, charge
from event_contracts.trading.fields import (
    BalanceEntry,
    PositionEntry,
    SettlementEntry,
    paid_for_yes,
)
from event_contracts.trading.order_venue import FILLS
from event_contracts.trading.venue_orders import VenueFill
from foundation.cents import CENT

SMALLEST_FLOW = Decimal(1)  # USD
# A fill's rounding, and what of an earlier one comes back with it.
ROUNDING = 2 * CENT
BEGINNING = np.datetime64(0, "ns")
_SECOND = np.timedelta64(1, "s")

# The rules in force in a market at an instant.
RulesOf = Callable[[str, np.datetime64], FeeRules]
Positions = Mapping[str, Decimal]  # contracts by market, YES above 0 and NO below; none of them 0


@dataclass(frozen=True, slots=True)
class Settlement:
    """A market that has paid.

    market: ticker.
    yes: USD that it paid for a contract of YES; NO got the rest of a dollar.
    at: UTC, when it paid.
    """

    market: str
    yes: Decimal
    at: np.datetime64


@dataclass(frozen=True, slots=True)
class News:
    """What the venue lists from an instant on.

    fills: oldest first.
    settlements: as they are listed.
    """

    fills: tuple[VenueFill, ...] = ()
    settlements: tuple[Settlement, ...] = ()


@dataclass(frozen=True, slots=True)
class AccountBooks:
    """An account as the venue showed it.

    at: by this machine's clock, before which everything was read.
    cash: USD; what resting orders may take is still in it.
    positions: contracts by market.
    fills: ids of those that are in it and were still listed.
    settlements: markets that had paid and were still listed, and when.
    """

    at: np.datetime64
    cash: Decimal
    positions: Positions = field(default_factory=dict)
    fills: frozenset[str] = frozenset()
    settlements: frozenset[tuple[str, np.datetime64]] = frozenset()

    @classmethod
    def of(cls, at: np.datetime64, cash: Decimal, positions: Positions, news: News) -> AccountBooks:
        """The books of a reading, in which all that is listed is."""
        fills = frozenset(fill.fill_id for fill in news.fills)
        settlements = frozenset((each.market, each.at) for each in news.settlements)
        return cls(at, cash, positions, fills, settlements)


@dataclass(frozen=True, slots=True)
class Explained:
    """What books come to with all that is listed beyond them.

    cash: USD.
    positions: contracts by market.
    fills: those that are not in the books.
    fees: what the venue charged otherwise than our rules, in words.
    """

    cash: Decimal
    positions: Positions
    fills: int = 0
    fees: tuple[str, ...] = ()

    def flow(self, books: AccountBooks) -> Decimal:
        """USD that was paid in less what was taken out, by the books of a later reading."""
        flow = books.cash - self.cash
        return NOTHING if self.contracts(books) or abs(flow) < SMALLEST_FLOW else flow

    def contracts(self, books: AccountBooks) -> tuple[str, ...]:
        """Positions of a later reading that are not explained, in words."""
        return tuple(
            f"{market}: {_words(expected)} by its fills, {_words(shown)} at the venue"
            for market in sorted({*self.positions, *books.positions})
            if (expected := self.positions.get(market, NOTHING))
            != (shown := books.positions.get(market, NOTHING))
        )


def explained(books: AccountBooks, news: News, rules_of: RulesOf) -> Explained:
    """What books come to with what is listed beyond them, by the arithmetic of this module."""
    new = {fill.fill_id: fill for fill in news.fills if fill.fill_id not in books.fills}
    cash = books.cash + _set_aside(books.positions)
    traded: dict[str, Decimal] = defaultdict(Decimal)
    fees = []
    for fill in new.values():
        bought = fill.count if fill.side == "bid" else -fill.count
        traded[fill.market] += bought
        # The venue knows no sale: what it fills buys a side. Of a sale the fee is the same.
        ours = charge(fill.fill(reduces=False), rules_of(fill.market, fill.at))
        fee = ours.net_fee if fill.fee is None else fill.fee
        if abs(ours.fee - fee) >= ROUNDING:
            fees.append(f"fill {fill.fill_id}: a fee of ${ours.fee} by our rules, ${fee} charged")
        cash -= bought * fill.price + fee
    positions = {market: books.positions.get(market, NOTHING) for market in traded}
    positions = {**books.positions, **positions}
    held = {market: count + traded[market] for market, count in positions.items()}
    for each in news.settlements:
        paid_before = (each.market, each.at) in books.settlements
        # Of a market that had paid before, what was listed late is paid out as well.
        paid = (traded if paid_before else held).get(each.market, NOTHING)
        cash += paid * each.yes
        held[each.market] = held.get(each.market, NOTHING) - paid
    held = {market: count for market, count in held.items() if count}
    return Explained(cash - _set_aside(held), held, len(new), tuple(fees))


def read_cash(connection: KalshiConnection) -> Decimal:
    """USD; what resting orders may take is still in it.

    Raises
    ------
    BrokerError
        here and below, for a venue that does not answer, or whose answer makes no sense.
    """
    what = "the balance"
    answer = connection.get(what, "/portfolio/balance")
    with connection.translated_errors(what):
        return BalanceEntry.cash.of(answer)


def read_positions(connection: KalshiConnection) -> dict[str, Decimal]:
    """Contracts by market, YES above 0 and NO below; none of them 0."""
    what = "positions"
    found = list(connection.pages(what, "/portfolio/positions", "market_positions"))
    with connection.translated_errors(what):
        stated = {PositionEntry.ticker.of(e): PositionEntry.position.of(e) for e in found}
    return {market: position for market, position in stated.items() if position}


def read_fills(connection: KalshiConnection, query: Answer) -> tuple[VenueFill, ...]:
    """Fills, oldest first; query: which, in the venue's words."""
    found = list(connection.pages("fills", FILLS, "fills", **query))
    with connection.translated_errors("fills"):
        # They are listed with the newest first; of one instant their order counts.
        fills = [VenueFill.of(entry) for entry in reversed(found)]
    return tuple(sorted(fills, key=lambda fill: fill.at))


def read_news(connection: KalshiConnection, since: np.datetime64) -> News:
    """Fills and settlements of all markets since an instant."""
    query: Answer = {"min_ts": max(int((since - BEGINNING) // _SECOND), 0)}
    fills = read_fills(connection, query)
    what = "settlements"
    ends = list(connection.pages(what, "/portfolio/settlements", what, **query))
    with connection.translated_errors(what):
        paid = [
            Settlement(
                SettlementEntry.ticker.of(entry),
                paid_for_yes(entry),
                SettlementEntry.at.of(entry),
            )
            for entry in ends
        ]
    return News(fills, tuple(paid))


def _set_aside(positions: Positions) -> Decimal:
    """USD that NO held stand for, where each is a YES sold."""
    return sum((max(-count, NOTHING) for count in positions.values()), NOTHING)


def _words(position: Decimal) -> str:
    if position < 0:
        return f"{-position} NO"
    return f"{position} YES" if position else "nothing"
