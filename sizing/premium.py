"""The premium prior: what an asset class is believed to earn for its risk, stated and not learned.

A class's premium is a Sharpe ratio, that of the diversified class. Reverse optimisation (Sharpe
1974; Black and Litterman 1992) says which expected returns make equal weights worth holding:

    π = SR · √(ρ̄ / (ρ̄ + (1 - ρ̄) / n)) · Σw / √(w'Σw),   w = 1/n

with ρ̄ the class's mean correlation. n symbols of one class are not all of it: a single stock's
ratio is √ρ̄ of the class's. Few symbols say little about their class, so the prior of the mean
correlation counts as `PAIRS` pairs beside those in the matrix.

The world's market portfolio had a ratio of 0.36 from 1960 to 2017 (Doeswijk, Lam and Swinkels
2020), which shrunk for 58 years of data is 0.32. Two years of bars have an error of 0.7 and say
nothing about it.
"""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array, Array32, Index, Mask
from foundation.compiled import compiled
from foundation.settings import setting, settings_class

PAIRS = 3.0  # of symbols that the prior of a class's mean correlation counts for


@settings_class("prior")
class PriorSettings:
    """What is believed before any forecast has proven itself."""

    stock_sharpe: float = setting(
        0.3, "Sharpe ratio a year of the diversified stock market", ge=0, le=2
    )
    crypto_sharpe: float = setting(0.0, "the same of coins", ge=0, le=2)
    horizon_days: int = setting(28, "how far a plan looks, in calendar days", ge=1, le=365)

    def sharpe(self, crypto: Mask) -> Array:
        return np.where(crypto, self.crypto_sharpe, self.stock_sharpe)


@compiled
def unit_premiums(
    variance: Array, matrix: Index, correlations: Array32, crypto: Mask, within: tuple[float, float]
) -> Array:
    """[T, S] premium a year of each symbol, where each class has a Sharpe ratio of one.

    Parameters
    ----------
    variance : [T, S]
        of simple returns, a year; where one is not known, the symbol is no member of its class and
        its premium is 0.
    matrix : [T]
        number of the correlation matrix in force.
    correlations : [D, S, S]
        the matrices.
    crypto : [S]
        whether it is a coin.
    within
        priors of the mean correlation of stocks, of coins.
    """
    premiums = np.zeros(variance.shape)
    for t in range(len(variance)):
        correlation = correlations[matrix[t]]
        for coins in (False, True):
            members = np.flatnonzero((variance[t] > 0.0) & (crypto == coins))
            if len(members) > 0:
                prior = within[1] if coins else within[0]
                _write_class_premiums(premiums[t], variance[t], correlation, members, prior)
    return premiums


@compiled
def _write_class_premiums(
    premium: Array, variance: Array, correlation: Array32, members: Index, prior: float
) -> None:
    """Write the premiums [S] of one class's members; prior: of the class's mean correlation."""
    n = len(members)
    with_book = np.zeros(len(premium))
    with_all = np.zeros(len(premium))
    # Row by row, so that the processor adds several symbols at once, each in the same order.
    for i in members:
        row = correlation[i]
        deviation = np.sqrt(variance[i])
        for j in range(len(row)):
            with_book[j] += row[j] * deviation
            with_all[j] += row[j]
    book = 0.0
    pairs = 0.0
    for i in members:
        premium[i] = np.sqrt(variance[i]) * with_book[i] / n
        book += premium[i] / n
        pairs += with_all[i] - correlation[i, i]
    # A sample of few symbols may have a mean correlation below zero. No class has one: its symbols
    # would diversify each other away, and the premium with them.
    mean = max((PAIRS * prior + pairs / 2) / (PAIRS + n * (n - 1) / 2), 0.0)
    share = np.sqrt(mean / (mean + (1.0 - mean) / n))
    for i in members:
        premium[i] *= share / np.sqrt(book)
