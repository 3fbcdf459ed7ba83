"""What is said of sweeps without skill, beside `python -m marketsimulator.overfitting --noise N`.

    python tests/studies/noise_sweeps.py alike [SWEEPS]
    python tests/studies/noise_sweeps.py markets [MARKETS]

alike    normal returns of 252 days, the more correlated the fewer trials they amount to: the share
         of sweeps whose best variant has a deflated Sharpe ratio above 95 %, standard errors
markets  the simulator's own sweeps, 36 variants of the prior alone over half a year of three stocks
         of synthetic markets without an edge
"""

from __future__ import annotations

import sys

import numpy as np

from foundation.compose import composed_config
from marketsimulator.results.noise_sweeps import DEVIATION, Judged, noise_figures
from marketsimulator.results.remarks import LIKELY
from marketsimulator.results.significance import deflated_sharpe
from marketsimulator.settings import BacktestSettings
from marketsimulator.sweep import run_sweep

CORRELATIONS = (0.0, 0.5, 0.8, 0.95, 0.99)
VARIANTS = (2, 10, 50)
DAYS = 252
SPAN = ("data.start=2023-09-01", "start=2024-01-02", "end=2024-06-28", "data.end=2024-06-28")
MARKET = ("symbols=[SYA,SYB,SYC]", "data.edge=0", "trials=null", "forecaster=ewma")
VARY = {
    "sizing.fraction": [0.1, 0.25, 0.5, 1.0],
    "limits.symbol_cap": [0.1, 0.2, 0.4],
    "prior.stock_sharpe": [0.1, 0.3, 0.6],
}


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


def alike(sweeps: int) -> None:
    """A line a number of variants."""
    print("| variants | " + " | ".join(f"{value:g}" for value in CORRELATIONS) + " |")
    for variants in VARIANTS:
        shares = [deceived(variants, correlation, sweeps) for correlation in CORRELATIONS]
        cells = [f"{s:.1%} ± {np.sqrt(s * (1 - s) / sweeps):.1%}" for s in shares]
        print(f"| {variants} | " + " | ".join(cells) + " |", flush=True)


def markets(count: int) -> None:
    """A line of figures."""
    judged, ratios, correlations = [], [], []
    for seed in range(count):
        config = composed_config("backtest", [*SPAN, *MARKET, f"data.seed={seed}"])
        runs = run_sweep(BacktestSettings.of(config), VARY).runs
        assert runs.overfitting is not None
        best = runs.ranking()[0]
        judged.append(Judged(runs.overfitting.probability, float(runs.deflated[best]), 0.0))
        ratios.append(float(np.nanmean(runs.sharpes)))
        others = ~np.eye(len(runs.names), dtype=bool)
        returns = np.diff(runs.daily, axis=1) / runs.daily[:, :-1]
        correlations.append(float(np.atleast_2d(np.corrcoef(returns))[others].mean()))
    found = noise_figures(judged)
    error = np.std(ratios, ddof=1) / np.sqrt(count)
    print(
        f"{count} markets: overfitting {found.probability:.1%} ± {found.error:.1%} ({found.low:.0%}"
        f" to {found.high:.0%}), deceived {found.deceived:.1%}, at most {found.deceived_most:.1%};"
        f" mean Sharpe ratio of all variants {np.mean(ratios):+.2f} ± {error:.2f}, their mean"
        f" correlation {np.mean(correlations):.2f}"
    )


def main() -> None:
    """Either table."""
    which, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0
    if which == "alike":
        alike(count or 10_000)
    else:
        markets(count or 100)


if __name__ == "__main__":
    main()
