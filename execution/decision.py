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

_CHANGE = "expected %+.1f bp, deviation %.1f bp over %.4g h: unconstrained %+.3f, weight %+.3f to %+.3f"
_WORTH = "%s (worth %.2f bp)"


class Choice(NamedTuple):
    """What was decided for one symbol, and why.

    mu, sigma: over the holding interval. kelly: weight before any limit, of Kelly the unconstrained fraction. held: weight
    before. target: weight under every limit. qty: signed quantity ordered. price: USD, at which it was sized. binding: the
    limits that hold the target where it is, with their shadow prices: what one more of each, in equity, would add to the
    interval's expected return net of risk (NaN where there is none). cost: of trading one USD.
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
    """One instant's decision: the choices of the symbols that decided, the orders they led to, and what stood around it.

    stock_ceiling: stock gross allowed, in multiples of equity. sized: what was sized by which rule, as operators grep for it.
    failure: why enhanced sizing did not answer, empty where it did; unsolved: the problem that was not solved. cancels: ids of
    the trader's own open orders that this decision replaces; they end before its orders are sent.
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
    """Why an order exists: what it follows from. `str` puts it into words, which most orders of a backtest are never asked for.

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
        weights = choice.kelly, choice.held, choice.target
        text = _CHANGE % (choice.mu * 1e4, choice.sigma * 1e4, hours, *weights)
    else:
        text = f"no forecast: weight {choice.held:+.3f} to {choice.target:+.3f}"
    cost = f", cost ${choice.change_cost:,.2f}" if choice.qty else ""
    return f"{text}{_bound_by(choice.binding)}{cost}"


def _bound_by(binding: Mapping[str, float]) -> str:
    """What binds and its worth, as a reason says it."""
    worth = [name if price != price else _WORTH % (name, price * 1e4) for name, price in binding.items()]
    return f", bound by {' and '.join(worth)}" if worth else ""


def keep_unsolved(problem: SizingProblem) -> Path:
    """Write a problem that was not solved beside the logs; where it lies, which is logged too."""
    path = Path("logs") / f"unsolved-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    problem.save(path)
    log.warning("the problem that was not solved is in %s", path)
    return path
