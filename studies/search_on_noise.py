"""Count the parameter searches that report a find on markets of pure noise.

python -m studies.search_on_noise

Each market is synthetic, with a different seed: daily bars of three correlated stocks with heavy
tails and volatility clustering, without drift or predictability (`data.information_coefficient=0`).
Each search varies the symbol cap and both windows of `examples/moving_average.py`, which decides
weekly.
"""

from __future__ import annotations

import argparse
import sys

from forecasting.forecast import no_progress
from foundation.compose import compose_config
from marketsimulator.results.search.report import SearchReport
from marketsimulator.results.search.walk import run_search
from marketsimulator.search import SearchSettings

WORDS = (
    *("symbols=[SYA,SYB,SYC]", "timeframe=1d", "data.information_coefficient=0", "ledger=null"),
    *("data.start=2022-07-01", "data.end=2024-06-28", "start=2023-01-03"),
    *("schedule=weekly", "forecaster=ewma", "forecaster.calibrated=false"),
    *("sizing._target_=examples.moving_average.moving_average", "sizing.lookback=100"),
    "space={sizing.arguments.fast: [2, 30], sizing.arguments.slow: [31, 100],"
    " limits.symbol_cap: [0.2, 0.6]}",
    *("trials=12", "spans=3", "workers=1"),
)


def search(seed: int) -> SearchReport:
    """Search on the noise market of a seed; return its report."""
    settings = SearchSettings.from_config(compose_config("search", [*WORDS, f"seed={seed}"]))
    result = run_search(settings.backtest_settings, settings.plan, no_progress)
    return SearchReport(result, has_ledger=False)


def main() -> None:
    """Print a row per market, and the number of searches that found nothing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--markets", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1000, help="seed of the first market")
    arguments = parser.parse_args()
    sys.stdout.write("seed  lead  significant  deflated_sharpe  PBO  nothing_found\n")
    nothing = 0
    for seed in range(arguments.seed, arguments.seed + arguments.markets):
        report = search(seed)
        nothing += bool(report.failed_criteria)
        overfitting = report.result.overfitting
        pbo = "-" if overfitting is None else f"{overfitting.probability:.2f}"
        lead = "-" if report.outperformance is None else f"{report.outperformance.lead:+.3f}"
        sign = 0 if report.outperformance is None else report.outperformance.significant_sign
        deflated = "-" if report.deflated is None else f"{report.deflated:.3f}"
        sys.stdout.write(
            f"{seed}  {lead}  {sign:+d}  {deflated}  {pbo}  {bool(report.failed_criteria)}\n"
        )
        sys.stdout.flush()
    sys.stdout.write(f"{nothing} of {arguments.markets} searches found nothing\n")


if __name__ == "__main__":
    main()
