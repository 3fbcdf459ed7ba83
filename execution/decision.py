"""What was decided and why: the answer to every question about an order."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import numpy as np

from execution.orders import Order
from sizing.kelly import SizingProblem

log = logging.getLogger(__name__)

_NEXT = "forecast %+.1f bp, deviation %.1f bp over %.4g h"
_PLAN = (
    "; over %.3g days premium %+.1f bp (%.2f %% a year, Sharpe ratio %g), forecast %+.1f bp%s,"
    " deviation %.0f bp"
)
_CHANGE = ": unconstrained %+.3f, weight %+.3f to %+.3f"
_WORTH = "%s (worth %.2f bp)"


class Rests(NamedTuple):
    """What a target rests on, over all of a plan's blocks, `days` calendar days; NaN where it rests
    on no forecast.

    sharpe: stated, of the symbol's class; premium: what follows from it, a year; earned: the same
    over the plan. forecast: over the plan. worth: what the forecaster's centre was multiplied by,
    none where it was not. deviation: over the plan.
    """

    days: float
    sharpe: float
    premium: float
    earned: float
    forecast: float
    worth: float | None
    deviation: float


_NAN = float("nan")
NO_FORECAST = Rests(_NAN, _NAN, _NAN, _NAN, _NAN, None, _NAN)


class Choice(NamedTuple):
    """What was decided for one symbol, and why.

    mu, sigma: forecast over the first block, until the next decision. kelly: weight before any
    limit or cost, over the whole plan. held: weight before. target: weight under every limit. qty:
    signed quantity ordered. price: USD, as sized. binding: the limits that hold the target where it
    is, with their shadow prices: what one more of each, in equity, would add to the plan's expected
    return net of risk (NaN where there is none). cost: of trading one USD. rests: what the target
    rests on.
    """

    symbol: str
    mu: float
    sigma: float
    kelly: float
    held: float
    target: float
    qty: Decimal
    price: float
    binding: Mapping[str, float]
    cost: float
    rests: Rests = NO_FORECAST

    @property
    def bound_by(self) -> str:
        """The names of what binds, joined by `+`."""
        return "+".join(self.binding)

    @property
    def change_cost(self) -> float:
        """USD that the change is reckoned to cost."""
        return self.cost * abs(float(self.qty)) * self.price if self.qty else 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """One instant's decision: the choices of the symbols that decided, the orders they led to, and
    what stood around it.

    stock_ceiling: stock gross allowed, in multiples of equity. sized: what was sized by which rule,
    as operators grep for it. failure: why enhanced sizing did not answer, empty where it did;
    unsolved: the problem that was not solved. cancels: ids of the trader's own open orders that
    this decision replaces; they end before its orders are sent.
    """

    at: np.datetime64
    until: np.datetime64
    equity: float
    stock_ceiling: float
    choices: tuple[Choice, ...]
    orders: tuple[Order, ...]
    sized: tuple[str, ...] = ()
    failure: str = ""
    unsolved: SizingProblem | None = field(default=None, compare=False)
    cancels: tuple[str, ...] = ()


class Why(NamedTuple):
    """Why an order exists: what it follows from. `str` puts it into words, which most orders of a
    backtest are never asked for.

    hours: length of the holding interval. failure: of enhanced sizing, empty where it answered.
    """

    choice: Choice
    hours: float
    failure: str = ""

    def __str__(self) -> str:
        words = reason(self.choice, self.hours)
        return f"{self.failure}; {words}" if self.failure else words


def reason(choice: Choice, hours: float) -> str:
    """Why a choice is what it is, in a line. hours: length of the holding interval."""
    if choice.sigma == choice.sigma:
        text = _NEXT % (choice.mu * 1e4, choice.sigma * 1e4, hours)
        text += planned(choice.rests, hours) + _CHANGE % (choice.kelly, choice.held, choice.target)
    else:
        text = f"no forecast: weight {choice.held:+.3f} to {choice.target:+.3f}"
    cost = f", cost ${choice.change_cost:,.2f}" if choice.qty else ""
    return f"{text}{_bound_by(choice.binding)}{cost}"


def planned(r: Rests, hours: float) -> str:
    """What a choice rests on beyond the next decision, so many hours away, or by a stated
    premium; empty if neither.
    """
    if not (r.sharpe > 0 or r.days * 24 > hours * 1.001):
        return ""
    worth = "" if r.worth is None else f" (worth {r.worth:.2f})"
    return _PLAN % (
        r.days,
        r.earned * 1e4,
        r.premium * 100,
        r.sharpe,
        r.forecast * 1e4,
        worth,
        r.deviation * 1e4,
    )


def _bound_by(binding: Mapping[str, float]) -> str:
    """What binds and its worth, as a reason says it."""
    worth = [
        name if price != price else _WORTH % (name, price * 1e4) for name, price in binding.items()
    ]
    return f", bound by {' and '.join(worth)}" if worth else ""


def keep_unsolved(problem: SizingProblem) -> Path:
    """Write a problem that was not solved beside the logs; where it lies, which is logged too."""
    path = Path("logs") / f"unsolved-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    problem.save(path)
    log.warning("the problem that was not solved is in %s", path)
    return path
