"""Measure how often the deflated Sharpe ratio accepts the best of many variants without skill.

python -m studies.deflated_sharpe

Each sweep is synthetic: 50 variants over 504 days, with Student-t returns of mean zero and 5
degrees of freedom. All variants have the share `shared` of their variance in common. Returns are a
first-order autoregression with the coefficient `autocorrelation`.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

import numpy as np
from scipy.signal import lfilter

from foundation.arrays import Array
from marketsimulator.results.metrics import measure_daily_performance
from marketsimulator.results.significance import MIN_DEFLATED_SHARPE, deflated_sharpe

VARIANTS = 50
DAYS = 504
WARM_UP = 100  # days before the first, in which the effect of a start at zero vanishes
SHARED = (0.0, 0.5, 0.8)
AUTOCORRELATIONS = (-0.2, 0.0, 0.1, 0.2, 0.3)


def sweep(rng: np.random.Generator, shared: float, autocorrelation: float) -> Array:
    """Draw the daily returns [V, D] of a sweep without skill."""
    own = rng.standard_t(5, (VARIANTS, WARM_UP + DAYS))
    common = rng.standard_t(5, WARM_UP + DAYS)
    shocks = 0.01 * (np.sqrt(1 - shared) * own + np.sqrt(shared) * common)
    return np.asarray(lfilter([1.0], [1.0, -autocorrelation], shocks, axis=1)[:, WARM_UP:])


def called_real(returns: Array) -> tuple[bool, bool, bool]:
    """Return whether the best variant passes: deflated, without autocorrelation, undeflated."""
    best = returns[(returns.mean(axis=1) / returns.std(axis=1, ddof=1)).argmax()]
    figures = measure_daily_performance(np.cumprod(np.append(1.0, 1.0 + best)), 252)
    uncorrelated = replace(figures, autocorrelation=0.0)
    return (
        _passes(deflated_sharpe(figures, VARIANTS)),
        _passes(deflated_sharpe(uncorrelated, VARIANTS)),
        _passes(deflated_sharpe(figures, 1)),
    )


def _passes(probability: float | None) -> bool:
    return probability is not None and probability > MIN_DEFLATED_SHARPE


def main() -> None:
    """Print a row for each autocorrelation and share of common variance."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sweeps", type=int, default=1000)
    sweeps = parser.parse_args().sweeps
    sys.stdout.write("autocorrelation shared deflated without_autocorrelation undeflated\n")
    for autocorrelation in AUTOCORRELATIONS:
        for shared in SHARED:
            rng = np.random.default_rng([7, int(100 * shared), int(100 * autocorrelation) + 100])
            called = [called_real(sweep(rng, shared, autocorrelation)) for _ in range(sweeps)]
            rates = "  ".join(f"{rate:6.1%}" for rate in np.mean(called, axis=0))
            sys.stdout.write(f"{autocorrelation:+.1f}  {shared:.1f}  {rates}\n")


if __name__ == "__main__":
    main()
