"""Joint scenarios of returns, from moments, quantile shapes and a copula, the same every time.

Quasi-random draws (Owen-scrambled Sobol points of a fixed seed and their mirror images) become
latent scores, normal or Student-t, coloured by the correlation. A monotone map takes each symbol's
scores to its forecast's quantiles: linear in the score between two levels, and beyond the outermost
ones as between the last two, so that the tails of a t copula stay those of a t. The mapped scores
are log returns but for location and scale: no price falls below zero. These are set so that the
sample has exactly the expected returns and the covariance of the situation (where moments are such
that no prices above zero have them, as with deviations near 1, a scenario may fall below -1). What
is sized by scenarios then differs from what is sized by moments by the higher moments alone.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import numpy as np

from foundation.arrays import Array
from foundation.compiled import compiled, reordered
from foundation.errors import InputError
from sizing.solver.growth import dot

Copula = Literal["normal", "t"]

SEED = 20161107  # of the scrambling; any number serves, and another one gives other scenarios
ROUNDS = 30  # of the search for the location and scale of log returns
NEAR = 1e-2  # relative: moments this close are reached by a linear map of returns
SINGULAR = 1e-12  # of a variance: what is left of it beside the other symbols
TOGETHER = 32  # symbols whose draws do not depend on how many of them there are
LEAST_SCENARIOS, MOST_SCENARIOS = 64, 65_536
LEAST_DEGREES, MOST_DEGREES = 2, 1000  # of freedom


class Shape(NamedTuple):
    """The shapes of log returns in K blocks, or one for all of them, for S symbols.

    levels: [Q] of the quantiles, rising.
    values: [K, S, Q] or [1, S, Q] quantiles of the log return, in any unit and from any origin,
        not decreasing; NaN for a symbol whose shape is not known, which is then the copula's own.
    """

    levels: Array
    values: Array

    def padded(self, count: int) -> Shape:
        """The same with `count` symbols appended whose shape is not known."""
        added = ((0, 0), (0, count), (0, 0))
        return Shape(self.levels, np.pad(self.values, added, constant_values=np.nan))


class Draws(NamedTuple):
    """Latent scores of S symbols in N scenarios before they are coloured.

    scores: [S, N] independent, normal.
    stretch: [N] by which a scenario's scores are stretched together; 1 for the normal copula.
    """

    scores: Array
    stretch: Array


def base_draws(scenarios: int, symbols: int, copula: Copula, degrees: float) -> Draws:
    """The draws that every decision over so many symbols starts from.

    The first symbols have the same draws however many there are beside them, up to a multiple of
    32: another symbol in the book is not to move the rest by the luck of other draws.

    Parameters
    ----------
    scenarios
        N, a power of two.
    symbols
        S.
    copula, degrees
        `normal`, or `t` with so many degrees of freedom.
    """
    dimensions = -(-(symbols + 1) // TOGETHER) * TOGETHER
    draws = _draws(scenarios, dimensions, copula, degrees)
    return Draws(draws.scores[:symbols], draws.stretch)


@lru_cache(maxsize=16)
def _draws(scenarios: int, dimensions: int, copula: Copula, degrees: float) -> Draws:
    """Draws of one symbol fewer than there are dimensions; the first one stretches the rest."""
    # scipy's distributions take half a second to import, and most jobs draw nothing.
    from scipy.stats import chi2, norm, qmc

    points = qmc.Sobol(dimensions, scramble=True, rng=SEED).random(scenarios // 2)
    # A scrambled point may lie at 0 itself, where a normal has no quantile.
    points = np.clip(points, 2.0**-40, 1.0 - 2.0**-40)
    half = norm.ppf(points[:, 1:]).T
    stretch = np.ones(len(points))
    if copula == "t":
        stretch = np.sqrt(degrees / chi2.ppf(points[:, 0], degrees))
    # Every point beside its mirror image: a skew of the sample that is none of the forecast's would
    # move weights between symbols that are alike.
    return Draws(np.hstack([half, -half]), np.tile(stretch, 2))


@lru_cache(maxsize=16)
def _knots(levels: tuple[float, ...], copula: Copula, degrees: float) -> Array:
    """The latent scores [Q] of these levels."""
    from scipy.stats import norm, t

    scores = norm.ppf(levels) if copula == "normal" else t.ppf(levels, degrees)
    return np.asarray(scores, dtype=np.float64)


def check_scenarios(scenarios: int) -> None:
    """Refuse a number of scenarios that is too small to size by, or too large to keep.

    Raises
    ------
    InputError
        with the number.
    """
    if not LEAST_SCENARIOS <= scenarios <= MOST_SCENARIOS or scenarios != int(scenarios):
        raise InputError(
            f"scenarios: {scenarios} is outside {LEAST_SCENARIOS} … {MOST_SCENARIOS:,}, or no whole"
            " number; 1024 serves"
        )


def check_copula(copula: str, degrees: float) -> None:
    """Refuse a copula that is not known, and degrees of freedom that leave it no variance.

    Raises
    ------
    InputError
        with the name or the number.
    """
    if copula not in get_args(Copula):
        raise InputError(f"copula: {copula!r} is none of {', '.join(get_args(Copula))}")
    if not LEAST_DEGREES < degrees <= MOST_DEGREES:
        raise InputError(
            f"degrees: {degrees:g} is not above {LEAST_DEGREES} and {MOST_DEGREES:,} at most; a t"
            f" copula of {LEAST_DEGREES} has no variance, and one of {MOST_DEGREES:,} is normal"
        )


def block_returns(
    mu: Array,
    covariance: Array,
    shape: Shape | None = None,
    *,
    scenarios: int = 1024,
    copula: Copula = "normal",
    degrees: float = 5.0,
) -> Array:
    """Simple returns [K, S, N] of K blocks in N scenarios, each as likely as another.

    In every block the mean of the scenarios is mu and their covariance is `covariance`, both to
    rounding. Blocks are drawn one by one: what happens in one says nothing of another.

    Parameters
    ----------
    mu : [K, S]
        expected simple return, above -1.
    covariance : [K, S, S]
        of simple returns; a symbol without variance returns its mu in every scenario.
    shape
        quantiles of log returns; none: every symbol has the copula's own marginal.
    scenarios
        N at least; the next power of two, as Sobol points balance, and 4·S where that is more.
    copula, degrees
        as of `base_draws`.

    Raises
    ------
    InputError
        for a number of scenarios, a copula or an expected return that cannot be.
    """
    blocks, symbols = mu.shape
    check_scenarios(scenarios)
    check_copula(copula, degrees)
    if not (mu > -1).all():
        raise InputError(f"mu: an expected return must be above -1, got {mu[~(mu > -1)][0]:g}")
    # With fewer scenarios than symbols no sample has a covariance of full rank.
    count = 1 << (max(scenarios, 4 * symbols) - 1).bit_length()
    draws = base_draws(count, symbols, copula, degrees)
    if shape is None:
        knots = np.zeros(2)
        values = np.full((1, symbols, 2), np.nan)
    else:
        knots = _knots(tuple(shape.levels.tolist()), copula, degrees)
        values = np.ascontiguousarray(shape.values, dtype=np.float64)
    returns = np.empty((blocks, symbols, count))
    for k in range(blocks):
        own = values[k % len(values)]
        _draw_block(mu[k], covariance[k], draws, knots, own, returns[k])
    return returns


@compiled
def _draw_block(
    mu: Array, covariance: Array, draws: Draws, knots: Array, values: Array, returns: Array
) -> None:
    """Write the returns [S, N] of one block; values [S, Q]: its shapes at scores `knots` [Q]."""
    correlation = _correlation(covariance)
    # Of a lognormal price with this mean and deviation, the deviation of its log.
    deviation = np.sqrt(np.log1p(np.diag(covariance) / (1.0 + mu) ** 2))
    logs = _combined(_root(correlation), draws.scores)
    for i in range(len(logs)):
        logs[i] *= draws.stretch
        if np.isfinite(values[i]).all() and values[i, -1] > values[i, 0]:
            _map_scores(logs[i], knots, values[i])
    place = np.log1p(mu) - 0.5 * deviation**2
    _recolour(logs, correlation * np.outer(deviation, deviation), place)
    for _ in range(ROUNDS):
        returns[:] = np.expm1(logs)
        mean, found = _moments(returns)
        change = _map_between(found, covariance)
        if _distance(change, mean - mu, np.sqrt(np.diag(covariance))) <= NEAR:
            break
        # The same map, applied to logs. Relative to the price at which it is expected a return is
        # its logarithm but for higher orders, so that what is left falls from round to round.
        for i in range(len(mu)):
            change[i] *= (1.0 + mean) / (1.0 + mu[i])
        place += np.log1p(mu) - np.log1p(mean)
        _centre(logs)
        logs = _combined(change, logs)
        for i in range(len(mu)):
            logs[i] += place[i]
    _recolour(returns, covariance, mu)


@compiled
def _correlation(covariance: Array) -> Array:
    """Correlation [S, S]; 0 for a symbol without variance."""
    symbols = len(covariance)
    correlation = np.zeros((symbols, symbols))
    for i in range(symbols):
        for j in range(symbols):
            product = covariance[i, i] * covariance[j, j]
            if product > 0.0:
                correlation[i, j] = 1.0 if i == j else covariance[i, j] / np.sqrt(product)
    return correlation


@compiled
def _distance(change: Array, shift: Array, deviation: Array) -> float:
    """How far a map [S, S] and a shift [S] are from none, relative to the deviations [S]."""
    largest = 0.0
    for i in range(len(deviation)):
        if deviation[i] > 0.0:
            largest = max(largest, abs(shift[i]) / deviation[i])
            for j in range(i + 1):
                part = change[i, j] * deviation[j] / deviation[i]
                largest = max(largest, abs(part - 1.0 if i == j else part))
    return largest


@compiled
def _map_scores(scores: Array, knots: Array, values: Array) -> None:
    """Turn scores [N] into values: linear between knots [Q] and on beyond the outer ones."""
    last = len(knots) - 2
    slopes = np.empty(last + 1)
    for q in range(last + 1):
        slopes[q] = (values[q + 1] - values[q]) / (knots[q + 1] - knots[q])
    for s in range(len(scores)):
        low = 0
        high = last
        while low < high:
            middle = (low + high + 1) // 2
            if scores[s] >= knots[middle]:
                low = middle
            else:
                high = middle - 1
        scores[s] = values[low] + slopes[low] * (scores[s] - knots[low])


@compiled
def _recolour(sample: Array, covariance: Array, mean: Array) -> None:
    """Give a sample [S, N] exactly this mean [S] and covariance [S, S], by a linear map."""
    _, found = _moments(sample)
    _centre(sample)
    sample[:] = _combined(_map_between(found, covariance), sample)
    for i in range(len(mean)):
        sample[i] += mean[i]


@compiled
def _centre(sample: Array) -> None:
    """Take the mean of each row of a sample [S, N] from it."""
    for i in range(len(sample)):
        sample[i] -= sample[i].mean()


@compiled
def _map_between(found: Array, wanted: Array) -> Array:
    """The lower triangle T with T·found·T' = wanted, both [S, S].

    A symbol that is a combination of those before it has no part of its own in either.
    """
    root = _root(found)
    change = _root(wanted)
    # Solve T·root = change from the last column on, in place.
    for j in range(len(root) - 1, -1, -1):
        for i in range(j, len(root)):
            value = change[i, j]
            for c in range(j + 1, i + 1):
                value -= change[i, c] * root[c, j]
            change[i, j] = value / root[j, j] if root[j, j] > 0.0 else 0.0
    return change


@compiled
def _root(matrix: Array) -> Array:
    """Lower triangle L with L·L' = matrix [S, S]; zero columns where nothing is left to explain."""
    size = len(matrix)
    root = np.zeros((size, size))
    for j in range(size):
        rest = matrix[j, j]
        for c in range(j):
            rest -= root[j, c] * root[j, c]
        if rest <= SINGULAR * matrix[j, j]:
            continue
        root[j, j] = np.sqrt(rest)
        for i in range(j + 1, size):
            value = matrix[i, j]
            for c in range(j):
                value -= root[i, c] * root[j, c]
            root[i, j] = value / root[j, j]
    return root


@reordered
def _combined(triangle: Array, sample: Array) -> Array:
    """triangle·sample, [S, N], of a lower triangle [S, S]."""
    symbols, count = sample.shape
    out = np.zeros((symbols, count))
    for i in range(symbols):
        j = 0
        # Four rows a pass: a row of the answer is read and written once for all of them.
        while j + 3 <= i:
            a, b, c, d = triangle[i, j : j + 4]
            for s in range(count):
                out[i, s] += (a * sample[j, s] + b * sample[j + 1, s]) + (
                    c * sample[j + 2, s] + d * sample[j + 3, s]
                )
            j += 4
        while j <= i:
            a = triangle[i, j]
            for s in range(count):
                out[i, s] += a * sample[j, s]
            j += 1
    return out


@compiled
def _moments(sample: Array) -> tuple[Array, Array]:
    """Mean [S] and covariance [S, S] of a sample [S, N]."""
    symbols, count = sample.shape
    mean = np.empty(symbols)
    covariance = np.empty((symbols, symbols))
    centred = sample.copy()
    _centre(centred)
    for i in range(symbols):
        mean[i] = sample[i].mean()
        for j in range(i + 1):
            covariance[i, j] = dot(centred[i], centred[j]) / count
            covariance[j, i] = covariance[i, j]
    return mean, covariance
