"""What deflating leaves of luck as variants grow alike: sweeps without skill, at each correlation.

    python tests/studies/noise_sweeps.py [SWEEPS]

Normal returns of 252 days; the share of sweeps whose best variant has a deflated Sharpe ratio above
95 %, in per cent with its standard error. `python -m marketsimulator.overfitting --noise 1000` has
the laws with fat tails and clusters, and the probability of backtest overfitting.
"""

from __future__ import annotations

import sys

import numpy as np

from marketsimulator.results.noise_sweeps import DEVIATION
from marketsimulator.results.remarks import LIKELY
from marketsimulator.results.significance import deflated_sharpe

CORRELATIONS = (0.0, 0.5, 0.8, 0.95, 0.99)
VARIANTS = (2, 10, 50)
DAYS = 252


def deceived(variants: int, correlation: float, sweeps: int) -> float:
    """Share of sweeps that are called real."""
    count = 0
    for seed in range(sweeps):
        rng = np.random.default_rng(seed)
        own = rng.standard_normal((variants, DAYS)) * np.sqrt(1 - correlation)
        returns = DEVIATION * (own + rng.standard_normal(DAYS) * np.sqrt(correlation))
        ratios = returns.mean(axis=1) / returns.std(axis=1, ddof=1)
        variance = float(ratios.var(ddof=1))
        told = deflated_sharpe(float(ratios.max()), DAYS, trials=variants, variance=variance)
        count += told is not None and told > LIKELY
    return count / sweeps


def main() -> None:
    """The table, a line a number of variants."""
    sweeps = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    print("| variants | " + " | ".join(f"{value:g}" for value in CORRELATIONS) + " |")
    for variants in VARIANTS:
        shares = [deceived(variants, correlation, sweeps) for correlation in CORRELATIONS]
        cells = [f"{s:.1%} ± {np.sqrt(s * (1 - s) / sweeps):.1%}" for s in shares]
        print(f"| {variants} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
