"""Correlation by common factors: low rank plus what each symbol has alone, from any source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foundation.arrays import Array, Array32, Instants
from trainingdata.bars import Bars
from trainingdata.correlation import SMALLEST_EIGENVALUE, CorrelationMatrix, CorrelationSource


@dataclass(frozen=True, slots=True)
class FactorCorrelation:
    """The matrices of a source, of which a few common factors are kept.

    factors: how many; a matrix of no more symbols stays as it is.
    """

    source: CorrelationSource
    factors: int

    @property
    def within(self) -> tuple[float, float]:
        return self.source.within

    def matrix_at_end(self, bars: Bars) -> CorrelationMatrix:
        found = self.source.matrix_at_end(bars)
        values = of_factors(found.values, self.factors).astype(np.float32).astype(np.float64)
        return CorrelationMatrix(found.symbols, values, found.as_of)

    def matrices_at(self, bars: Bars, instants: Instants) -> Array32:
        """The matrix [D, S, S] of what the panel knew at each of these instants, a day each."""
        matrices = self.source.matrices_at(bars, instants)
        for day, values in enumerate(matrices):
            matrices[day] = of_factors(values.astype(np.float64), self.factors)
        return matrices


def of_factors(correlation: Array, factors: int) -> Array:
    """The correlation [S, S] that its strongest factors leave, and each symbol's own part.

    L L' + diag(1 - the squares of each row of L), L the eigenvectors of the largest eigenvalues
    times their roots: the principal factors of a correlation matrix. Each symbol keeps a thousandth
    of its variance for itself, so that the matrix is positive definite.
    """
    if factors >= len(correlation):
        return correlation
    eigenvalues, vectors = np.linalg.eigh(correlation)
    loads = vectors[:, -factors:] * np.sqrt(np.maximum(eigenvalues[-factors:], 0.0))
    common = (loads**2).sum(axis=1)
    most = 1.0 - SMALLEST_EIGENVALUE
    loads *= np.sqrt(np.minimum(1.0, most / np.maximum(common, most)))[:, None]
    values = loads @ loads.T
    np.fill_diagonal(values, 1.0)
    return np.asarray((values + values.T) / 2)
