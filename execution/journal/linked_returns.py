"""What an account has lost, whatever was paid in or out: a point in its index at every mark.

A deposit is no profit and a withdrawal is no loss. What a dollar becomes between two marks is
(equity - flow) / equity before, and the product of these is an index of what the first equity
became.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from trainingdata.instants import new_york_date

_NOTHING = Decimal(0)
_ONE = Decimal(1)


@dataclass(frozen=True, slots=True)
class Point:
    """A mark in the index of linked returns.

    at: by the venue's clock.
    equity: USD, cash plus positions.
    index: USD that the first equity has become; once everything was lost it stays 0.
    peak: the highest index until then, above 0.
    day: index at the last mark before the New York date of `at`, or where the index began.
    let_daily_loss: loss of the day that a person let go on; 0 where nobody did.
    let_drawdown: the same of the loss since the peak.
    """

    at: np.datetime64
    equity: Decimal
    index: Decimal
    peak: Decimal
    day: Decimal
    let_daily_loss: Decimal = _NOTHING
    let_drawdown: Decimal = _NOTHING

    @property
    def daily_loss(self) -> Decimal:
        """Share lost on the date of `at`, below 0 for a gain; 0 where it began with nothing."""
        return _ONE - self.index / self.day if self.day else _NOTHING

    @property
    def drawdown(self) -> Decimal:
        """Share lost since the peak, 0 … 1."""
        return _ONE - self.index / self.peak

    @classmethod
    def first(cls, at: np.datetime64, equity: Decimal | float) -> Point:
        """Where an account begins; one that is worth nothing has lost everything."""
        begin = max(exact(equity), _NOTHING)
        base = begin or _ONE
        return cls(at, exact(equity), begin, base, base)

    def next(self, at: np.datetime64, equity: Decimal | float, flow: Decimal | float) -> Point:
        """The mark after this one.

        equity: USD.
        flow: USD, deposits minus withdrawals since this one.
        """
        worth = exact(equity)
        index = _NOTHING
        if self.index and worth > 0:
            index = max(self.index * (worth - exact(flow)) / self.equity, _NOTHING)
        same_day = date_of(at) == date_of(self.at)
        return Point(
            at=at,
            equity=worth,
            index=index,
            peak=max(self.peak, index),
            day=self.day if same_day else self.index,
            let_daily_loss=self.let_daily_loss if same_day else _NOTHING,
            let_drawdown=self.let_drawdown,
        )

    def anew(self, at: np.datetime64, equity: Decimal | float, flow: Decimal | float) -> Point:
        """The mark after this one, in an index that begins between them."""
        if self.equity <= 0:
            return Point.first(at, equity)
        return Point.first(self.at, self.equity).next(at, equity, flow)


def exact(value: Decimal | float) -> Decimal:
    """A number as it is written."""
    return value if isinstance(value, Decimal) else Decimal(repr(float(value)))


def date_of(at: np.datetime64) -> np.datetime64:
    """The New York date of an instant."""
    return np.datetime64(new_york_date(np.array([at]))[0])
