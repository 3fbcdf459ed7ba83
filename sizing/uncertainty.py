"""How much of Kelly is left where the expected return is an estimate with an error.

Growth bends downwards in the size of a bet: one that is too large by an error loses more than one
that is too small by as much. So the best size for an estimate is smaller than the estimate says
(Baker and McHale 2013, Optimal betting under parameter uncertainty: improving the Kelly criterion,
Decision Analysis 10(3)). And a bound on drawdowns that is met for the estimate is missed in about
half of all markets, as their means are worse than estimated; it needs a mean that is not in doubt.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from foundation.arrays import Array
from sizing.kelly import binary_kelly, unconstrained_kelly
from sizing.optimum import DrawdownBound
from sizing.solver.validation import check_problem, float_array


def shrinkage(mu: npt.ArrayLike, error: npt.ArrayLike, covariance: npt.ArrayLike) -> float:
    """Factor of Kelly that grows fastest in the mean over the errors of an estimate, 0 … 1.

        k = mu'Σ⁻¹mu / (mu'Σ⁻¹mu + tr(Σ⁻¹E));   one bet:  k = mu² / (mu² + s²)

    The bet is k·Σ⁻¹m with an unbiased estimate m of mu, whose error has covariance E. Its growth to
    second order, mu'w - w'Σw/2, has the mean k·mu'Σ⁻¹mu - k²·(mu'Σ⁻¹mu + tr(Σ⁻¹E))/2, which is
    largest there: Baker and McHale's approximation, (stake)² / (stake² + variance of the stake),
    for any number of bets. With the estimate in the place of mu, as in the paper, it shrinks too
    little: m'Σ⁻¹m is too large by tr(Σ⁻¹E) on average.

    Parameters
    ----------
    mu : [S]
        expected simple return.
    error : [S, S]
        E, covariance of the error of an estimate of mu.
    covariance : [S, S]
        Σ, of simple returns over the same time.

    Raises
    ------
    ValueError
        naming the argument that cannot be.
    """
    edge = _edge(mu, error, covariance)
    return edge.size / (edge.size + edge.excess) if edge.size > 0 else 0.0


def proven_share(
    mu: npt.ArrayLike, error: npt.ArrayLike, covariance: npt.ArrayLike, errors: float = 1.645
) -> float:
    """Share of an estimated mean that the bet on it keeps beyond doubt, 0 … 1.

        c = max(1 - (tr(Σ⁻¹E) + errors·√(w'Ew + tr(Σ⁻¹EΣ⁻¹E))) / (m'Σ⁻¹m), 0),   w = Σ⁻¹m

    The bet w earns mu'w, which the estimate states as m'w = m'Σ⁻¹m. The difference has the mean
    tr(Σ⁻¹E), as w leans to where m is too large, and the variance w'Ew + tr(Σ⁻¹EΣ⁻¹E) as far as one
    can say without mu. So the number within max( , 0) is below mu'w / m'w with the probability that
    a normal variable is below `errors`: 95 % with 1.645.

    Where c > 0 it is that number, so that mu'w < c·m'w with c > 0, the bet on a mean of c·m that
    is worse than promised, happens in 5 % of all estimates at most. Where c = 0 nothing is promised
    of w: mu'w may well be below 0, and no bet keeps the promise, which is the bet on a mean of 0.
    Of the estimates with c > 0 alone more than 5 % may be worse, the more so the fewer they are.
    One bet of mean m with error s: c = 1 - 1/t² - errors·√(1 + 1/t²)/t at t = m/s, nothing below
    t = 2.25.

    Parameters
    ----------
    mu : [S]
        m, the estimate of the expected simple return.
    error : [S, S]
        E, covariance of its error.
    covariance : [S, S]
        Σ, of simple returns over the same time.
    errors
        how many standard errors count as doubt, not negative.

    Raises
    ------
    ValueError
        naming the argument that cannot be.
    """
    if not 0 <= errors < np.inf:
        raise ValueError(f"errors must be finite and not negative, got {errors}")
    edge = _edge(mu, error, covariance)
    if edge.size <= 0:
        return 0.0
    doubt = edge.excess + errors * float(np.sqrt(edge.variance))
    return max(1.0 - doubt / edge.size, 0.0)


def binary_shrinkage(
    probability: npt.ArrayLike, price: npt.ArrayLike, error: npt.ArrayLike
) -> Array:
    """Baker and McHale's factor of Kelly for contracts that pay $1 or nothing, [N], 0 … 1.

        k = f² / (f² + (s / (1 - c))²),   f = (p - c) / (1 - c)

    With odds of b to one for a price c = 1 / (b + 1), 1 / (1 - c) is their (b + 1) / b.

    Parameters
    ----------
    probability : [N] or one
        p, the estimated chance that the contract pays, 0 … 1.
    price : [N] or one
        c, USD of a contract with the costs of the trade, above 0 and below 1.
    error : [N] or one
        s, standard error of the probability, not negative.

    Raises
    ------
    ValueError
        naming the argument that cannot be.
    """
    deviation = np.asarray(error, dtype=np.float64)
    if not np.all((deviation >= 0) & (deviation < np.inf)):
        raise ValueError(f"error must be finite and not negative, got {deviation}")
    stake = binary_kelly(probability, price, 1.0)
    variance = (deviation / (1.0 - np.asarray(price, dtype=np.float64))) ** 2
    total = stake**2 + variance
    return np.asarray(np.divide(stake**2, total, out=np.zeros(total.shape), where=stake > 0))


def drawdown_fraction(bound: DrawdownBound) -> float:
    """Fraction of Kelly that keeps a drawdown bound where returns are small and their law is known.

        2 / (1 + λ),   λ = log beta / log alpha

    The bound E[(1 + r'w)^-λ] ≤ 1 to second order; and the chance of a Brownian motion with drift to
    fall so far, alpha^(2/fraction - 1), solved for the fraction. alpha 0.7 with beta 0.1 is 0.27 of
    Kelly; half-Kelly falls to alpha with probability alpha³.
    """
    return 2.0 / (1.0 + bound.aversion)


class _Edge(NamedTuple):
    """What an estimated mean m comes to beside its error.

    size: m'Σ⁻¹m.
    excess: tr(Σ⁻¹E), by which that is too large on average.
    variance: w'Ew + tr(Σ⁻¹EΣ⁻¹E), of the difference.
    """

    size: float
    excess: float
    variance: float


def _edge(mu: npt.ArrayLike, error: npt.ArrayLike, covariance: npt.ArrayLike) -> _Edge:
    """The edge of checked arguments."""
    mean = float_array("mu", mu)
    if mean.ndim != 1:
        raise ValueError(f"mu must have shape [S], got {mean.shape}")
    n = len(mean)
    matrices = {"error": float_array("error", error)}
    matrices["covariance"] = float_array("covariance", covariance)
    zeros = np.zeros(n)
    for name, matrix in matrices.items():
        if matrix.shape != (n, n):
            raise ValueError(f"{name} must have shape [S, S] = ({n}, {n}), got {matrix.shape}")
        try:
            check_problem(mean, zeros, zeros, zeros, zeros, matrix)
        except ValueError as fault:
            raise ValueError(str(fault).replace("covariance", name, 1)) from None
    weights = unconstrained_kelly(mean, matrices["covariance"], 1.0)
    relative = np.linalg.lstsq(matrices["covariance"], matrices["error"], rcond=None)[0]
    variance = weights @ matrices["error"] @ weights + np.trace(relative @ relative)
    return _Edge(float(mean @ weights), float(np.trace(relative)), float(variance))
