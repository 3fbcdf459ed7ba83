"""What a sizing problem's numbers must be, checked once before the compiled program trusts them.

The program itself checks nothing: a NaN in it would travel through every weight, and an indefinite
covariance would let it gain without end. A sound problem passes a compiled loop and a Cholesky
factorisation. Only unsound vectors are looked through again, to name what is wrong with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from foundation.arrays import Array
from foundation.compiled import compiled

Group = tuple[npt.ArrayLike, npt.ArrayLike]

DEFINITE = 1e-9  # of the largest variance: how far below zero an eigenvalue is rounding
SYMMETRY = 1e-8  # relative difference between Σᵢⱼ and Σⱼᵢ that is rounding


def float_array(name: str, value: npt.ArrayLike) -> Array:
    """A value as an array of float64, laid out as compiled functions take it.

    Another layout, or memory that may not be written, would compile all of them again.
    """
    try:
        if np.iscomplexobj(value):
            raise TypeError("they are complex")
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers in rows of equal length: {error}") from None
    return array if array.flags.c_contiguous and array.flags.writeable else array.copy()


def check_shapes(vectors: Mapping[str, Array], symbols: int) -> None:
    """Check that each of these arrays, by name, has shape [S]."""
    shape = (symbols,)
    for name, array in vectors.items():
        if array.shape != shape:
            raise ValueError(f"{name} must have shape [S] = {shape}, got {array.shape}")


def check_problem(mu: Array, lower: Array, upper: Array, held: Array, cost: Array) -> None:
    """Check the numbers [S] of one problem: all finite, lower ≤ upper, cost ≥ 0."""
    if _are_sound(mu, lower, upper, held, cost):
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
    """Check that [S, S] is finite, symmetric and positive semi-definite, but for rounding."""
    if not _is_covariance(covariance):
        raise ValueError("covariance must be finite, symmetric and positive semi-definite")


def group_arrays(groups: Sequence[Group], symbols: int) -> tuple[Array, Array]:
    """Coefficients [G, S] and limits [G] of groups."""
    coefficients = np.zeros((len(groups), symbols))
    limits = np.zeros(len(groups))
    for k, group in enumerate(groups):
        parts = [float_array("groups", each) for each in group]
        if [part.shape for part in parts] != [(symbols,), ()]:
            raise ValueError(
                f"groups: each is a pair of coefficients [S] = ({symbols},) and a ceiling, got"
                f" shapes {[part.shape for part in parts]}"
            )
        coefficients[k], limits[k] = parts
    if not (np.isfinite(coefficients).all() and (coefficients >= 0).all()):
        raise ValueError("groups: coefficients must be finite and not negative")
    if np.isnan(limits).any():
        raise ValueError("groups: a ceiling must be a number")
    return coefficients, limits


@compiled
def _are_sound(mu: Array, lower: Array, upper: Array, held: Array, cost: Array) -> bool:
    """Whether nothing is wrong with a problem's vectors [S]."""
    for i in range(len(mu)):
        if not (np.isfinite(mu[i]) and np.isfinite(held[i]) and 0.0 <= cost[i] < np.inf):
            return False
        if not -np.inf < lower[i] <= upper[i] < np.inf:
            return False
    return True


def _is_covariance(matrix: Array) -> bool:
    """Whether [S, S] is finite, symmetric and positive semi-definite, but for rounding."""
    from scipy.linalg.lapack import dpotrf  # a tenth of a second that no backtest needs

    n = len(matrix)
    variances = matrix.diagonal()
    largest = variances.max(initial=0.0)
    if not (largest < np.inf and variances.min(initial=0.0) == 0.0 and _is_symmetric(matrix)):
        return False
    # Without any variance there is nothing to factor, and covariances have to be zero as well.
    if largest == 0.0:
        return not matrix.any()
    # With DEFINITE of the largest variance added to its diagonal, a matrix has a Cholesky factor
    # exactly where no eigenvalue lies further below zero than that. An eigenvalue would cost many
    # times as much. What is not a number goes on to the last element.
    raised = matrix.copy()
    raised.reshape(-1)[:: n + 1] += DEFINITE * largest
    factor, fault = dpotrf(raised.T, overwrite_a=True, clean=False)
    return fault == 0 and bool(factor[-1, -1] > 0.0)


def _is_symmetric(matrix: Array) -> bool:
    """Whether Σᵢⱼ and Σⱼᵢ differ by rounding at most."""
    if np.array_equal(matrix, matrix.T):
        return True
    if not np.isfinite(matrix).all():
        return False
    allowed = SYMMETRY * (np.abs(matrix) + np.abs(matrix.T)) + 1e-14
    return bool((np.abs(matrix - matrix.T) <= allowed).all())
