"""What a policy is shown of a live market: the features and masks that the environment shows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import numpy as np

from event_contracts.trading.actions import ACTIONS, LimitOrderActionSpace, intent_of
from event_contracts.trading.admission import reserved
from event_contracts.trading.masks import masks
from event_contracts.trading.observation import blank, observe
from event_contracts.trading.orders import PAYOUT, MarketView
from event_contracts.trading.policies import Observations
from event_contracts.trading.records import (
    DOLLAR,
    MARKET,
    ORDER,
    SLOTS,
    TICK,
    WHOLE,
    MarketSpan,
    Record,
    terms_of,
)
from foundation.arrays import Mask, Records


@dataclass(frozen=True, eq=False, slots=True)
class Seen:
    """What a policy is shown.

    features: [F] float32, those of `event_contracts.trading.observation`.
    allowed: bool [25].
    """

    features: Observations = field(repr=False)
    allowed: Mask = field(repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 of both, to tell later whether a replay sees the same."""
        seen = self.features.tobytes() + self.allowed.tobytes()
        return hashlib.sha256(seen).hexdigest()

    @property
    def bits(self) -> int:
        """The mask as a number, whose bit k is action k."""
        return sum(1 << int(action) for action in np.flatnonzero(self.allowed))


class MarketMemory:
    """The ticks of one market, the orders that were sent to it, and how often it failed.

    span: the steps in which it is shown.
    space: sizes, limits and price styles of the orders.
    began: millionths of a USD that money in features is a multiple of.
    sizes: whether features of sizes are there.
    """

    def __init__(
        self, span: MarketSpan, space: LimitOrderActionSpace, began: int, *, sizes: bool
    ) -> None:
        self.span = span
        self.row = -1  # that is shown
        self.failed = 0  # times in a row
        self.rests_until: np.datetime64 | None = None
        self._sizes = sizes
        self._fees = space.fees
        self._terms = terms_of(space, Decimal("0.01"))
        self._tape: Records = np.zeros(span.rows, TICK)
        self._market = np.zeros(1, MARKET)
        self._market["rows"] = span.rows
        self._market["began"] = began
        self._sent = (-1, 0)  # the row at which was decided last, and the contracts sent

    def rests(self, at: np.datetime64) -> bool:
        """Whether the market is left alone at an instant."""
        return self.rests_until is not None and bool(at < self.rests_until)

    def is_newer(self, at: np.datetime64) -> bool:
        """Whether an instant shows a row that is still to come."""
        return self.row < self.span.row(at) < self.span.rows

    def show(self, at: np.datetime64, tick: Record) -> bool:
        """Take over a newer tick; whether it comes before settlement.

        Rows that nobody saw show the last quote before them and no trades; before the first, its.
        """
        row = self.span.row(at)
        self._tape[row] = tick
        passed = self._tape[self.row + 1 : row]
        passed[:] = self._tape[self.row] if self.row >= 0 else tick
        passed["sold"] = 0
        passed["bought"] = 0
        self.row = row
        return row < self.span.rows - 1

    def note(self, row: int, size: int) -> None:
        """Remember what was sent at a row, in contracts; 0 for nothing."""
        self._sent = (row, size)
        self._market["numbers"] += size > 0
        self._market["total"] += size

    def seen(self, view: MarketView) -> Seen:
        """What is shown now, of an account as it is.

        Fractions of contracts that are held do not count, those that rest count as whole ones.
        """
        resting = [each for each in view.resting if each.order.market == view.market]
        elsewhere = [each for each in view.resting if each.order.market != view.market]
        orders = np.zeros(max(len(resting), SLOTS), ORDER)
        for slot, each in zip(orders, resting, strict=False):
            slot["intent"] = intent_of(each.order)
            slot["price"] = int(each.order.price * WHOLE)
            slot["remaining"] = int(each.remaining.to_integral_value(ROUND_CEILING))
        record = self._market[0]
        record["cash"] = _millionths(view.cash, ROUND_FLOOR)
        record["yes"] = int(view.yes)
        record["no"] = int(view.no)
        record["row"] = self.row
        record["sent"] = self._sent[1] if self._sent[0] == self.row - 1 else 0
        record["resting"] = len(resting)
        record["elsewhere"] = _millionths(view.elsewhere, ROUND_FLOOR)
        record["reserved"] = _millionths(reserved(elsewhere, self._fees), ROUND_CEILING)
        terms = self._terms[0]
        terms["tick"] = int(view.quote.tick * WHOLE)
        features = blank(sizes=self._sizes)
        observe(record, orders, self._tape, terms, self._sizes, features)
        allowed = np.zeros(ACTIONS, dtype=bool)
        masks(record, orders, self._tape[self.row], terms, allowed)
        if len(resting) > SLOTS:
            # More orders than the environment knows, as others' may be: no action was learned here.
            allowed[1:] = False
        return Seen(features, allowed)


def worth(view: MarketView) -> Decimal:
    """USD: cash, positions elsewhere, and what is held at the middle of the quote."""
    middle = (view.quote.yes_bid + view.quote.yes_ask) / 2
    return view.cash + view.elsewhere + view.yes * middle + view.no * (PAYOUT - middle)


def _millionths(amount: Decimal, direction: str) -> int:
    return int((amount * DOLLAR).to_integral_value(direction))
