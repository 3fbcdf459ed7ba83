"""Growth-optimal weights under correlation, bounds, ceilings and trading costs.

    maximise  mu'w - w'Σw / (2·fraction) - cost'|w - held|
    subject to  lower ≤ w ≤ upper  and  Σ cᵢ·|wᵢ| ≤ ceiling for every group

The objective is the second-order expansion of expected log growth (Kelly 1956; Thorp 2006);
`fraction` 0.5 is `Kelly_50pct`. Clipping the unconstrained optimum does not give the constrained
one, so one quadratic program includes all limits (`solver`).

The solver validates nothing: a NaN would spread to every weight, and an indefinite covariance would
make the program unbounded. So this module validates the numbers of a problem once, by a compiled
loop and a Cholesky factorisation. Only an invalid problem is examined further, to name the fault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from numbers import Real

import numpy as np
import numpy.typing as npt

from foundation.arrays import Array
from foundation.compiled import compiled
from foundation.formatting import format_count
from foundation.threads import single_threaded_blas
from sizing.solver.active_set import INFEASIBLE, SOLVED
from sizing.solver.cholesky import solve_by_cholesky
from sizing.solver.multi_period import SizingProblem as SizingProblem
from sizing.solver.multi_period import optimal_weights

GroupCeiling = tuple[npt.ArrayLike, npt.ArrayLike]

EIGENVALUE_TOL = 1e-9  # negative eigenvalue, relative to the largest variance, that is rounding
SYMMETRY_TOL = 1e-8  # relative difference between Σᵢⱼ and Σⱼᵢ that is rounding
MIN_BLAS_THREADED_SIZE = 64  # size of mu from which BLAS may split a product among threads


class SolverFailed(RuntimeError):
    """Raised when a sizing problem has no solution, or the solver does not converge.

    message: reason of the failure.
    problem: problem that failed.
    """

    def __init__(self, message: str, problem: SizingProblem) -> None:
        super().__init__(message)
        self.problem = problem

    def __reduce__(self) -> tuple[type[SolverFailed], tuple[str, SizingProblem]]:
        """Return the arguments that rebuild the error in another process."""
        return type(self), (str(self), self.problem)


@dataclass(frozen=True, eq=False, slots=True)
class Covariance:
    """A validated covariance matrix of the simple returns of S symbols.

    Validation is slower than a solve; a `Covariance` that several solves share is validated once.

    matrix: [S, S] covariance, symmetric and positive semi-definite.
    """

    matrix: Array

    def __post_init__(self) -> None:
        matrix = as_float_array("covariance", self.matrix).copy()
        if matrix.shape != (len(matrix),) * 2:
            raise ValueError(f"covariance must have shape [S, S], got {matrix.shape}")
        check_covariance(matrix)
        object.__setattr__(self, "matrix", matrix)


def unconstrained_kelly(mu: Array, covariance: Array, fraction: float = 0.5) -> Array:
    """Return fractional Kelly weights without limits or costs: fraction · Σ⁺ mu, [S], signed.

    A singular Σ, for example of two identical symbols, has many optimal books. The book of minimum
    norm is returned, which splits a weight evenly between identical symbols.
    """
    weights = np.asarray(mu, dtype=np.float64) * fraction
    if solve_by_cholesky(np.array(covariance, dtype=np.float64), weights):
        return weights
    return np.asarray(fraction * np.linalg.lstsq(covariance, mu, rcond=None)[0])


def binary_kelly(probability: npt.ArrayLike, price: npt.ArrayLike, fraction: float = 0.5) -> Array:
    """Return the Kelly share of wealth for contracts that settle at $1 or $0, fraction · f*, [N].

        f* = max((p - c) / (1 - c), 0)

    f* maximises expected log growth, p·log(1 - f + f/c) + (1 - p)·log(1 - f) (Kelly 1956; Thorp
    2006, The Kelly criterion in blackjack, sports betting and the stock market). At p = 0.6 and c =
    0.5 it is 0.2. For contracts on NO, pass 1 - p and the price of NO.

    Parameters
    ----------
    probability : [N] or scalar
        probability p that the contract settles at $1, 0 … 1.
    price : [N] or scalar
        price c in USD per contract including trading costs, above 0 and below 1.
    fraction
        fraction of full Kelly, above 0.

    Raises
    ------
    ValueError
        if an argument is out of range; the message names the argument.
    """
    chance = np.asarray(probability, dtype=np.float64)
    cost = np.asarray(price, dtype=np.float64)
    if not np.all((chance >= 0) & (chance <= 1)):
        raise ValueError(f"probability must be from 0 to 1, got {chance}")
    if not np.all((cost > 0) & (cost < 1)):
        raise ValueError(f"price must be above 0 and below 1, got {cost}")
    if not 0 < fraction < np.inf:
        raise ValueError(f"fraction must be above 0, got {fraction}")
    return np.asarray(fraction * np.maximum((chance - cost) / (1.0 - cost), 0.0))


def kelly_weights(
    mu: npt.ArrayLike,
    covariance: npt.ArrayLike | Covariance,
    *,
    fraction: float = 0.5,
    lower: npt.ArrayLike,
    upper: npt.ArrayLike,
    groups: Sequence[GroupCeiling] = (),
    held: npt.ArrayLike | None = None,
    cost: npt.ArrayLike | None = None,
) -> Array:
    """Return the weights [S] that maximise fractional-Kelly growth net of trading costs.

    Parameters
    ----------
    mu : [S]
        expected simple return over the holding interval.
    covariance : [S, S]
        covariance of returns over the same interval; symmetric, positive semi-definite. Pass a
        `Covariance` to validate a matrix once for many calls.
    fraction
        fraction of full Kelly, above 0.
    lower, upper : [S]
        bounds of the weights; equal for a symbol whose weight is fixed.
    groups
        pairs (coefficients [S] ≥ 0, ceiling): Σ cᵢ·|wᵢ| ≤ ceiling; a boolean mask counts as 0 and
        1. A ceiling below its use by fixed weights is raised to that use.
    held, cost : [S]
        current weights, and trading cost per unit of weight; without cost, `held` changes the
        result by rounding only.

    Raises
    ------
    ValueError
        if an argument is invalid; the message names the argument.
    SolverFailed
        if no weights within the bounds satisfy the ceilings, or the solver does not converge.
    """
    expected = as_float_array("mu", mu)
    if not (isinstance(fraction, Real) and 0 < fraction < np.inf):
        raise ValueError(f"fraction must be a number above 0, got {fraction!r}")
    # Threads that share a product wait actively for each other. On busy cores two threads take four
    # times as long as one for 500 symbols.
    with single_threaded_blas() if expected.size >= MIN_BLAS_THREADED_SIZE else nullcontext():
        return _solve_instant(
            expected, covariance, float(fraction), lower, upper, groups, held, cost
        )


def format_solver_failure(status: int, symbols: int) -> str:
    """Return the error message for a solver status other than SOLVED."""
    problem = f"the sizing problem of {format_count(symbols, 'symbol')}"
    if status == INFEASIBLE:
        return f"{problem} has no solution: the lower bounds of weights exceed a limit; lower them"
    return f"{problem} did not converge within the solver's maximum number of steps"


def _solve_instant(
    mu: Array,
    covariance: npt.ArrayLike | Covariance,
    fraction: float,
    lower: npt.ArrayLike,
    upper: npt.ArrayLike,
    groups: Sequence[GroupCeiling],
    held: npt.ArrayLike | None,
    cost: npt.ArrayLike | None,
) -> Array:
    """Validate a problem; return its weights [S]. The arguments are those of `kelly_weights`."""
    if mu.ndim != 1:
        raise ValueError(f"mu must have shape [S], got {mu.shape}")
    n = len(mu)
    low = as_float_array("lower", lower)
    high = as_float_array("upper", upper)
    start = np.zeros(n) if held is None else as_float_array("held", held)
    price = np.zeros(n) if cost is None else as_float_array("cost", cost)
    if not isinstance(covariance, Covariance):
        covariance = Covariance(as_float_array("covariance", covariance))
    matrix = covariance.matrix
    check_shapes({"mu": mu, "lower": low, "upper": high, "held": start, "cost": price}, n)
    if matrix.shape != (n, n):
        raise ValueError(f"covariance must have shape [S, S] = ({n}, {n}), got {matrix.shape}")
    rows, limits = stack_group_ceilings(groups, n)
    check_problem_vectors(mu, low, high, start, price)
    first = mu[None], matrix[None], price[None], np.zeros(1)
    problem = SizingProblem(*first, start, low, high, rows, limits, fraction)
    status, weights, _ = optimal_weights(problem)
    if status != SOLVED:
        raise SolverFailed(format_solver_failure(status, n), problem)
    return np.asarray(weights[0])


def as_float_array(name: str, value: npt.ArrayLike) -> Array:
    """Return a value as a C-contiguous, writeable float64 array.

    numba compiles a separate version of each function for other layouts and for read-only arrays.

    name: name of the argument, for messages.

    Raises
    ------
    ValueError
        if the values are complex, not numeric, or in rows of unequal length.
    """
    try:
        if np.iscomplexobj(value):
            raise TypeError("complex numbers are not supported")
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers in rows of equal length: {error}") from None
    return array if array.flags.c_contiguous and array.flags.writeable else array.copy()


def check_shapes(vectors: Mapping[str, Array], symbols: int) -> None:
    """Raise `ValueError` unless every array has shape [S].

    vectors: arrays by name.
    symbols: number of symbols, S.
    """
    shape = (symbols,)
    for name, array in vectors.items():
        if array.shape != shape:
            raise ValueError(f"{name} must have shape [S] = {shape}, got {array.shape}")


def check_problem_vectors(mu: Array, lower: Array, upper: Array, held: Array, cost: Array) -> None:
    """Raise `ValueError` unless the vectors [S] are finite, lower ≤ upper, and cost ≥ 0."""
    if _are_valid_vectors(mu, lower, upper, held, cost):
        return
    vectors = {"mu": mu, "lower": lower, "upper": upper, "held": held, "cost": cost}
    for name, array in vectors.items():
        if not np.isfinite(array).all():
            k = int(np.argmin(np.isfinite(array)))
            raise ValueError(f"{name} must be finite, got {array[k]} at {k}")
    if (lower > upper).any():
        k = int(np.argmax(lower > upper))
        raise ValueError(f"lower {lower[k]:g} exceeds upper {upper[k]:g} at {k}")
    raise ValueError(f"cost must not be negative, got {cost.min():g}")


def check_covariance(covariance: Array) -> None:
    """Raise `ValueError` unless a matrix [S, S] is finite, symmetric and positive semi-definite.

    Asymmetry up to SYMMETRY_TOL and negative eigenvalues up to EIGENVALUE_TOL count as rounding.
    """
    if not _is_covariance(covariance):
        raise ValueError("covariance must be finite, symmetric and positive semi-definite")


def stack_group_ceilings(groups: Sequence[GroupCeiling], symbols: int) -> tuple[Array, Array]:
    """Convert group ceilings to arrays: coefficients [G, S] and limits [G].

    Raises
    ------
    ValueError
        if a shape does not fit, a coefficient is negative or not finite, or a limit is NaN.
    """
    coefficients = np.zeros((len(groups), symbols))
    limits = np.zeros(len(groups))
    for k, group in enumerate(groups):
        parts = [as_float_array("groups", each) for each in group]
        if [part.shape for part in parts] != [(symbols,), ()]:
            raise ValueError(
                f"groups: each must be a pair of coefficients with shape [S] = ({symbols},) and a"
                f" limit, got shapes {[part.shape for part in parts]}"
            )
        coefficients[k], limits[k] = parts
    if not (np.isfinite(coefficients).all() and (coefficients >= 0).all()):
        raise ValueError("groups: coefficients must be finite and not negative")
    if np.isnan(limits).any():
        raise ValueError("groups: every limit must be a number")
    return coefficients, limits


@compiled
def _are_valid_vectors(mu: Array, lower: Array, upper: Array, held: Array, cost: Array) -> bool:
    """Return whether a problem's vectors [S] are valid, as `check_problem_vectors` requires."""
    for i in range(len(mu)):
        if not (np.isfinite(mu[i]) and np.isfinite(held[i]) and 0.0 <= cost[i] < np.inf):
            return False
        if not -np.inf < lower[i] <= upper[i] < np.inf:
            return False
    return True


def _is_covariance(matrix: Array) -> bool:
    """Return whether a matrix [S, S] is a covariance up to rounding.

    It must be finite, symmetric and positive semi-definite.
    """
    from scipy.linalg.lapack import dpotrf  # its import takes a tenth of a second

    n = len(matrix)
    variances = matrix.diagonal()
    largest = variances.max(initial=0.0)
    if not (largest < np.inf and variances.min(initial=0.0) == 0.0 and _is_symmetric(matrix)):
        return False
    # Without any variance there is nothing to factor, and covariances have to be zero as well.
    if largest == 0.0:
        return not matrix.any()
    # With EIGENVALUE_TOL of the largest variance added to its diagonal, a matrix has a Cholesky
    # factor exactly where no eigenvalue lies further below zero than that. An eigenvalue would cost
    # many times as much. A NaN propagates to the last element of the factor.
    raised = matrix.copy()
    raised.reshape(-1)[:: n + 1] += EIGENVALUE_TOL * largest
    factor, fault = dpotrf(raised.T, overwrite_a=True, clean=False)
    return fault == 0 and bool(factor[-1, -1] > 0.0)


def _is_symmetric(matrix: Array) -> bool:
    """Return whether a matrix equals its transpose up to rounding."""
    if np.array_equal(matrix, matrix.T):
        return True
    if not np.isfinite(matrix).all():
        return False
    allowed = SYMMETRY_TOL * (np.abs(matrix) + np.abs(matrix.T)) + 1e-14
    return bool((np.abs(matrix - matrix.T) <= allowed).all())
