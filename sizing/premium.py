"""The premium prior: expected returns of an asset class from an assumed Sharpe ratio.

The ratio is that of the diversified class. Reverse optimisation (Sharpe 1974; Black and Litterman
1992) gives the expected returns under which equal weights are optimal:

    π = SR · √(ρ̄ / (ρ̄ + (1 - ρ̄) / n)) · Σw / √(w'Σw),   w = 1/n

with ρ̄ the mean correlation of the class. A book of n symbols is less diversified than its class: a
single stock's ratio is √ρ̄ times the ratio of the class. Few symbols carry little information about
their class, so the prior mean correlation counts as `PRIOR_CORRELATION_PAIRS` pairs in addition to
those in the matrix.

The world's market portfolio had a ratio of 0.36 from 1960 to 2017 (Doeswijk, Lam and Swinkels
2020), or 0.32 after shrinkage for 58 years of data. An estimate from two years of bars would have a
standard error of 0.7.

Crypto has no such record. Unless it is configured, its ratio is implied by the capital asset
pricing model (Sharpe 1964; Lintner 1965). E[r] - rf = β (E[m] - rf) with β = ρ σ / σm gives

    SR_crypto = ρ · SR_stocks,   ρ = ρ̄_across / √(ρ̄_stocks · ρ̄_crypto)

with ρ the correlation of the two diversified classes in the matrix in force: crypto earns a premium
for the risk that it shares with stocks, and none for the rest.
"""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array, Array32, Index, Mask, Matrix
from foundation.compiled import compiled, true_indices
from trainingdata.correlation import MeanCorrelations

PRIOR_CORRELATION_PAIRS = (
    3.0  # weight of the prior mean correlation of a class, in pairs of symbols
)


@compiled
def premiums_at_unit_sharpe(
    variance: Array, matrix: Index, correlations: Array32, crypto: Mask, prior: MeanCorrelations
) -> tuple[Matrix, Array]:
    """Return premiums at a Sharpe ratio of one for each class, and the correlation of the classes.

    Parameters
    ----------
    variance : [T, S]
        yearly variance of simple returns; NaN excludes a symbol from its class, with a premium of
        0.
    matrix : [T]
        index of the correlation matrix in force at each instant.
    correlations : [D, S, S]
        the matrices.
    crypto : [S]
        whether the symbol is crypto.
    prior
        mean correlations towards which estimates from few symbols are shrunk.

    Returns
    -------
    premiums : [T, S]
        expected yearly return at a Sharpe ratio of one of the asset class.
    crypto_correlation : [T]
        correlation of the diversified crypto class with the diversified stock market, -1 to 1.
    """
    premiums = np.zeros(variance.shape)
    crypto_correlation = np.zeros(len(variance))
    for t in range(len(variance)):
        correlation = correlations[matrix[t]]
        known = variance[t] > 0.0
        stocks = true_indices(known & ~crypto)
        coins = true_indices(known & crypto)
        within = np.sqrt(
            _write_class_premiums(
                premiums[t], variance[t], correlation, stocks, prior.within_stocks
            )
            * _write_class_premiums(
                premiums[t], variance[t], correlation, coins, prior.within_crypto
            )
        )
        pairs = 0.0
        for i in stocks:
            for j in coins:
                pairs += correlation[i, j]
        stock_crypto = (PRIOR_CORRELATION_PAIRS * prior.stock_crypto + pairs) / (
            PRIOR_CORRELATION_PAIRS + len(stocks) * len(coins)
        )
        # Classes without an internal common factor share none with each other.
        if within > 0.0:
            crypto_correlation[t] = min(max(stock_crypto / within, -1.0), 1.0)
    return premiums, crypto_correlation


@compiled
def _write_class_premiums(
    premium: Array, variance: Array, correlation: Array32, members: Index, prior: float
) -> float:
    """Write the premiums of a class's members into `premium` [S]; return their mean correlation.

    members: indices of the class's symbols.
    prior: mean correlation towards which an estimate from few members is shrunk.
    """
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
    mean = max(
        (PRIOR_CORRELATION_PAIRS * prior + pairs / 2) / (PRIOR_CORRELATION_PAIRS + n * (n - 1) / 2),
        0.0,
    )
    if n > 0:
        share = np.sqrt(mean / (mean + (1.0 - mean) / n))
        for i in members:
            premium[i] *= share / np.sqrt(book)
    return mean
