"""Books drawn at random, and the limits that weights of them break."""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array
from sizing.limits import Limits
from sizing.situation import Situation
from sizing.solver.multi_period import LaterBlocks

TOLERANCE = 1e-8  # in weight


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


def random_limits(rng: np.random.Generator) -> Limits:
    """Limits of which some are tight."""
    return Limits(
        symbol_cap=float(rng.choice([0.05, 0.3, 0.6])),
        crypto_leverage=float(rng.choice([0.2, 1.0])),
    )


def broken_limits(situation: Situation, limits: Limits, target: Array) -> list[str]:
    """What weights [S] break, by name: only what does not decide may stay beyond a limit."""
    s = situation
    lower, upper = limits.bounds(
        long_only=s.long_only, deciding=s.deciding, held=s.held, equity=s.equity
    )
    broken = [] if np.isfinite(target).all() else ["finite"]
    if ((target < lower - TOLERANCE) | (target > upper + TOLERANCE)).any():
        broken.append("bounds")
    if (target != s.held)[~s.deciding].any():
        broken.append("deciding")
    for ceiling in limits.ceilings(
        crypto=s.crypto, held=s.held, stock_ceiling=s.stock_ceiling, unborrowed=s.unborrowed
    ):
        load = ceiling.coefficients * np.abs(target)
        if load.sum() > max(ceiling.limit, load[~s.deciding].sum()) + TOLERANCE:
            broken.append(ceiling.name)
    return broken
