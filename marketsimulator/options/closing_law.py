"""How an index moves whose options keep their smile until the close: what lies ahead of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from foundation.arrays import Array
from marketsimulator.options.pricing import Smile

log = logging.getLogger(__name__)

FAR = 4.0  # deviations up to which a law is fitted to a smile
CLOSE_ENOUGH = 0.001  # of a probability
SIZES = 1.3 ** np.arange(-8.0, 5.0)  # of the gamma variables, 0.12 to 2.9 deviations
LEAST_VARIANCE = 0.02  # of the normal part: a density that is smooth
LEAST_SHAPE = 1e-6  # of a gamma variable that counts
# A law's characteristic function is taken at these: probabilities are within 1e-7 up to 30
# deviations away.
STEP = 0.1
FREQUENCIES = STEP * (np.arange(600) + 0.5)
# Gauss and Newton's steps of the fit, and by how much the damping of Levenberg and Marquardt rises
# where one has not helped.
STEPS = 60
DAMPING = 1e-3
HARDER = 10.0
EASIER = 0.2
ENOUGH = 1e-4  # of the squares that are left: a step that gains less is the last
# An exponential tail that reaches farther than this share of the index has hardly a mean.
LONGEST = 0.9


@dataclass(frozen=True, eq=False, slots=True)
class ClosingLaw:
    """What lies ahead of an index at any time, in deviations to the close.

    It is a normal variable and J gamma variables of either sign, less their mean. Such a law is
    self-decomposable: L is c · L and an independent rest in law, for every c from 0 to 1. So there
    is an index whose moves are independent and for which what is left has this law, times the
    deviation to the close, at every time (Sato 1991, run towards the close). Its prices keep their
    smile, and are the mean payoffs given all that has happened.

    variance: of the normal variable.
    shapes: of the gamma variables [J], above 0.
    sizes: of the gamma variables [J], in deviations, below 0 for falls.
    """

    variance: float
    shapes: Array
    sizes: Array

    @classmethod
    def of(cls, smile: Smile) -> ClosingLaw:
        """The law that a smile implies.

        Where no such law has these prices (a smile so steep that a spread is worth more than its
        width), it is the nearest, and the log says so.
        """
        sizes = np.concatenate([-SIZES[::-1], SIZES])
        x = np.linspace(-FAR, FAR, 201)
        implied = smile.below(x)
        # A far option is worth little: what it misses counts relative to its own probability.
        weights = 1 / np.sqrt(np.clip(implied * (1 - implied), 1e-6, None))
        fitted = _fitted(x, implied, weights, sizes)
        kept = fitted[1:] > LEAST_SHAPE
        law = cls(float(fitted[0]) + LEAST_VARIANCE, fitted[1:][kept], sizes[kept])
        missed = float(np.abs(law.below(x) - implied).max())
        if missed > CLOSE_ENOUGH:
            log.warning(
                "smile: no distribution has slope %g and wing %g at all times; the index follows"
                " the nearest, whose probabilities differ by up to %.1f %%",
                smile.slope,
                smile.wing,
                100 * missed,
            )
        return law

    @property
    def deviation(self) -> float:
        """Root mean square, in deviations at the money."""
        return float(np.sqrt(self.variance + self.shapes @ self.sizes**2))

    def below(self, x: Array) -> Array:
        """Probability of an end lower than x [N], up to 30 deviations away, [N]."""
        exponent = _parts(self.sizes) @ np.concatenate([[self.variance], self.shapes])
        return _probability(_inversion(x), np.exp(exponent))

    def paths(self, left: Array, size: float, count: int, rng: np.random.Generator) -> Array:
        """Logarithms of the index over its first value, [count, K + 1], the first of a day 0.

        Moves are independent, and from every point on the index has the mean of where it stands.
        From a deviation t to u, with c = u / t, a gamma variable of shape k moves by what is
        missing when c of it is left: the sum of Poisson(k · ln(1 / c)) exponential variables, each
        times c to the power of a uniform one. At the close it is the whole variable.

        Parameters
        ----------
        left: deviations from each point to the end, in any unit, falling [K + 1], the last 0.
        size: of that unit, log.
        count: of paths.
        rng: what draws them.
        """
        kept = left[1:] / left[:-1]
        steps = len(kept)
        noise = rng.standard_normal((count, steps))
        rates = -np.log(kept[:-1, None]) * self.shapes
        jumps = rng.poisson(rates, (count, *rates.shape))
        gammas = np.empty((count, steps, len(self.shapes)))
        shrunk = np.repeat(np.broadcast_to(kept[:-1, None], jumps.shape).ravel(), jumps.ravel())
        parts = rng.standard_exponential(len(shrunk)) * shrunk ** rng.random(len(shrunk))
        owners = np.repeat(np.arange(jumps.size), jumps.ravel())
        gammas[:, :-1] = np.bincount(owners, parts, jumps.size).reshape(jumps.shape)
        gammas[:, -1] = rng.standard_gamma(self.shapes, (count, len(self.shapes)))
        jumped = (gammas - (1 - kept[:, None]) * self.shapes) @ self.sizes * left[:-1]
        moves = np.sqrt(self.variance * (left[:-1] ** 2 - left[1:] ** 2)) * noise + jumped
        walked = np.concatenate([np.zeros((count, 1)), np.cumsum(moves, axis=1)], axis=1)
        # The mean of the index is where it stands, from every point on.
        growth = self._growth(size * left)
        return np.asarray(size * walked + growth - growth[0])

    def _growth(self, scale: Array) -> Array:
        """Logarithm of the mean of exp(scale · end) for scales [K], [K]."""
        reach = np.minimum(scale[:, None] * self.sizes, LONGEST)
        gammas = (np.log1p(-reach) + reach) @ self.shapes
        return np.asarray(self.variance * scale**2 / 2 - gammas)


def _fitted(x: Array, implied: Array, weights: Array, sizes: Array) -> Array:
    """Variance, beyond the least one, and shapes of the gamma variables, [1 + J], 0 or above.

    Least squares of weighted probabilities. The logarithm of a characteristic function is linear in
    what is sought, so each step of Gauss and Newton's is a problem of non-negative least squares.
    """
    parts = _parts(sizes)
    inversion = _inversion(x)
    start = LEAST_VARIANCE * parts[:, 0]

    def missed(found: Array) -> Array:
        values = np.exp(start + parts @ found)
        return np.asarray((implied - _probability(inversion, values)) * weights)

    found = np.concatenate([[1 - LEAST_VARIANCE], np.zeros(len(sizes))])
    rest = missed(found)
    damping = DAMPING
    for _ in range(STEPS):
        values = np.exp(start + parts @ found)
        slopes = -(inversion @ (values[:, None] * parts)).imag * weights[:, None]
        held = np.sqrt(damping) * np.eye(len(found))
        target = np.concatenate([rest + slopes @ found, held @ found])
        tried, _ = nnls(np.vstack([slopes, held]), target, maxiter=100 * len(found))
        next_rest = missed(tried)
        gained = 1 - (next_rest @ next_rest) / (rest @ rest)
        if gained > 0:
            found, rest = tried, next_rest
        damping *= EASIER if gained > 0 else HARDER
        if 0 <= gained < ENOUGH:
            break
    return np.asarray(found)


def _parts(sizes: Array) -> Array:
    """What a unit of variance and of each shape adds to the logarithm of a characteristic function.

    At `FREQUENCIES` [F], without the mean, [F, 1 + J] complex.
    """
    turned = 1j * FREQUENCIES[:, None] * sizes
    return np.concatenate([-(FREQUENCIES[:, None] ** 2) / 2, -np.log(1 - turned) - turned], axis=1)


def _inversion(x: Array) -> Array:
    """From a characteristic function to probabilities at x [N] (Gil-Pelaez 1951), [N, F]."""
    return np.asarray(np.exp(-1j * np.outer(x, FREQUENCIES)) / FREQUENCIES * STEP / np.pi)


def _probability(inversion: Array, values: Array) -> Array:
    """Of an end lower than the N points of an inversion, from values at `FREQUENCIES`, [N]."""
    return np.asarray(0.5 - (inversion @ values).imag)
