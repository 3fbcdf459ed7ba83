"""Where an index ends that moves as its options are priced: the distribution a smile implies."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls
from scipy.special import ndtr

from foundation.arrays import Array
from marketsimulator.options.pricing import Smile

log = logging.getLogger(__name__)

FAR = 4.0  # deviations up to which a law is fitted to a smile
CLOSE_ENOUGH = 0.001  # of a probability
SPREAD = 1.15 ** np.arange(-16.0, 10.0)  # deviations of the normals, at most 3.5
LEAN = np.array([-1.2, -0.6, -0.3, -0.1, 0.0, 0.1, 0.3, 0.6, 1.2])  # means, over their deviation
# Weight of what a law is held to beside its fit: probabilities add up to 1 and have no mean, and
# of two laws that fit alike the one whose normals lean less is taken.
EXACT = 1e3
UPRIGHT = 0.5


@dataclass(frozen=True, eq=False, slots=True)
class ClosingLaw:
    """Where an index ends, in deviations to the close from where it stands: J normals mixed.

    weights: probabilities [J], which add up to 1.
    means: of the normals [J]; theirs, weighted, is 0.
    deviations: of the normals [J].
    """

    weights: Array
    means: Array
    deviations: Array

    @classmethod
    def of(cls, smile: Smile) -> ClosingLaw:
        """The distribution that a smile implies.

        Where prices that no distribution has (a smile so steep that a spread is worth more than its
        width) leave none, it is the nearest, and the log says so.
        """
        deviations, lean = (each.ravel() for each in np.meshgrid(SPREAD, LEAN))
        means = lean * deviations
        x = np.linspace(-FAR, FAR, 201)
        implied = smile.below(x)
        # A far option is worth little: what it misses counts relative to its own probability.
        scale = 1 / np.sqrt(np.clip(implied * (1 - implied), 1e-6, None))
        fitted = ndtr((x[:, None] - means) / deviations)
        rows = [fitted * scale[:, None], EXACT * np.ones((1, len(means))), EXACT * means[None]]
        upright = UPRIGHT * np.diag(np.abs(lean))
        target = np.concatenate([implied * scale, [EXACT, 0.0], np.zeros(len(means))])
        weights, _ = nnls(np.vstack([*rows, upright]), target, maxiter=100 * len(means))
        law = cls(*(each[weights > 0] for each in (weights / weights.sum(), means, deviations)))
        missed = float(np.abs(law.below(x) - implied).max())
        if missed > CLOSE_ENOUGH:
            log.warning(
                "smile: no distribution has slope %g and wing %g; the index follows the nearest,"
                " whose probabilities differ by up to %.1f %%",
                smile.slope,
                smile.wing,
                100 * missed,
            )
        return law

    @property
    def deviation(self) -> float:
        """Root mean square, in deviations at the money."""
        return float(np.sqrt(self.weights @ (self.means**2 + self.deviations**2)))

    def below(self, x: Array) -> Array:
        """Probability of an end lower than x [N], [N]."""
        return np.asarray(ndtr((x[:, None] - self.means) / self.deviations) @ self.weights)

    def paths(self, scale: Array, wildness: Array, noise: Array) -> Array:
        """Logarithms of the index over its first value, [D, K + 1], the first of a day 0.

        A day is one of the normals. Whichever it is, the end seen from any point lies as this law
        says, times that point's scale, as long as nothing but the time is known there.

        Parameters
        ----------
        scale: deviations at the money from each point to the end, log [K + 1], the last 0.
        wildness: from 0 to 1, which of the normals each day is [D].
        noise: standard normal [D, K].
        """
        last = len(self.weights) - 1
        normal = np.minimum(np.searchsorted(np.cumsum(self.weights), wildness), last)
        drift = self.means[normal, None] * (scale[0] - scale)
        moves = self.deviations[normal, None] * np.sqrt(scale[:-1] ** 2 - scale[1:] ** 2) * noise
        walked = np.concatenate([np.zeros((len(moves), 1)), np.cumsum(moves, axis=1)], axis=1)
        # The mean of the index is where it stands, from every point on.
        fair = self._growth(scale) - self._growth(scale[:1])
        return np.asarray(drift + walked + fair)

    def _growth(self, scale: Array) -> Array:
        """Logarithm of the mean of exp(scale · end) for scales [K], [K]."""
        exponents = scale[:, None] * self.means + (scale[:, None] * self.deviations) ** 2 / 2
        return np.asarray(np.log(np.exp(exponents) @ self.weights))
