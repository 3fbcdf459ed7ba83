"""Reads of one account: cash, positions, and what the venue lists of fills and settlements."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from event_contracts.trading.connection import Answer, KalshiConnection
from event_contracts.trading.fields import (
    BalanceEntry,
    PositionEntry,
    SettlementEntry,
    paid_for_yes,
)
from event_contracts.trading.ledger import Settlement
from event_contracts.trading.order_desk import FILLS
from event_contracts.trading.venue_orders import VenueFill

_SECOND = np.timedelta64(1, "s")


@dataclass(frozen=True, slots=True)
class News:
    """What the venue lists from an instant on.

    fills: oldest first.
    settlements: as they are listed.
    """

    fills: tuple[VenueFill, ...]
    settlements: tuple[Settlement, ...]


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


def read_fills(connection: KalshiConnection, query: Answer) -> list[VenueFill]:
    """Fills, oldest first; query: which, in the venue's words."""
    found = list(connection.pages("fills", FILLS, "fills", **query))
    with connection.translated_errors("fills"):
        # They are listed with the newest first; of one instant their order counts.
        return sorted((VenueFill.of(e) for e in reversed(found)), key=lambda fill: fill.at)


def read_news(connection: KalshiConnection, since: np.datetime64) -> News:
    """Fills and settlements of all markets since an instant."""
    epoch = np.datetime64(0, "ns")
    query: Answer = {"min_ts": max(int((since - epoch) // _SECOND), 0)}
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
    return News(tuple(fills), tuple(paid))
