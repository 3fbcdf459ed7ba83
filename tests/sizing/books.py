"""Books drawn at random, and the limits that weights of them break."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from foundation.arrays import Array, Mask
from sizing.inputs import SizingInputs
from sizing.limits import CEILINGS, Limits, bounds_of, ceilings_of
from sizing.problem import BookLimits, Costs, Holdings, Problem, Returns
from sizing.solver.multi_period import SizingProblem

TOLERANCE = 1e-8  # in weight


def plan_for(mu: Array, covariance: Array, **more: Any) -> SizingProblem:
    """Half-Kelly over periods, mu [K, S] and covariance [K, S, S], of bounds of ±5.

    Nothing is held, moving and borrowing are free, and nothing else is limited, but for what is
    said; one number stands for all.
    """
    periods, n = mu.shape
    shapes = {"cost": (periods, n), "financing": (periods,), "held": (n,)}
    usual = {"cost": 0.0, "financing": 0.0, "held": 0.0, "lower": -5.0, "upper": 5.0}
    given = {**usual, "coefficients": np.zeros((0, n)), "limits": (), "fraction": 0.5, **more}
    arrays = {
        name: np.broadcast_to(value, shapes.get(name, (n,) if name in usual else np.shape(value)))
        for name, value in given.items()
        if name != "fraction"
    }
    copied = {name: np.array(array, dtype=np.float64) for name, array in arrays.items()}
    return SizingProblem(mu.copy(), covariance.copy(), fraction=given["fraction"], **copied)


class LaterBlocks(NamedTuple):
    """What is expected in the L periods after the first: [L, S], [L, S, S], [L], [L, S]."""

    mu: Array
    covariance: Array
    financing: Array
    cost: Array


def random_inputs(rng: np.random.Generator) -> SizingInputs:
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
    return book_of(
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
        financing=float(rng.choice([0.0, 2e-4])),
        later=later,
        symbols=tuple(f"SY{chr(65 + k)}" for k in range(symbols)),
        earned=np.outer([1.0] if later is None else [1.0, 3.0, 40.0], 0.02 * deviation),
    )


def random_book(seed: int, n: int = 5, **fields: Any) -> SizingInputs:
    """A random book of stocks and coins; coins are held long."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(0, 0.01, (n, n + 2))
    crypto = rng.random(n) < 0.4
    held = np.where(rng.random(n) < 0.3, 0.0, rng.uniform(-0.6, 0.6, n))
    values: dict[str, Any] = {
        "mu": rng.normal(0, 10.0 ** rng.uniform(-5, -2), n),
        "covariance": factors @ factors.T / n,
        "held": np.where(crypto, np.abs(held) / 2, held),
        "cost": np.where(crypto, 28e-4, 2e-4) * (rng.random() < 0.8),
        "crypto": crypto,
        "long_only": crypto | (rng.random(n) < 0.2),
        "deciding": rng.random(n) < 0.7,
        "universe": np.ones(n, dtype=bool),
        "years": np.where(crypto, 24 / 8766, 1 / 252),
        "equity": float(rng.choice([1_500.0, 1e5])),
        "stock_ceiling": float(rng.choice([1.0, 1.96, 4.0])),
        "unborrowed": float(rng.uniform(-0.2, 1)),
    }
    return book_of(**{**values, **fields})


def random_limits(rng: np.random.Generator) -> Limits:
    """Limits of which some are tight."""
    return Limits(
        symbol_cap=float(rng.choice([0.05, 0.3, 0.6])),
        crypto_leverage=float(rng.choice([0.2, 1.0])),
    )


def book_of(
    *,
    mu: Array,
    covariance: Array,
    held: Array,
    cost: Array,
    crypto: Mask,
    long_only: Mask,
    deciding: Mask,
    universe: Mask,
    years: Array,
    equity: float,
    stock_ceiling: float,
    unborrowed: float,
    financing: float = 0.0,
    later: LaterBlocks | None = None,
    granted: float | None = None,
    symbols: tuple[str, ...] = (),
    at: np.datetime64 | None = None,
    order_margin: float = 1.0,
    increment: Array | None = None,
    earned: Array | None = None,
    limits: Limits | None = None,
    leaving: Mask | None = None,
) -> SizingInputs:
    """A situation by what it says of the first period, and the periods after it."""
    n = len(mu)
    periods = [LaterBlocks(mu[None], covariance[None], np.array([financing]), cost[None])]
    if later is not None:
        periods.append(later)
    expected, risks, financings, costs = (
        np.concatenate(each) for each in zip(*periods, strict=True)
    )
    return SizingInputs(
        Problem(
            Returns(
                expected,
                np.full(expected.shape, np.nan) if earned is None else earned,
                risks,
                universe,
                years,
            ),
            Costs(costs, financings),
            BookLimits(
                *(limits or Limits()).caps,
                stock_ceiling,
                stock_ceiling if granted is None else granted,
                crypto,
                long_only,
            ),
            Holdings(
                held,
                deciding,
                np.zeros(n, dtype=bool) if leaving is None else leaving,
                np.zeros(n) if increment is None else increment,
                equity,
                unborrowed,
                order_margin,
            ),
        ),
        symbols,
        at,
    )


def rich_book(n: int, **fields: Any) -> SizingInputs:
    """A rich account that holds nothing and decides on everything: stocks of σ 1 % a day, 2 basis
    points to trade; coins where `crypto` says so.
    """
    crypto = np.asarray(fields.get("crypto", np.zeros(n, dtype=bool)))
    values: dict[str, Any] = {
        "mu": np.zeros(n),
        "covariance": np.eye(n) * 1e-4,
        "held": np.zeros(n),
        "cost": np.full(n, 2e-4),
        "crypto": crypto,
        "long_only": crypto,
        "deciding": np.ones(n, dtype=bool),
        "universe": np.ones(n, dtype=bool),
        "years": np.where(crypto, 24 / 8766, 1 / 252),  # a day of each one's own
        "equity": 1e5,
        "stock_ceiling": 4.0,
        "unborrowed": 1.0,
    }
    return book_of(**{**values, **fields})


def changed(s: SizingInputs, **fields: Any) -> SizingInputs:
    """The same where these arguments of `book_of` are others."""
    returns, costs, limits, account = s.problem
    before = {
        **returns._asdict(),
        **limits._asdict(),
        **account._asdict(),
        "mu": s.mu,
        "covariance": s.covariance,
        "cost": s.cost,
        "financing": s.financing,
        "later": LaterBlocks(
            returns.mu[1:], returns.covariance[1:], costs.financing[1:], costs.change[1:]
        ),
        "earned": returns.premium,
        "symbols": s.symbols,
        "at": s.at,
    }
    for name in ("premium", "symbol_cap", "crypto_cap", "margin_equity", "most_positions", "rows"):
        del before[name]
    if len(fields.get("mu", s.mu)) != len(s.mu):
        for name in ("later", "increment", "earned"):
            del before[name]
    # What is stated of some periods says nothing of others.
    if "later" in fields and "earned" not in fields:
        before.pop("earned", None)
    if "stock_ceiling" in fields:
        before["granted"] = fields["stock_ceiling"]
    after = book_of(**{**before, **fields})
    return after if "limits" in fields else under(after, limits)


def under(s: SizingInputs, limits: Limits | BookLimits) -> SizingInputs:
    """The same under the caps of other limits."""
    caps = limits.caps if isinstance(limits, Limits) else limits[:4]
    own = BookLimits(*caps, *s.problem.limits[4:])
    return replace(s, problem=s.problem._replace(limits=own))


def broken_limits(inputs: SizingInputs, target: Array) -> list[str]:
    """What weights [S] break, by name: only what does not decide may stay beyond a limit."""
    s = inputs
    lower, upper = bounds_of(s.problem.limits, s.problem.account)
    broken = [] if np.isfinite(target).all() else ["finite"]
    if ((target < lower - TOLERANCE) | (target > upper + TOLERANCE)).any():
        broken.append("bounds")
    if (target != s.held)[~s.deciding].any():
        broken.append("deciding")
    costless = s.problem.costs._replace(change=np.zeros((1, len(target))))
    ceilings = ceilings_of(s.problem._replace(costs=costless))
    for name, coefficients, limit in zip(CEILINGS, *ceilings, strict=True):
        load = coefficients * np.abs(target)
        if load.sum() > max(limit, load[~s.deciding].sum()) + TOLERANCE:
            broken.append(name)
    return broken
