"""Whether a strategy keeps what the system relies on: for one of a user's own, before money."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import numpy as np

from foundation.arrays import Array
from sizing.allocation import Allocation, Situation
from sizing.limits import Limits
from sizing.strategies import Strategy
from trainingdata.instruments import Kind

TOLERANCE = 1e-6  # in weight
HOLDINGS = (None, "plan", "next", "session")


def check_strategy(strategy: Strategy, *, tries: int = 100, seed: int = 0) -> tuple[str, ...]:
    """What a strategy does that the system does not expect, a sentence each; none if it conforms.

    It sizes books of one to eight stocks and coins, some over their limits, drawn at random.

    Raises
    ------
    whatever the strategy raises.
    """
    faults = list(_faults_of_what_it_says(strategy))
    rng = np.random.default_rng(seed)
    limits = Limits()
    for attempt in range(tries):
        situation = random_situation(rng)
        found = list(_faults(strategy, situation, limits))
        if found:
            return (*faults, *(f"{fault} (book {attempt} of seed {seed})" for fault in found))
    return tuple(faults)


def random_situation(rng: np.random.Generator) -> Situation:
    """A book of one to eight symbols in which anything may be held, of hourly moments."""
    symbols = int(rng.integers(1, 9))
    crypto = rng.random(symbols) < 0.3
    deviation = rng.uniform(0.002, 0.02, symbols)
    factors = rng.normal(size=(symbols, 2))
    covariance = np.outer(deviation, deviation) * (
        0.5 * np.eye(symbols) + 0.2 * factors @ factors.T
    )
    held = np.where(rng.random(symbols) < 0.5, rng.uniform(-0.8, 0.8, symbols), 0.0)
    return Situation(
        mu=rng.normal(0.0, 0.3, symbols) * deviation,
        covariance=covariance,
        held=np.where(crypto, np.abs(held) / max(int(crypto.sum()), 1), held),
        cost=rng.uniform(1e-4, 3e-3, symbols),
        crypto=crypto,
        long_only=crypto | (rng.random(symbols) < 0.2),
        deciding=rng.random(symbols) < 0.8,
        universe=rng.random(symbols) < 0.9,
        years=np.full(symbols, 1 / 1764),
        equity=float(rng.choice([1_000.0, 50_000.0])),
        stock_ceiling=float(rng.choice([1.0, 1.96, 4.0])),
        unborrowed=float(rng.uniform(0.0, 1.0)),
    )


def _faults_of_what_it_says(strategy: Strategy) -> Iterator[str]:
    for name in ("uses_forecast", "uses_premium"):
        if not isinstance(getattr(strategy, name, None), bool):
            yield f"{name} must be True or False"
    if getattr(strategy, "holding", "") not in HOLDINGS:
        yield f"holding must be one of {', '.join(map(repr, HOLDINGS))}"
    for kind in Kind:
        phrase = strategy.phrase(kind, 4.0)
        if not isinstance(phrase, str) or not phrase or "\n" in phrase:
            yield "phrase must be one line of text"


def _faults(strategy: Strategy, situation: Situation, limits: Limits) -> Iterator[str]:
    before = _arrays(situation)
    allocation = strategy.allocate(situation, limits)
    if not isinstance(allocation, Allocation):
        yield f"allocate returns a {type(allocation).__name__} instead of an Allocation"
        return
    if any(not np.array_equal(a, b) for a, b in zip(before, _arrays(situation), strict=True)):
        yield "allocate changes the situation it is given"
        return
    target = allocation.target
    shape = situation.held.shape
    if target.shape != shape or len(allocation.binding) != shape[0]:
        yield f"allocate must name a target and a binding for each of {shape[0]} symbols"
        return
    if not np.isfinite(target).all():
        yield "a target is not finite"
        return
    if not np.array_equal(strategy.allocate(situation, limits).target, target):
        yield "the same situation has two answers: whatever is drawn at random needs a seed"
    moved = np.abs(target - situation.held) > TOLERANCE
    if (moved & ~situation.deciding).any():
        yield "a symbol that does not decide is moved"
    yield from _broken_limits(situation, limits, target)


def _broken_limits(situation: Situation, limits: Limits, target: Array) -> Iterator[str]:
    """A limit that is over already must not be left further behind."""
    lower, upper = limits.bounds(
        long_only=situation.long_only,
        deciding=situation.deciding,
        held=situation.held,
        equity=situation.equity,
    )
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


def _arrays(situation: Situation) -> list[Array]:
    values = (getattr(situation, field.name) for field in fields(situation))
    return [value.copy() for value in values if isinstance(value, np.ndarray)]
