"""Compare choices of a plan's periods on the same synthetic markets, seed by seed.

    python studies/blocks.py [--seeds 10] [--edges 0.05 0.1 0.15 0.3] [--workers 2] [--output
    FILE.parquet]

A market's forecasts are those of the default forecaster. Prints for every edge: mean growth and
Sharpe ratio a year over the seeds, and the difference of the default plan from every other choice
on the same seeds, with its 90 % interval (Student-t).
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from forecasting.forecast import Forecaster, ForecastTable, Progress, no_progress
from foundation.compose import compose_config
from foundation.settings import with_changes
from marketsimulator.results.metrics import sample_daily_equity
from marketsimulator.runs.outcome import simulate_variants
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import Bars

PERIOD = {
    "data.start": "2023-01-02",
    "data.end": "2025-06-30",
    "start": "2024-01-02",
    "end": "2025-06-30",
}
PERIODS: dict[str, dict[str, Any]] = {
    "next": {"sizing.holding": "next"},
    "session": {"sizing.holding": "session"},
    **{f"plan, {bars} bars": {"sizing.signal_bars": bars} for bars in (2, 3, 4, 6, 12)},
    "plan, 3 bars, 7 days": {"sizing.signal_bars": 3, "prior.horizon_days": 7},
}
PAID = ", last change paid in full"
NAMES = [
    name + more
    for name in PERIODS
    for more in ("", *([PAID] if name in ("plan, 3 bars", "plan, 6 bars") else []))
]
DEFAULT = "plan, 3 bars"
PRIORS = (0.0, 0.3)  # Sharpe ratio of stocks


@dataclass
class Once:
    """A forecaster that computes each table once, and then returns the stored table."""

    inner: Forecaster
    known: dict[str, ForecastTable] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the inner forecaster's name, for reports."""
        return self.inner.name

    def forecast(self, bars: Bars, since: Any, progress: Progress = no_progress) -> ForecastTable:
        """Return the inner forecaster's table, computed once for every `since`."""
        asked = str(since)
        if asked not in self.known:
            self.known[asked] = self.inner.forecast(bars, since, progress)
        return self.known[asked]


def market(edge: float, seed: int) -> list[dict[str, Any]]:
    """Backtest every choice and prior on one synthetic market, and return one row for each.

    A row has yearly growth, yearly Sharpe ratio, turnover, and maximum drawdown.
    """
    words = {
        **PERIOD,
        "data.information_coefficient": edge,
        "seed": seed,
        "data.seed": seed,
        "trials": None,
    }
    return list(
        _rows(
            edge,
            seed,
            with_changes(BacktestSettings.from_config(compose_config("backtest", [])), words),
        )
    )


def _rows(edge: float, seed: int, settings: BacktestSettings) -> Iterator[dict[str, Any]]:
    market = settings.load_market()
    forecaster = Once(settings.forecaster.build(market.bars.symbols))
    for name, periods in PERIODS.items():
        chosen = with_changes(settings, periods)
        found = chosen.build_trader(forecaster).build_beliefs(market)
        ways = [(name, found), (name + PAID, found._replace(signal_rms=0.0 * found.signal_rms))]
        for (called, held), sharpe in itertools.product(
            [way for way in ways if way[0] in NAMES], PRIORS
        ):
            outcome = simulate_variants(
                [with_changes(chosen, {"prior.stock_sharpe": sharpe})], market, held, workers=1
            )[0]
            equity, year = sample_daily_equity(
                market.run_bars.times, outcome.equity, capital=settings.capital, has_crypto=True
            )
            daily = np.diff(np.log(equity))
            simple = np.diff(equity) / equity[:-1]
            yield {
                "edge": edge,
                "seed": seed,
                "blocks": called,
                "stock_sharpe": sharpe,
                "growth": float(daily.mean() * year),
                "sharpe": float(simple.mean() / simple.std(ddof=1) * np.sqrt(year))
                if simple.any()
                else 0.0,
                "turnover": outcome.totals.notional
                / float(outcome.equity.mean())
                / (len(daily) / year),
                "drawdown": float((1 - equity / np.maximum.accumulate(equity)).max()),
            }


def table(rows: pd.DataFrame) -> str:
    """Return a Markdown table with one row per edge, prior and choice."""
    lines = [
        "| edge | stock Sharpe | periods | growth | Sharpe | turnover | drawdown | default less it:"
        " growth | Sharpe |"
    ]
    lines.append("| --- " * 9 + "|")
    for (edge, sharpe), part in rows.groupby(["edge", "stock_sharpe"]):
        wide = part.pivot(index="seed", columns="blocks", values=["growth", "sharpe"])
        for name in NAMES:
            own = part[part["blocks"] == name]
            apart = [
                _interval(wide[what][DEFAULT] - wide[what][name]) for what in ("growth", "sharpe")
            ]
            means = own[["growth", "sharpe", "turnover", "drawdown"]].mean()
            cells = [
                f"{means['growth']:+.3f}",
                f"{means['sharpe']:.2f}",
                f"{means['turnover']:,.0f} x",
                f"{means['drawdown']:.1%}",
            ]
            lines.append(
                f"| {edge:g} | {sharpe:g} | {name} | " + " | ".join([*cells, *apart]) + " |"
            )
    return "\n".join(lines)


def _interval(apart: pd.Series) -> str:
    values = apart.to_numpy()
    if not values.any():
        return ""
    if len(values) < 2:
        return f"{values.mean():+.3f}"
    error = values.std(ddof=1) / np.sqrt(len(values)) * stats.t.ppf(0.95, len(values) - 1)
    return f"{values.mean():+.3f} ± {error:.3f}"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--edges", type=float, nargs="+", default=[0.05, 0.1, 0.15, 0.3])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--output", type=Path, default=Path(tempfile.gettempdir()) / "blocks.parquet"
    )
    asked = parser.parse_args(words)
    jobs = [(edge, seed) for seed in range(asked.seeds) for edge in asked.edges]
    with ProcessPoolExecutor(asked.workers) as pool:
        rows: list[dict[str, Any]] = []
        for found in pool.map(market, *zip(*jobs, strict=True)):
            rows += found
            pd.DataFrame(rows).to_parquet(asked.output)
    print(table(pd.DataFrame(rows)))


if __name__ == "__main__":
    main()
