"""What an account should hold by our own doing, and what of it differs at the venue.

It should hold what it held when its journal began, what our orders have filled since by their own
answers, and what the venue books beside trades (splits, ends of options, shares of an exercise)
where what is held shows it. A trade by hand is none of these, whether it is listed or not.

Three things are no difference. An order that may fill yet explains as much as it may. Of a purchase
of coins the venue keeps its fee in coin, and lists that hours later (Alpaca, "Crypto Fees"). An
option whose last session has closed is held no more; its end is listed a day later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

import numpy as np

from execution.journal.activities import Activity
from execution.journal.expected import NONE, Owned
from execution.journal.intents import Intent
from execution.option_orders import SHARES, SpreadOrder, contract_of, is_option
from foundation.decimals import EXACT, plain, total
from trainingdata.instruments import is_coin, is_symbol

COIN_FEE = Decimal("0.01")  # of a purchase: more than the venue keeps of any
TWICE = 2  # times the mean price of its order, or half of it, beyond which a trade's price is odd


class Room(NamedTuple):
    """By how much less, and more, of a symbol may be held than should be; neither below 0."""

    below: Decimal = NONE
    above: Decimal = NONE

    def holds(self, surplus: Decimal) -> bool:
        """Whether a surplus, signed, is no difference."""
        return self.below.copy_negate() <= surplus <= self.above


@dataclass(frozen=True, slots=True)
class Difference:
    """What is held of a symbol and is not explained: shares, coins or contracts, signed."""

    expected: Decimal
    actual: Decimal

    @property
    def surplus(self) -> Decimal:
        """What is held beyond what should be, signed: our own trades leave it as it is."""
        return EXACT.subtract(self.actual, self.expected)

    def __str__(self) -> str:
        return f"{plain(self.actual)} at the venue, {plain(self.expected)} by our own orders"


def unexplained(
    expected: Mapping[str, Owned],
    held: Mapping[str, Decimal],
    rooms: Mapping[str, Room],
    at: np.datetime64,
) -> dict[str, Difference]:
    """Every symbol of which more or less is held than should be.

    expected, held: signed quantities by symbol; a symbol that is missing is 0.
    rooms: by how much that may be otherwise.
    at: instant by the venue's clock.
    """
    found = {}
    for symbol in sorted({*expected, *held}):
        wanted = expected.get(symbol, Owned()).quantity
        each = Difference(wanted, held.get(symbol, NONE))
        if is_option(symbol) and not each.actual and contract_of(symbol).has_expired(at):
            continue
        if not rooms.get(symbol, Room()).holds(each.surplus):
            found[symbol] = each
    return found


def explaining(surplus: Decimal, changes: Mapping[str, Decimal], room: Room) -> list[str]:
    """Bookings that explain the whole surplus of a symbol; none where they do not.

    All together do, or those do that bring it nearer to nothing one after the other: what was there
    at the ground, or was accepted by a person, may be listed later, and explains nothing.

    changes: of bookings that are not counted, by name, oldest first.
    """
    nearer = []
    left = surplus
    for name, change in changes.items():
        if abs(EXACT.subtract(left, change)) < abs(left):
            left = EXACT.subtract(left, change)
            nearer.append(name)
    for names in (list(changes), nearer):
        if room.holds(EXACT.subtract(surplus, total(changes[name] for name in names))):
            return names
    return []


def changes_of(intent: Intent, quantity: Decimal) -> dict[str, Decimal]:
    """What so much of an order does to each position, signed: of one symbol, or of several legs."""
    if isinstance(intent.order, SpreadOrder):
        legs = {leg.contract.symbol: leg.side for leg in intent.order.legs}
    else:
        legs = {intent.single.symbol: intent.single.side}
    return {symbol: quantity if side == "buy" else -quantity for symbol, side in legs.items()}


def rooms_of(waiting: Iterable[Intent]) -> defaultdict[str, Room]:
    """What orders that may fill yet may do to each position."""
    rooms: defaultdict[str, Room] = defaultdict(Room)
    for intent in waiting:
        order = intent.order
        whole = Decimal(order.contracts) if isinstance(order, SpreadOrder) else intent.single.qty
        rest = max(whole - intent.progress.filled, NONE)
        for symbol, change in changes_of(intent, rest).items():
            below, above = rooms[symbol]
            rooms[symbol] = Room(below + max(-change, NONE), above + max(change, NONE))
    return rooms


def fee_of(symbol: str, change: Decimal) -> Decimal:
    """How much of a change the venue may keep: of a purchase of coins it does."""
    bought = change > 0 and is_symbol(symbol) and is_coin(symbol)
    return EXACT.multiply(change, COIN_FEE) if bought else NONE


def at_stake(symbol: str, difference: Difference, worth: Decimal, marked: float) -> Decimal:
    """USD that an odd symbol may come to.

    worth: of what is held; marked: of what was when the account was marked last, signed.
    """
    if is_option(symbol) and difference.actual < 0:
        owed = contract_of(symbol).strike * SHARES * -difference.actual
        return max(worth, owed)
    return max(worth, Decimal(repr(abs(marked))))


def odd_prices(trades: Iterable[Activity], means: Mapping[str, Decimal | None]) -> str:
    """Trades at another price than their order's, in a line; empty for none.

    means: mean prices of our orders by the venue's ids, USD.
    """
    odd = []
    for trade in trades:
        mean = means.get(trade.order_id)
        if mean and trade.price and not mean / TWICE <= trade.price <= mean * TWICE:
            odd.append(
                f"activity {trade.id}: {trade.symbol} at {plain(trade.price)}, and its order"
                f" filled at {plain(mean)}"
            )
    return "; ".join(odd)
