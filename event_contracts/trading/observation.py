"""What an agent sees of a market: features up to the tick that is shown, and none of later ones."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from event_contracts.trading.record_rules import masks
from event_contracts.trading.records import (
    BUY_NO,
    BUY_YES,
    DOLLAR,
    SELL_NO,
    SELL_YES,
    WHOLE,
    Record,
)
from event_contracts.trading.rules import Terms
from foundation.arrays import Mask, Records
from foundation.compiled import compiled, jit_inline

FEATURES = (  # all within ±LARGEST
    "bid",  # best bid for YES, USD
    "ask",  # best ask of YES, USD
    "bid_size",  # log(1 + contracts at the bid) / 10
    "ask_size",  # log(1 + contracts at the ask) / 10
    "sold",  # log(1 + contracts that hit the bid in the last step) / 10
    "bought",  # log(1 + contracts that lifted the ask in it) / 10
    "estimate",  # probability of YES by a model outside the market
    "edge",  # the estimate less the middle of the quote, in multiples of 5 cents
    "change",  # of the middle in the last step, in the same
    "trend",  # of the middle in the last ten steps, in the same
    "deviation",  # root mean square of the middle's last twenty changes, in the same
    "left",  # share of the session that is left
    "cash",  # in multiples of the cash at the beginning
    "position",  # contracts, YES above 0 and NO below, in multiples of the limit
    "share",  # of the account that the position is worth
    "profit",  # of the account, in multiples of the cash at the beginning
    "bids",  # contracts of resting purchases, in multiples of the limit
    "offers",  # contracts of resting sales, in multiples of the limit
    "size",  # contracts of the last order, in multiples of the largest size
    "mean_size",  # of all orders so far, in the same
    "largest_yes",  # the largest purchase of YES that may be sent, in the same
    "largest_no",  # the largest purchase of NO that may be sent, in the same
)
LARGEST = 10.0
NICKEL = 0.05  # USD: networks learn from features that are neither tiny nor large
TREND = 10  # steps
ROOT_MEAN = 20  # steps


@jit_inline
def value(market: Record, tick: Record) -> float:
    """USD: cash, what is held at the middle of the quote, and what other markets' positions are."""
    return float((market.cash + market.elsewhere) / DOLLAR + _held(market, tick))


@jit_inline
def _held(market: Record, tick: Record) -> float:
    middle = _middle(tick)
    return float(market.yes * middle + market.no * (1.0 - middle))


@jit_inline
def _middle(tick: Record) -> float:
    return float((tick.bid + tick.ask) / (2.0 * WHOLE))


@jit_inline
def _depth(contracts: int) -> float:
    return math.log1p(contracts) / 10.0


@jit_inline
def _deviation(tape: Records, row: int) -> float:
    count = min(row, ROOT_MEAN)
    total = 0
    before = tape[row - count].bid + tape[row - count].ask
    for k in range(row - count + 1, row + 1):
        after = tape[k].bid + tape[k].ask
        total += (after - before) ** 2
        before = after
    return math.sqrt(total / count) / (2.0 * WHOLE) if count else 0.0


@jit_inline
def _largest(allowed: Mask, terms: Terms, intent: int) -> float:
    """The largest size of an intent that may be sent, in multiples of the largest there is."""
    for size in range(4, -1, -1):
        if allowed[(intent - 1) * 5 + size + 1]:
            return float(terms.sizes[size] / terms.sizes[4])
    return 0.0


@compiled
def observe(
    market: Record,
    orders: Records,
    tape: Records,
    terms: Terms,
    seen: npt.NDArray[np.float32],
    allowed: Mask,
) -> None:
    """Write the features of a market at its tick, and which of the 25 actions may be sent.

    tape: ticks up to the market's at least; later ones are not read. seen: [F] float32.
    allowed: [25].
    """
    row = market.row
    tick = tape[row]
    masks(market, orders, tick, terms, allowed)
    middle = _middle(tick)
    limit = float(terms.limits.contracts)
    began = market.began / DOLLAR
    worth = value(market, tick)
    seen[0] = tick.bid / WHOLE
    seen[1] = tick.ask / WHOLE
    seen[2] = _depth(tick.bid_size)
    seen[3] = _depth(tick.ask_size)
    seen[4] = _depth(tick.sold)
    seen[5] = _depth(tick.bought)
    seen[6] = tick.estimate
    seen[7] = (tick.estimate - middle) / NICKEL
    seen[8] = (middle - _middle(tape[max(row - 1, 0)])) / NICKEL
    seen[9] = (middle - _middle(tape[max(row - TREND, 0)])) / NICKEL
    seen[10] = _deviation(tape, row) / NICKEL
    seen[11] = (market.rows - 1 - row) / (market.rows - 1)
    seen[12] = market.cash / DOLLAR / began
    seen[13] = (market.yes - market.no) / limit
    seen[14] = _held(market, tick) / worth if worth > 0.0 else 0.0
    seen[15] = worth / began - 1.0
    bids = 0
    offers = 0
    for k in range(market.resting):
        if orders[k].intent in (BUY_YES, BUY_NO):
            bids += orders[k].remaining
        elif orders[k].intent in (SELL_YES, SELL_NO):
            offers += orders[k].remaining
    seen[16] = bids / limit
    seen[17] = offers / limit
    largest = terms.sizes[4]
    seen[18] = market.sent / largest
    seen[19] = market.total / market.numbers / largest if market.numbers else 0.0
    seen[20] = _largest(allowed, terms, BUY_YES)
    seen[21] = _largest(allowed, terms, BUY_NO)
    for k in range(len(seen)):
        seen[k] = min(max(seen[k], -LARGEST), LARGEST)
