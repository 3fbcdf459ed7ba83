"""Record types (numpy dtypes) of markets, orders and fills of event contracts.

Compiled code works on these records. Money is int64 in millionths of a USD, prices are in
ten-thousandths (the venue's finest step), contracts are whole. In these units every rule of
`event_contracts.trading.orders` and `event_contracts.trading.fees` is exact. A record is one row of
a numpy structured array.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np

from event_contracts.trading.orders import ContractQuote

Record = Any  # one row of a structured array

BUY_YES, SELL_YES, BUY_NO, SELL_NO = range(1, 5)
NO_INTENT = 0  # an empty slot, or no intent
PASSIVE, MID, AGGRESSIVE = range(3)
PRICE_STYLE_CODES = {"passive": PASSIVE, "mid": MID, "aggressive": AGGRESSIVE}

MICROS_PER_DOLLAR = 1_000_000  # millionths
PRICE_UNITS_PER_DOLLAR = 10_000  # ten-thousandths of a USD: the price of a certain outcome
MICROS_PER_PRICE_UNIT = (
    MICROS_PER_DOLLAR // PRICE_UNITS_PER_DOLLAR
)  # millionths of a USD in one price unit
MAX_RECORD_AMOUNT = 10**16  # in any unit; sums of it fit into 64 bits
MAX_ORDER_CONTRACTS = 1_000_000  # in one order
MAX_RESTING_ORDERS = 8  # per market
# A new order may take the depth shown at once, and its remainder fill at the next tick.
MAX_FILLS_PER_STEP = MAX_RESTING_ORDERS + 1  # of one step

# The quote of a market at one step, and the trades in the step that ended there.
TICK_DTYPE = np.dtype(
    [
        ("bid", "i8"),  # of YES, 0 without a bid
        ("ask", "i8"),  # of YES, PRICE_UNITS_PER_DOLLAR without an offer
        ("bid_size", "i8"),
        ("ask_size", "i8"),
        ("sold", "i8"),  # contracts that hit the bid
        ("bought", "i8"),  # contracts that lifted the ask
        ("estimate", "f8"),  # probability of YES from an outside model
    ],
    align=True,
)
MARKET_DTYPE = np.dtype(
    [
        ("cash", "i8"),
        ("yes", "i8"),
        ("no", "i8"),
        ("row", "i8"),  # the step that is shown
        ("rows", "i8"),  # of the session, including the settlement row
        ("sent", "i8"),  # contracts of the last order, filled or not
        ("numbers", "i8"),  # orders sent so far
        ("resting", "i8"),  # slots in use, the oldest first
        ("fills", "i8"),  # of the last step
        ("total", "i8"),  # contracts of all orders sent so far
        ("starting_equity", "i8"),  # cash at the beginning
        ("elsewhere", "i8"),  # value of positions in other markets
        ("reserved_cash", "i8"),  # cash that resting purchases in other markets may use
        # Greatest losses of other markets (`event_contracts.trading.event_risk`), USD millionths:
        ("event_if_yes", "i8"),  # of its event's other markets if this one pays YES
        ("event_if_no", "i8"),  # of its event's other markets if this one pays NO
        ("other_events", "i8"),
        # Contracts of the depth shown, and of the step's trades, that orders may still take.
        ("asks", "i8"),
        ("bids", "i8"),
        ("sold", "i8"),
        ("bought", "i8"),
    ],
    align=True,
)
ORDER_DTYPE = np.dtype(
    [
        ("number", "i8"),
        ("intent", "i8"),
        ("price", "i8"),  # of its own side
        ("remaining", "i8"),
        ("ahead", "i8"),  # contracts before it in the queue
        ("age", "i8"),  # steps since it was sent
        ("carried", "i8"),  # rounding of its fills that has not been returned
    ],
    align=True,
)
FILL_DTYPE = np.dtype(
    [
        ("number", "i8"),
        ("intent", "i8"),
        ("price", "i8"),
        ("count", "i8"),
        ("maker", "i8"),
        ("fee", "i8"),  # net of the rebate
    ],
    align=True,
)


@dataclass(frozen=True, slots=True)
class SamplingSchedule:
    """Schedule that samples the ticks of a market at equal time steps.

    start: UTC, instant of row 0.
    interval: time between rows, positive.
    row_count: number of rows from the first one to settlement, both included, at least 2.
    """

    start: np.datetime64
    interval: np.timedelta64
    row_count: int

    def __post_init__(self) -> None:
        if not self.interval > np.timedelta64(0, "ns"):
            raise ValueError(f"interval: {self.interval} must be above 0")
        if self.row_count < 2:
            raise ValueError(
                f"rows: expected at least 2, a tick and the settlement; got {self.row_count}"
            )

    def row_index_at(self, at: np.datetime64) -> int:
        """Return the row of an instant; negative before the first row."""
        return int((at - self.start) // self.interval)


@dataclass(frozen=True, eq=False, slots=True)
class MarketUpdate:
    """The tick of a market at an instant of its schedule.

    at: UTC, a whole number of intervals after the schedule's first row.
    tick: record of dtype `TICK_DTYPE`.
    """

    market: str
    at: np.datetime64
    tick: Record = field(repr=False)


def price_to_usd(price: int) -> Decimal:
    """Convert a price from ten-thousandths to USD."""
    return Decimal(int(price)) / PRICE_UNITS_PER_DOLLAR


def quote_from_tick(tick: Record, step: Decimal) -> ContractQuote:
    """Convert the best prices of a tick to a quote in USD.

    tick: record of dtype `TICK_DTYPE`.
    step: price step, USD.
    """
    return ContractQuote(price_to_usd(tick["bid"]), price_to_usd(tick["ask"]), step)
