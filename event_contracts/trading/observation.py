"""Observation features of a market, computed from its current and earlier ticks only."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from event_contracts.trading.record_rules import write_action_masks
from event_contracts.trading.records import (
    BUY_NO,
    BUY_YES,
    MICROS_PER_DOLLAR,
    PRICE_UNITS_PER_DOLLAR,
    SELL_NO,
    SELL_YES,
    Record,
)
from event_contracts.trading.rules import ScaledOrderRules
from foundation.arrays import Mask, StructuredArray
from foundation.compiled import compiled, jit_inline

FEATURES = (  # all within ±MAX_ABS_FEATURE
    "bid",  # best bid for YES, USD
    "ask",  # best ask of YES, USD
    "bid_size",  # log(1 + contracts at the bid) / 10
    "ask_size",  # log(1 + contracts at the ask) / 10
    "sold",  # log(1 + contracts that hit the bid in the last step) / 10
    "bought",  # log(1 + contracts that lifted the ask in the last step) / 10
    "estimate",  # probability of YES by a model outside the market
    "edge",  # the estimate less the middle of the quote, in units of 5 cents
    "change",  # change of the middle in the last step, in units of 5 cents
    "trend",  # change of the middle in the last ten steps, in units of 5 cents
    "deviation",  # root mean square of the middle's last twenty changes, in units of 5 cents
    "left",  # remaining share of the session
    "cash",  # in multiples of the cash at the beginning
    "position",  # contracts, YES positive and NO negative, in multiples of the limit
    "share",  # position as a share of the account's value
    "profit",  # profit of the account, in multiples of the cash at the beginning
    "bids",  # contracts of resting purchases, in multiples of the limit
    "offers",  # contracts of resting sales, in multiples of the limit
    "size",  # contracts of the last order, in multiples of the largest size
    "mean_size",  # mean size of all orders so far, in multiples of the largest size
    "largest_yes",  # largest permitted purchase of YES, in multiples of the largest size
    "largest_no",  # largest permitted purchase of NO, in multiples of the largest size
)
MAX_ABS_FEATURE = 10.0
PRICE_FEATURE_SCALE = 0.05  # USD: networks learn from features that are neither tiny nor large
TREND_FEATURE_STEPS = 10  # steps
DEVIATION_FEATURE_STEPS = 20  # steps


@jit_inline
def account_value(market: Record, tick: Record) -> float:
    """Return the account's value, USD: cash, this market's position at mid quote, and the others.

    Positions in other markets have the value that the record states.
    """
    return float(
        (market.cash + market.elsewhere) / MICROS_PER_DOLLAR + _position_value_usd(market, tick)
    )


@jit_inline
def _position_value_usd(market: Record, tick: Record) -> float:
    middle = _mid_price(tick)
    return float(market.yes * middle + market.no * (1.0 - middle))


@jit_inline
def _mid_price(tick: Record) -> float:
    return float((tick.bid + tick.ask) / (2.0 * PRICE_UNITS_PER_DOLLAR))


@jit_inline
def _depth_feature(contracts: int) -> float:
    return math.log1p(contracts) / 10.0


@jit_inline
def _price_deviation(tape: StructuredArray, row: int) -> float:
    count = min(row, DEVIATION_FEATURE_STEPS)
    total = 0
    before = tape[row - count].bid + tape[row - count].ask
    for k in range(row - count + 1, row + 1):
        after = tape[k].bid + tape[k].ask
        total += (after - before) ** 2
        before = after
    return math.sqrt(total / count) / (2.0 * PRICE_UNITS_PER_DOLLAR) if count else 0.0


@jit_inline
def _largest_allowed_size(allowed: Mask, terms: ScaledOrderRules, intent: int) -> float:
    """Return the largest permitted size of an intent, as a share of the largest of all sizes.

    The result is 0 if no size is permitted.
    """
    for size in range(4, -1, -1):
        if allowed[(intent - 1) * 5 + size + 1]:
            return float(terms.position_sizes[size] / terms.position_sizes[4])
    return 0.0


@compiled
def write_observation(
    market: Record,
    orders: StructuredArray,
    tape: StructuredArray,
    terms: ScaledOrderRules,
    observations: npt.NDArray[np.float32],
    allowed: Mask,
) -> None:
    """Write the features of a market at its current row, and the mask of permitted actions.

    tape: ticks of the market, at least up to the current row; later ticks are not read.
    observations: output, float32 [F].
    allowed: output, bool [25].
    """
    row = market.row
    tick = tape[row]
    write_action_masks(market, orders, tick, terms, allowed)
    middle = _mid_price(tick)
    limit = float(terms.limits.max_contracts)
    starting_equity = market.starting_equity / MICROS_PER_DOLLAR
    equity = account_value(market, tick)
    observations[0] = tick.bid / PRICE_UNITS_PER_DOLLAR
    observations[1] = tick.ask / PRICE_UNITS_PER_DOLLAR
    observations[2] = _depth_feature(tick.bid_size)
    observations[3] = _depth_feature(tick.ask_size)
    observations[4] = _depth_feature(tick.sold)
    observations[5] = _depth_feature(tick.bought)
    observations[6] = tick.estimate
    observations[7] = (tick.estimate - middle) / PRICE_FEATURE_SCALE
    observations[8] = (middle - _mid_price(tape[max(row - 1, 0)])) / PRICE_FEATURE_SCALE
    observations[9] = (
        middle - _mid_price(tape[max(row - TREND_FEATURE_STEPS, 0)])
    ) / PRICE_FEATURE_SCALE
    observations[10] = _price_deviation(tape, row) / PRICE_FEATURE_SCALE
    observations[11] = (market.rows - 1 - row) / (market.rows - 1)
    observations[12] = market.cash / MICROS_PER_DOLLAR / starting_equity
    observations[13] = (market.yes - market.no) / limit
    observations[14] = _position_value_usd(market, tick) / equity if equity > 0.0 else 0.0
    observations[15] = equity / starting_equity - 1.0
    bids = 0
    offers = 0
    for k in range(market.resting):
        if orders[k].intent in (BUY_YES, BUY_NO):
            bids += orders[k].remaining
        elif orders[k].intent in (SELL_YES, SELL_NO):
            offers += orders[k].remaining
    observations[16] = bids / limit
    observations[17] = offers / limit
    largest = terms.position_sizes[4]
    observations[18] = market.sent / largest
    observations[19] = market.total / market.numbers / largest if market.numbers else 0.0
    observations[20] = _largest_allowed_size(allowed, terms, BUY_YES)
    observations[21] = _largest_allowed_size(allowed, terms, BUY_NO)
    for k in range(len(observations)):
        observations[k] = min(max(observations[k], -MAX_ABS_FEATURE), MAX_ABS_FEATURE)
