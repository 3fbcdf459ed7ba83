"""What a market's fills add up to: contracts, what they cost, what has been locked in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from event_contracts.simulation.tickets import Trade
from event_contracts.trading.fees import NOTHING
from event_contracts.trading.orders import PAYOUT


@dataclass(frozen=True, slots=True)
class Position:
    """One market's position at average cost, before settlement.

    contracts: YES above 0, NO below. cost: USD of what is held. traded: USD of all fills.
    realized: USD, without fees. fees: USD, net of rebates.
    """

    contracts: Decimal = NOTHING
    cost: Decimal = NOTHING
    traded: Decimal = NOTHING
    realized: Decimal = NOTHING
    fees: Decimal = NOTHING


def position_of(trades: Iterable[Trade]) -> Position:
    """The position after fills of one market, in booking order.

    A bid of what is held in NO closes it at 1 less its price, whether it sells NO or buys YES that
    pairs with it. Cost − realized = Σ USD paid − USD received, but for the pairs.
    """
    position = Position()
    for trade in trades:
        position = _after(position, trade)
    return position


def _after(position: Position, trade: Trade) -> Position:
    bids = trade.side == "bid"
    own_price = trade.price if bids else PAYOUT - trade.price
    signed = position.contracts if bids else -position.contracts
    closed = min(trade.count, max(-signed, NOTHING))
    opened = trade.count - closed
    released = position.cost * closed / -signed if closed else NOTHING
    change = trade.count if bids else -trade.count
    return Position(
        contracts=position.contracts + change,
        cost=position.cost - released + opened * own_price,
        traded=position.traded + trade.count * own_price,
        realized=position.realized + closed * (PAYOUT - own_price) - released,
        fees=position.fees + trade.fee,
    )
