"""Whether a strategy keeps what the system relies on: for one of a user's own, before money."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from foundation.arrays import Array
from foundation.plugin import name_of, own_code
from sizing.allocation import Allocation, Strategy
from sizing.checked import (
    KEY,
    ChangesSituation,
    allocation_faults,
    interface_faults,
    own_answer,
)
from sizing.kelly import SolverFailed
from sizing.limits import Limits
from sizing.situation import Situation
from sizing.solver.multi_period import LaterBlocks

UNANSWERED = 0.05  # of the books: those that a strategy may give no answer to


def check_strategy(strategy: Strategy, *, tries: int = 100, seed: int = 0) -> tuple[str, ...]:
    """What a strategy does that the system does not expect, a sentence each; none if it conforms.

    It sizes books of one to eight stocks and coins under limits, with and without later blocks of a
    plan, some of them over their limits, drawn at random; then some of them again, in another
    order. It may leave a twentieth of them without an answer (`SolverFailed`).

    tries: books.
    seed: of what is drawn.

    Raises
    ------
    InputError
        for a strategy that fails, with the file and the line.
    """
    with own_code(KEY, name_of(strategy)):
        faults = list(interface_faults(strategy))
    if faults:
        return tuple(faults)
    rng = np.random.default_rng(seed)
    books = [(random_situation(rng), _random_limits(rng)) for _ in range(tries)]
    targets = []
    failures = []
    for attempt, (situation, limits) in enumerate(books):
        try:
            found = list(_faults(strategy, situation, limits))
        except SolverFailed as error:
            found = []
            failures.append(f"{error} (book {attempt} of seed {seed})")
        if found:
            return tuple(f"{fault} (book {attempt} of seed {seed})" for fault in found)
        targets.append(_target(strategy, situation, limits))
    for (situation, limits), target in reversed(list(zip(books, targets, strict=True))):
        if not np.array_equal(_target(strategy, situation, limits), target, equal_nan=True):
            return ("a situation is sized by what was sized before it",)
    if len(failures) > UNANSWERED * tries:
        first = " ".join(failures[0].split())
        return (
            f"{len(failures)} of {tries} books have no answer, and at most {UNANSWERED:.0%} may"
            f" have none; SolverFailed: {first}",
        )
    return ()


def random_situation(rng: np.random.Generator) -> Situation:
    """A book of one to eight symbols in which anything may be held, of hourly moments."""
    symbols = int(rng.integers(1, 9))
    crypto = rng.random(symbols) < 0.3
    deviation = rng.uniform(0.002, 0.02, symbols)
    factors = rng.normal(size=(symbols, 2))
    shape = 0.5 * np.eye(symbols) + 0.2 * factors @ factors.T
    covariance = np.outer(deviation, deviation) * shape
    mu = rng.normal(0.0, 0.3, symbols) * deviation
    cost = rng.uniform(1e-4, 3e-3, symbols)
    held = np.where(rng.random(symbols) < 0.5, rng.uniform(-0.8, 0.8, symbols), 0.0)
    later = None
    if rng.random() < 0.5:
        later = LaterBlocks(
            np.stack([0.5 * mu, 0.1 * mu]),
            np.stack([covariance, 20 * covariance]),
            np.array([0.0, 1e-4]),
            np.stack([cost, cost]),
        )
    return Situation(
        mu=mu,
        covariance=covariance,
        held=np.where(crypto, np.abs(held) / max(int(crypto.sum()), 1), held),
        cost=cost,
        crypto=crypto,
        long_only=crypto | (rng.random(symbols) < 0.2),
        deciding=rng.random(symbols) < 0.8,
        universe=rng.random(symbols) < 0.9,
        years=np.full(symbols, 1 / 1764),
        equity=float(rng.choice([1_000.0, 50_000.0])),
        stock_ceiling=float(rng.choice([1.0, 1.96, 4.0])),
        unborrowed=float(rng.uniform(-0.2, 1.0)),
        toll=float(rng.choice([0.0, 2e-4])),
        later=later,
        symbols=tuple(f"SY{chr(65 + k)}" for k in range(symbols)),
        earned=np.outer([1.0] if later is None else [1.0, 3.0, 40.0], 0.02 * deviation),
    )


def _random_limits(rng: np.random.Generator) -> Limits:
    return Limits(
        symbol_cap=float(rng.choice([0.05, 0.3, 0.6])),
        crypto_leverage=float(rng.choice([0.2, 1.0])),
    )


def _faults(strategy: Strategy, situation: Situation, limits: Limits) -> Iterator[str]:
    try:
        allocation = _answer(strategy, situation, limits)
    except ChangesSituation as error:
        yield str(error)
        return
    yield from allocation_faults(situation, limits, allocation)


def _target(strategy: Strategy, situation: Situation, limits: Limits) -> Array:
    try:
        return np.array(_answer(strategy, situation, limits).target)
    except SolverFailed:
        return np.full(len(situation.held), np.nan)


def _answer(strategy: Strategy, situation: Situation, limits: Limits) -> Allocation:
    return own_answer(lambda s: strategy.allocate(s, limits), situation, name_of(strategy))
