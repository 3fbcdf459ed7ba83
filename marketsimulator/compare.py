r"""Backtests side by side: strategies over the same forecasts, or runs that were made before.

    python -m marketsimulator.compare [strategies=[kelly_50,risk_parity,…]] \
        ['vary={sizing.holding: [next, session]}'] [key=value …]
    python -m marketsimulator.compare RUN RUN … [output=DIR]

Every strategy, with every combination of what is varied, is a backtest of its own over the same
bars, forecasts, limits, costs and margin. All of them enter the trial ledger, and each Sharpe ratio
is deflated by their number.

RUN is the folder of a backtest (its summary.json and equity.parquet), or one that holds several.
Runs over different periods are compared over the days that all of them have. A Hydra multirun of
the backtest leaves the same page.
"""

from __future__ import annotations

from foundation.command import start

if __name__ == "__main__":
    start("marketsimulator.compare")

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from execution.records import Run
from execution.trader import Trader
from forecasting.forecast import Progress, silent
from foundation.arrays import Array
from foundation.command import Result
from foundation.errors import InputError
from marketsimulator.results.comparison import (
    BENCHMARK,
    Comparison,
    column_headings,
    comparison_files,
    comparison_remarks,
    variants_set,
)
from marketsimulator.results.comparison_page import SAYS
from marketsimulator.results.metrics import daily_equity, returns_until_ruin
from marketsimulator.results.run_comparison import RunComparison, compare_runs, files_of_runs
from marketsimulator.results.run_folders import read_run, run_paths
from marketsimulator.results.run_set import length_remarks, separation, set_verdict
from marketsimulator.results.significance import FIGURES, intervals
from marketsimulator.results.summary import Results
from marketsimulator.results.trials import check_ledger
from marketsimulator.results.variant_table import (
    Variation,
    add_deflated_sharpe,
    annual_flags,
    combinations,
    figure_heading,
    figure_text,
    record_variants,
    table_rows,
    variants_heading,
)
from marketsimulator.runs.simulate import simulate_trading
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import Bars
from trainingdata.correlation import KeptCorrelations
from trainingdata.coverage import coverage_parts

STRATEGY = "sizing.strategy"
FRACTION = "sizing.fraction"
# Settings that all variants share: another panel is another comparison.
PANEL_KEYS = ("data", "symbols", "start", "end", "days", "increments", "seed", "trials", "output")
COMPARISON_KEYS = ("runs", "strategies", "vary")  # beside those of a backtest
RUN_COLUMNS = ("total_return", "sharpe", "deflated_sharpe", "max_drawdown")
SHOWN = 20  # runs on the screen; the page has all

Variants = list[tuple[Variation, BacktestSettings]]


def compare(
    settings: BacktestSettings,
    strategies: Sequence[str],
    vary: Mapping[str, Sequence[Any]] | None = None,
    *,
    progress: Progress = silent,
) -> Comparison:
    """Run every strategy, with every combination of what is varied, over the same bars.

    Parameters
    ----------
    settings: of a backtest; what is varied takes the place of its values.
    strategies: their names.
    vary: values by setting.
    progress: called as forecasts and variants are done.

    Raises
    ------
    InputError
        for settings, data, strategies or variations that cannot be used.
    """
    variants = _variants(settings, strategies, vary or {})
    names = tuple(_variant_name(variation, variant) for variation, variant in variants)
    _refuse_same_names(variants, names)
    check_ledger(settings.trials)
    bars, begin = settings.panel()
    at = bars.times[begin:]

    rows, equity, returns = _run_variants(variants, names, bars, begin, progress)
    table = pd.DataFrame(rows)
    table["annual_figures"] = annual_flags(table, BENCHMARK)
    per_year = int(table["periods_per_year"].iloc[0])
    _add_excess(table, returns, per_year, settings.seed)
    table = add_deflated_sharpe(table, record_variants(settings, variants, table, bars, begin))

    built = (variant.forecaster.build(bars.symbols) for _, variant in variants)
    forecasters = tuple(dict.fromkeys(forecaster.name for forecaster in built))
    varied = {key: tuple(each[key] for each, _ in variants) for key in variants[0][0]}
    runs = variants_set(settings, bars, at, table, varied, equity, forecasters, names)
    return Comparison(
        settings=settings,
        bars=bars,
        table=table,
        runs=runs,
        at=at,
        equity=equity,
        forecasters=forecasters,
        remarks=comparison_remarks(settings, bars, table, forecasters),
    )


def _variants(
    settings: BacktestSettings, strategies: Sequence[str], vary: Mapping[str, Sequence[Any]]
) -> Variants:
    if not strategies:
        raise InputError("strategies: name at least one")
    for name in vary:
        if name.partition(".")[0] in PANEL_KEYS:
            raise InputError(
                f"vary.{name}: variants share their bars; compare others in a run of their own"
            )
    unique = list(dict.fromkeys(strategies))
    return combinations(settings, {STRATEGY: unique, **vary})


def _variant_name(variation: Variation, variant: BacktestSettings) -> str:
    """The strategy's name with the fraction that is used, then what was varied beside it."""
    named = (STRATEGY, FRACTION)
    changes = [f"{key}={value}" for key, value in variation.items() if key not in named]
    return " ".join([variant.sizing.label, *changes])


def _refuse_same_names(variants: Variants, names: Sequence[str]) -> None:
    """Refuse a fraction that makes one strategy of two."""
    strategies: dict[str, str] = {}
    for (variation, _), name in zip(variants, names, strict=True):
        other = strategies.setdefault(name, variation[STRATEGY])
        if other != variation[STRATEGY]:
            raise InputError(
                f"{FRACTION}: it takes the place of the one in a name, so that {other} and"
                f" {variation[STRATEGY]} are both {name}; leave it out, or name one of them"
            )


def _run_variants(
    variants: Variants, names: Sequence[str], bars: Bars, begin: int, progress: Progress
) -> tuple[list[dict[str, Any]], Array, Array]:
    """The table's rows [V], equity [V, N] in USD and daily returns [V, D] of every variant."""
    traders: dict[str, Trader] = {}
    correlations: dict[str, KeptCorrelations] = {}
    rows = []
    curves = []
    returns = []
    for (variation, variant), name in zip(variants, names, strict=True):
        trader = _variant_trader(variant, bars, traders, correlations, progress)
        run = simulate_trading(variant, bars, begin, name, trader, level=logging.DEBUG)
        results = Results(variant, bars, begin, run, (), 0.0)
        at, equity = run.curve()
        daily, per_year = daily_equity(at, equity, capital=variant.capital, coins=results.coins)
        curves.append(equity)
        returns.append(returns_until_ruin(daily))
        rows.append(
            {
                "variant": name,
                **variation,
                **_scalar_figures(results, run),
                **_interval_ends(intervals(returns[-1], per_year, seed=variant.seed)),
            }
        )
        progress("variants", len(rows), len(variants))
    return rows, np.array(curves), np.array(returns)


def _variant_trader(
    variant: BacktestSettings,
    bars: Bars,
    traders: dict[str, Trader],
    correlations: dict[str, KeptCorrelations],
    progress: Progress,
) -> Trader:
    """The variant's trader, with beliefs from `traders` where a variant before has the same.

    Beliefs depend on the bars, the forecaster, the correlation, the volatility rule and the blocks
    of time, and on nothing else: what was forecast for one variant is not forecast again, nor is a
    correlation estimated twice.
    """
    name = repr(variant.correlation)
    if name not in correlations:
        correlations[name] = KeptCorrelations(variant.correlation.source())
    trader = variant.trader(variant.forecaster.build(bars.symbols))
    trader = replace(trader, correlations=correlations[name])
    rule = variant.sizing.volatility
    sources = variant.forecaster, variant.correlation, rule, trader.blocks
    key = repr((*sources, variant.data, variant.symbols))
    if key not in traders:
        first = int(np.searchsorted(bars.times, variant.span(bars)[0]))
        traders[key] = variant.trader_with_beliefs(trader, bars, first, progress)
    return replace(trader, table=traders[key].table)


def _scalar_figures(results: Results, run: Run) -> dict[str, Any]:
    """The run's figures that fit into a cell, and a column for each kind of cost."""
    figures = results.figures(run)
    columns = {key: value for key, value in figures.items() if not isinstance(value, dict)}
    columns |= {f"cost_{kind}": usd for kind, usd in figures["costs_by_kind"].items()}
    return columns


def _interval_ends(ends: Mapping[str, tuple[float, float]]) -> dict[str, float | None]:
    """Both ends of the interval of each figure, None for one without."""
    columns: dict[str, float | None] = {}
    for name in FIGURES:
        columns[f"{name}_low"], columns[f"{name}_high"] = ends.get(name, (None, None))
    return columns


def _add_excess(table: pd.DataFrame, returns: Array, per_year: int, seed: int) -> None:
    """Add the 90 % interval of the yearly return beyond the benchmark's.

    It comes from the differences of the same days: what moves both on a day leaves them, so that
    the interval is narrower than the difference of two intervals.
    """
    columns = ["excess_low", "excess_high"]
    for column in columns:
        table[column] = np.nan
    benchmarks = np.flatnonzero(table[STRATEGY] == BENCHMARK)
    if not len(benchmarks):
        return
    for k in range(len(table)):
        difference = returns[k] - returns[benchmarks[0]]
        ends = intervals(difference, per_year, seed=seed).get("annual_return")
        table.loc[k, columns] = ends or (np.nan, np.nan)


@dataclass(frozen=True, slots=True)
class ComparisonSettings:
    """What is compared: `runs`, or else strategies and what is varied beside them.

    runs: folders of backtests, or folders that hold some.
    strategies: names.
    vary: values by setting.
    backtest: settings of what is not varied.
    """

    runs: tuple[Path, ...]
    strategies: tuple[str, ...]
    vary: Mapping[str, Sequence[Any]]
    backtest: BacktestSettings

    @classmethod
    def of(cls, config: DictConfig) -> ComparisonSettings:
        """The checked settings of a composed configuration."""
        chosen = OmegaConf.masked_copy(config, list(COMPARISON_KEYS))
        options: Any = OmegaConf.to_container(chosen, resolve=True)
        keys = [str(key) for key in config if key not in COMPARISON_KEYS]
        backtest = BacktestSettings.of(OmegaConf.masked_copy(config, keys))
        runs, strategies, vary = (options[key] for key in COMPARISON_KEYS)
        strategies = [strategies] if isinstance(strategies, str) else strategies
        if not isinstance(strategies, list) or not isinstance(vary or {}, dict):
            raise InputError(
                "strategies, vary: a list, and settings with lists of values are needed"
            )
        places = tuple(Path(str(run)).expanduser() for run in runs)
        return cls(places, tuple(map(str, strategies)), vary or {}, backtest)


def run(settings: ComparisonSettings, progress: Progress) -> Result:
    """The page on what can be told apart beyond error, and the table."""
    if settings.runs:
        return _result_of_runs(compare_runs([read_run(path) for path in run_paths(settings.runs)]))
    backtest = settings.backtest
    comparison = compare(backtest, settings.strategies, settings.vary, progress=progress)
    heading = variants_heading(comparison.table, backtest)
    title = f"{heading}\n{', '.join(comparison.bars.symbols)}\n{comparison.bars.source}"
    table = Table("variant", *column_headings(), title=title)
    for name, cells in comparison.cells():
        table.add_row(name, *cells)
    return Result(
        [*coverage_parts(comparison.bars, backtest.start, backtest.end), table],
        comparison.sentences(),
        comparison_files(comparison),
    )


def _result_of_runs(comparison: RunComparison) -> Result:
    runs = comparison.runs
    found = separation(runs)
    rows = table_rows(comparison.table)
    table = Table("run", *map(figure_heading, RUN_COLUMNS), "against the best")
    for k in runs.ranking()[:SHOWN]:
        figures = [figure_text(rows[k], name) for name in RUN_COLUMNS]
        table.add_row(runs.names[k], *figures, SAYS[found.relations[k]])
    verdict = set_verdict(runs, found)
    sentences = [verdict.claim, verdict.rest, *comparison.warnings, *length_remarks(runs)]
    return Result([table], [*sentences, *comparison.notes], files_of_runs(comparison))
