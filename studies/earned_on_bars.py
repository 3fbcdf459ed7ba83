"""State what forecasters have earned on real bars, for docs/STUDIES.md.

    python -m studies.earned_on_bars HOURLY_STOCKS HOURLY_CRYPTO DAILY_STOCKS

A row per data set and forecaster, raw and calibrated: evidence that capital sized by it
(`kelly_50`, after costs) grows faster than the same capital without it, the fraction of full Kelly
earned at the end and its maximum. Forecasts are walk-forward. The oracle reads the future.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from forecasting.evidence import ALPHA, earned_fraction, growth_evidence
from foundation.compose import compose_config
from marketsimulator.settings import BacktestSettings

KINDS = ("chronos2", "ewma", "garch", "oracle")
FORECASTERS = tuple(f"{kind}{form}" for kind in KINDS for form in ("", " raw"))
HOURLY = ("start=2023-10-02", "end=2024-10-31")
DAILY = ("timeframe=1d", "data.adjustment=all", "start=2018-06-01", "end=2023-12-29")
HEADS = "forecaster | e-value, mean, bound (bp a decision) | earned"


def judge(name: str, *words: str) -> str:
    """Return the row of a forecaster; `raw` after its name leaves it uncalibrated."""
    kind, *raw = name.split()
    calibrated = str(not raw).lower()
    given = (f"forecaster={kind}", f"forecaster.calibrated={calibrated}", "trials=null")
    settings = BacktestSettings.from_config(compose_config("backtest", [*words, *given]))
    market = settings.load_market()
    trader = settings.build_trader(settings.forecaster.build(market.bars.symbols))
    judgement = trader.judge_forecast(market, trader.build_beliefs(market))
    # A trader's judgement gives an oracle, which is hindsight, no fraction.
    judged = np.isfinite(judgement.difference)
    losses = judgement.largest_loss[judged]
    series = growth_evidence(judgement.difference[judged], ALPHA, losses)
    share = earned_fraction(series.lower_bound, series.mean)
    return (
        f"{name} | {series.e_value[-1]:.3g}, {1e4 * series.mean[-1]:+.3f},"
        f" {1e4 * series.lower_bound[-1]:+.3f} | {share[-1]:.2f}, {np.nanmax(share):.2f} at most"
    )


def main() -> None:
    """Print a table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name in ("hourly_stocks", "hourly_crypto", "daily_stocks"):
        parser.add_argument(name)
    parser.add_argument("--forecasters", nargs="*", default=FORECASTERS)
    given = parser.parse_args()
    both = f"data.dir=[{given.hourly_stocks},{given.hourly_crypto}]"
    for title, words in (
        ("hourly", (*HOURLY, both)),
        ("daily", (*DAILY, f"data.dir=[{given.daily_stocks}]")),
    ):
        sys.stdout.write(f"{title}: {' '.join(words)}\n{HEADS}\n")
        for name in given.forecasters:
            sys.stdout.write(f"{judge(name, *words)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
