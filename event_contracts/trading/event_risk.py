"""Maximum loss of event contracts over the outcomes of their events, in micro-dollars.

A position loses its value if its side loses. If its side wins, it gains the difference between the
payout of $1 a contract and its value. An order that rests, or whose outcome is unknown, may fill or
not: its cost is lost if its side loses, and it gains nothing if its side wins. So every market has
two figures, its loss if YES wins and its loss if NO wins. An event's loss is the largest sum of its
markets' losses over the possible outcomes, which depend on how the markets are related:

- `exclusive`, which the venue calls `mutually_exclusive`: no market pays YES, or one does
- thresholds (`greater`, `less`, `between`, …) of one event refer to one figure: the outcomes are
  the intervals between the strikes
- anything else, or an unknown relation: markets are independent, and their worst losses add up

Events are independent of each other: their maximum losses add up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

from event_contracts.trading.orders import (
    ContractQuote,
    Exposure,
    Outcome,
    RestingOrder,
    opposite_side,
)
from event_contracts.trading.records import MICROS_PER_DOLLAR
from event_contracts.trading.rules import Number, scale_amount
from trainingdata.feed.fields import parse_decimal


@dataclass(frozen=True, slots=True)
class StrikeRange:
    """Range of figures for which a threshold market pays YES.

    low, high: bounds of the range; None: no bound.
    includes_low, includes_high: true if the bound belongs to the range.
    """

    low: Decimal | None = None
    high: Decimal | None = None
    includes_low: bool = False
    includes_high: bool = False

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            raise ValueError("strike: floor and cap are both missing; give at least one")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"strike: floor {self.low} is above cap {self.high}")

    @property
    def bounds(self) -> tuple[Decimal, ...]:
        return tuple(end for end in (self.low, self.high) if end is not None)

    def contains(self, value: Decimal) -> bool:
        low, high = self.low, self.high
        is_above = low is None or value > low or (self.includes_low and value == low)
        is_below = high is None or value < high or (self.includes_high and value == high)
        return is_above and is_below


class StrikeFields:
    """Parser of a market's strike from `strike_type`, `floor_strike` and `cap_strike`.

    The strike is None for a market without thresholds, with another target (`custom_strike`), or
    without a number. Losses of such markets add up, because they may occur together.
    """

    def read(self, entry: Mapping[str, Any]) -> StrikeRange | None:
        if entry.get("custom_strike") or entry.get("functional_strike"):
            return None
        kind = entry.get("strike_type")
        try:
            if kind in ("greater", "greater_or_equal"):
                low = parse_decimal(entry.get("floor_strike"))
                return StrikeRange(low=low, includes_low=kind == "greater_or_equal")
            if kind in ("less", "less_or_equal"):
                high = parse_decimal(entry.get("cap_strike"))
                return StrikeRange(high=high, includes_high=kind == "less_or_equal")
            if kind == "between":
                low, high = (
                    parse_decimal(entry.get("floor_strike")),
                    parse_decimal(entry.get("cap_strike")),
                )
                return StrikeRange(low, high, includes_low=True, includes_high=True)
        except ValueError:
            return None
        return None


def format_strike_fields(strike: StrikeRange | None) -> dict[str, Any]:
    """Convert a strike to the venue's fields; `StrikeFields` parses these fields."""
    if strike is None:
        return {}
    if strike.low is not None and strike.high is not None:
        return {
            "strike_type": "between",
            "floor_strike": float(strike.low),
            "cap_strike": float(strike.high),
        }
    if strike.low is not None:
        kind = "greater_or_equal" if strike.includes_low else "greater"
        return {"strike_type": kind, "floor_strike": float(strike.low)}
    assert strike.high is not None
    kind = "less_or_equal" if strike.includes_high else "less"
    return {"strike_type": kind, "cap_strike": float(strike.high)}


@dataclass(frozen=True, slots=True)
class MarketEvent:
    """The event of a market, and its relations to the event's other markets.

    event_ticker: ticker of the event. Markets of unknown events ("") count as one event.
    is_mutually_exclusive: true if at most one market of the event pays YES.
    strike: strike of a threshold market, else None.
    """

    event_ticker: str = ""
    is_mutually_exclusive: bool = False
    strike: StrikeRange | None = None


class MarketLoss(NamedTuple):
    """Loss of one market by its outcome, micro-dollars; gains are negative.

    if_yes: loss if YES wins.
    if_no: loss if NO wins.
    """

    if_yes: Number
    if_no: Number


EventLeg = tuple[MarketEvent, MarketLoss]


def compute_market_loss(
    position: Number, value: Number, yes_orders: Number = 0, no_orders: Number = 0
) -> MarketLoss:
    """Return the loss of one market's position and orders, by its outcome.

    position: contracts, YES positive and NO negative.
    value: value of the position, micro-dollars.
    yes_orders, no_orders: cost of orders towards a side if they fill, micro-dollars.
    """
    return MarketLoss(
        if_yes=value - max(position, 0) * MICROS_PER_DOLLAR + no_orders,
        if_no=value - max(-position, 0) * MICROS_PER_DOLLAR + yes_orders,
    )


def compute_max_event_loss(legs: Sequence[EventLeg]) -> Number:
    """Return the maximum of the summed losses of one event's markets over its outcomes."""
    exclusive = bool(legs) and all(event.is_mutually_exclusive for event, _ in legs)
    return compute_other_markets_loss(MarketEvent(is_mutually_exclusive=exclusive), legs).if_no


def compute_other_markets_loss(market_event: MarketEvent, legs: Sequence[EventLeg]) -> MarketLoss:
    """Return the maximum loss of an event's other markets, for each outcome of one market.

    market_event: event and strike of the one market.
    legs: events and losses of the other markets.
    """
    if market_event.is_mutually_exclusive:
        none = sum(loss.if_no for _, loss in legs)
        one = max((none - loss.if_no + loss.if_yes for _, loss in legs), default=none)
        return MarketLoss(if_yes=none, if_no=max(none, one))
    thresholds = [(event.strike, loss) for event, loss in legs if event.strike is not None]
    alone = sum(max(loss) for event, loss in legs if event.strike is None)
    strikes = [strike for strike, _ in thresholds]
    found: dict[bool, list[Number]] = {True: [], False: []}
    for figure in _list_representative_figures(
        strikes if market_event.strike is None else [market_event.strike, *strikes]
    ):
        total = sum(
            (loss.if_yes if strike.contains(figure) else loss.if_no for strike, loss in thresholds),
            alone,
        )
        for pays in (
            (True, False)
            if market_event.strike is None
            else (market_event.strike.contains(figure),)
        ):
            found[pays].append(total)
    return MarketLoss(if_yes=max(found[True]), if_no=max(found[False]))


def _list_representative_figures(strikes: Sequence[StrikeRange]) -> list[Decimal]:
    """Return one figure for each possible outcome of threshold markets.

    The figures are every bound of the strikes, and one figure between, below and above the bounds.
    """
    ends = sorted({end for strike in strikes for end in strike.bounds})
    if not ends:
        return [Decimal(0)]
    between = [(low + high) / 2 for low, high in pairwise(ends)]
    return [ends[0] - 1, *ends, *between, ends[-1] + 1]


def compute_exposure(
    market: str,
    positions: Mapping[str, Decimal],
    resting_orders: Iterable[RestingOrder],
    quotes: Mapping[str, ContractQuote],
    events: Mapping[str, MarketEvent],
) -> Exposure:
    """Return the maximum losses of all markets except one.

    A position is valued at its side's ask, the present price of a purchase.

    market: the market to exclude.
    positions: contracts by market, YES positive and NO negative, of markets without a result yet.
    resting_orders: orders of every market, including those of unknown outcome.
    quotes: quotes of the markets with a position.
    events: events of every market.
    """
    costs: dict[tuple[str, Outcome], Number] = defaultdict(int)
    for each in resting_orders:
        order = each.order
        bought = order.action == "BUY"
        towards = order.side if bought else opposite_side(order.side)
        price = order.price if bought else 1 - order.price
        costs[order.market, towards] += scale_amount(
            price * each.remaining_count, MICROS_PER_DOLLAR
        )
    legs: dict[str, list[EventLeg]] = defaultdict(list)
    for name in dict.fromkeys([*positions, *(name for name, _ in costs)]):
        if name == market:
            continue
        position = positions.get(name, Decimal(0))
        value: Number = 0
        if position:
            ask = quotes[name].ask("YES" if position > 0 else "NO")
            value = scale_amount(abs(position) * ask, MICROS_PER_DOLLAR)
        loss = compute_market_loss(
            scale_amount(position), value, costs[name, "YES"], costs[name, "NO"]
        )
        legs[events[name].event_ticker].append((events[name], loss))
    own_event = compute_other_markets_loss(
        events[market], legs.pop(events[market].event_ticker, [])
    )
    return Exposure(
        own_event.if_yes, own_event.if_no, sum(map(compute_max_event_loss, legs.values()))
    )
