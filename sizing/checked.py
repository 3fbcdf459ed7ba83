"""A strategy of a user's own, whose every answer is looked at before orders are made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, get_args

import numpy as np

from foundation.arrays import Array
from foundation.errors import InputError
from foundation.plugin import own_code
from sizing.allocation import Allocation, Strategy
from sizing.limits import Limits
from sizing.situation import Situation
from trainingdata.instruments import Kind
from trainingdata.sessions import Holding

TOLERANCE = 1e-6  # in weight
HOLDINGS = (None, *get_args(Holding))


@dataclass(frozen=True, slots=True)
class CheckedStrategy:
    """Sizes as `inner` does, or says what is wrong with its answer.

    inner: the strategy.
    origin: what named it, for the message.
    """

    inner: Strategy
    origin: str

    def __post_init__(self) -> None:
        for fault in interface_faults(self.inner):
            raise InputError(f"sizing.strategy: {self.origin}: {fault}")

    @property
    def uses_forecast(self) -> bool:
        """Whether the forecast counts for a symbol's expected return."""
        return bool(self.inner.uses_forecast)

    @property
    def uses_premium(self) -> bool:
        """Whether the premium of its class counts for a symbol's expected return."""
        return bool(self.inner.uses_premium)

    @property
    def holding(self) -> Holding | None:
        """The interval it looks at; none for the configured one."""
        return self.inner.holding

    def allocate(self, situation: Situation, limits: Limits) -> Allocation:
        """The inner strategy's answer to a copy of the situation.

        Raises
        ------
        InputError
            naming the strategy and what its answer breaks.
        """
        with own_code("sizing.strategy", self.origin):
            allocation = self.inner.allocate(copy_of(situation), limits)
        for fault in allocation_faults(situation, limits, allocation):
            raise InputError(f"sizing.strategy: {self.origin}: {fault}")
        return allocation

    def phrase(self, kind: Kind, stock_ceiling: float) -> str:
        """What operators grep for."""
        with own_code("sizing.strategy", self.origin):
            return self.inner.phrase(kind, stock_ceiling)


def copy_of(situation: Situation) -> Situation:
    """The same situation in arrays of its own, so that writing into them changes nothing else."""
    arrays: dict[str, Any] = {
        field.name: value.copy()
        for field in fields(situation)
        if isinstance(value := getattr(situation, field.name), np.ndarray)
    }
    return replace(situation, **arrays)


def checked_rule(rule: Callable[[Situation], Any], origin: str) -> Callable[[Situation], Array]:
    """A rule of weights that is handed a copy and whose answer is one number a symbol."""

    def weights(situation: Situation) -> Array:
        with own_code("sizing.strategy", origin):
            answer = rule(copy_of(situation))
        symbols = len(situation.held)
        try:
            wanted = np.asarray(answer, dtype=np.float64)
        except (TypeError, ValueError):
            wanted = np.empty(0)
        if wanted.shape != (symbols,) or not np.isfinite(wanted).all():
            raise InputError(
                f"sizing.strategy: {origin} must return {symbols} finite weights, one a symbol; it"
                f" returned {answer!r}"
            )
        return wanted

    return weights


def interface_faults(strategy: Strategy) -> Iterator[str]:
    """What a strategy says wrongly of itself, a sentence each."""
    for name in ("uses_forecast", "uses_premium"):
        if not isinstance(getattr(strategy, name, None), (bool, np.bool_)):
            yield f"{name} must be True or False"
    if getattr(strategy, "holding", "") not in HOLDINGS:
        yield f"holding must be one of {', '.join(map(repr, HOLDINGS))}"
    for name in ("allocate", "phrase"):
        if not callable(getattr(strategy, name, None)):
            yield f"it has no method {name}"
            return
    for kind in Kind:
        phrase = strategy.phrase(kind, 4.0)
        if not isinstance(phrase, str) or not phrase or "\n" in phrase:
            yield "phrase must be one line of text"


def allocation_faults(situation: Situation, limits: Limits, allocation: object) -> Iterator[str]:
    """What an answer to a situation breaks, a sentence each."""
    if not isinstance(allocation, Allocation):
        yield f"allocate returns a {type(allocation).__name__} instead of an Allocation"
        return
    symbols = len(situation.held)
    for name in ("target", "unlimited"):
        shape = np.shape(getattr(allocation, name))
        if shape != (symbols,):
            yield f"{name} must have a weight for each of {symbols} symbols, its shape is {shape}"
            return
    binding = allocation.binding
    if len(binding) != symbols or not all(isinstance(bound, Mapping) for bound in binding):
        yield f"binding must be a mapping for each of {symbols} symbols"
        return
    target = np.asarray(allocation.target)
    if not np.isfinite(target).all():
        yield "a target is not finite"
        return
    moved = np.abs(target - situation.held) > TOLERANCE
    if (moved & ~situation.deciding).any():
        yield "a symbol that does not decide is moved"
        return
    yield from _broken_limits(situation, limits, target)


def _broken_limits(situation: Situation, limits: Limits, target: Array) -> Iterator[str]:
    """A limit that is over already must not be left further behind."""
    lower, upper = limits.bounds(
        long_only=situation.long_only,
        deciding=situation.deciding,
        held=situation.held,
        equity=situation.equity,
    )
    lower = np.minimum(lower, situation.held)
    upper = np.maximum(upper, situation.held)
    if ((target < lower - TOLERANCE) | (target > upper + TOLERANCE)).any():
        yield "a target lies beyond its symbol's bounds"
    for ceiling in limits.ceilings(
        crypto=situation.crypto,
        held=situation.held,
        stock_ceiling=situation.stock_ceiling,
        unborrowed=situation.unborrowed,
    ):
        load = float(ceiling.coefficients @ np.abs(target))
        held = float(ceiling.coefficients @ np.abs(situation.held))
        if load > max(ceiling.limit, held) + TOLERANCE:
            yield f"targets lie {load - ceiling.limit:.4f} above the ceiling {ceiling.name}"
