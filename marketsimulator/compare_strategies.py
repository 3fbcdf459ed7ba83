"""The named strategies side by side: the same bars, forecasts, limits, costs and margin.

    python -m marketsimulator.compare_strategies [strategies=[kelly_50,risk_parity,…]] [key=value …]
    \
        ['vary={sizing.holding: [next, session]}']

Every variant is a backtest of its own. All of them enter the trial ledger, and each Sharpe ratio is
deflated by their number.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from execution.trader import Trader
from forecasting.forecast import Progress, silent
from foundation.arrays import Array, Instants
from foundation.command import ProgressBar, log_to_file, one_line
from foundation.compose import hydra_command
from foundation.errors import InputError
from foundation.files import check_output, write_whole
from marketsimulator.results.comparison_page import render_comparison
from marketsimulator.results.metrics import daily_equity
from marketsimulator.results.significance import intervals
from marketsimulator.results.summary import Results
from marketsimulator.results.variant_table import (
    Chosen,
    check_trials,
    combinations,
    deflated,
    recorded,
    rows_of,
)
from marketsimulator.results.walk_forward import WalkForward, fold_edges, walk_forward
from marketsimulator.runs.simulate import run_decider
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import Bars

BENCHMARK = "buy_and_hold"
PANEL = ("data", "symbols", "start", "end", "days", "increments", "seed", "trials", "output")
OWN = ("strategies", "vary", "folds")
COLUMNS = (
    *("total_return", "sharpe", "deflated_sharpe", "sortino", "max_drawdown", "excess"),
    *("turnover", "costs", "trades", "max_leverage"),
)
HEADS = {
    "total_return": "return",
    "sharpe": "Sharpe (90 %)",
    "deflated_sharpe": "deflated",
    "sortino": "Sortino",
    "max_drawdown": "drawdown",
    "excess": f"a year beyond {BENCHMARK} (90 %)",
    "max_leverage": "leverage, max",
}
STYLE = {
    "total_return": "{:+.2%}",
    "max_drawdown": "{:.2%}",
    "deflated_sharpe": "{:.0%}",
    "costs": "${:,.0f}",
    "trades": "{:,.0f}",
    "turnover": "{:,.0f}x",
    "max_leverage": "{:.2f}x",
}


@dataclass(frozen=True, eq=False, slots=True)
class Comparison:
    """Every variant's way through the same bars.

    table: a row a variant; names [V]. at [N], equity [V, N]: USD after each instant. choice: what
    choosing by the past would have held; luck: 90 % intervals of its yearly figures, fixed: its
    Sharpe ratio and that of every variant over the same days.
    """

    bars: Bars
    table: pd.DataFrame
    names: tuple[str, ...]
    at: Instants
    equity: Array
    choice: WalkForward
    luck: dict[str, tuple[float, float]]
    fixed: dict[str, float | None]
    remarks: tuple[str, ...]

    def ranked(self) -> pd.DataFrame:
        """The best Sharpe ratio first."""
        return self.table.sort_values(
            "sharpe", ascending=False, na_position="last", ignore_index=True
        )

    def summary(self) -> dict[str, Any]:
        """The content of `comparison.json`."""
        picked = [self.names[k] for k in self.choice.chosen]
        walked = {
            "chosen": picked,
            "days": len(self.choice.days),
            "sharpe": self.fixed,
            "intervals": self.luck,
        }
        return {
            "data": self.bars.source,
            "symbols": list(self.bars.symbols),
            "start": f"{pd.Timestamp(self.at[0], tz='UTC').isoformat()}",
            "end": f"{pd.Timestamp(self.at[-1], tz='UTC').isoformat()}",
            "variants": json.loads(self.ranked().to_json(orient="records")),
            "walk_forward": walked,
            "remarks": list(self.remarks),
        }


def compare(
    settings: BacktestSettings,
    strategies: Sequence[str],
    vary: Mapping[str, Sequence[Any]] | None = None,
    *,
    folds: int = 6,
    progress: Progress = silent,
) -> Comparison:
    """Run every strategy, with every combination of what is varied, over the same bars and
    forecasts.

    Raises
    ------
    InputError
        for settings, data, strategies or variations that cannot be used.
    """
    if not strategies:
        raise InputError("strategies: name at least one")
    fixed_ones = [name for name in vary or {} if name.partition(".")[0] in PANEL]
    if fixed_ones:
        raise InputError(
            f"vary.{fixed_ones[0]}: variants share their bars; compare others in a run of their own"
        )
    variants = combinations(
        settings, {"sizing.strategy": list(dict.fromkeys(strategies)), **(vary or {})}
    )
    names = tuple(" ".join([chosen["sizing.strategy"], *_varied(chosen)]) for chosen, _ in variants)
    check_trials(settings)
    bars, begin = settings.panel()
    at = bars.times[begin:]
    whole, per_year = daily_equity(
        at,
        np.full(len(at), settings.capital),
        capital=settings.capital,
        coins=bool(bars.crypto.any()),
    )
    fold_edges(len(whole) - 1, folds)
    traders: dict[str, Trader] = {}
    rows = []
    curves = []
    daily = []
    for number, ((chosen, variant), name) in enumerate(zip(variants, names, strict=True)):
        trader = _prepared(variant, bars, traders, progress)
        run = run_decider(variant, bars, begin, name, trader, level=logging.DEBUG)
        results = Results(variant, bars, begin, run, (), 0.0)
        _, equity = run.curve()
        curves.append(equity)
        daily.append(
            _survived(daily_equity(at, equity, capital=variant.capital, coins=results.coins)[0])
        )
        spread = intervals(daily[-1], per_year, seed=settings.seed)
        rows.append({"variant": name, **chosen, **_scalars(results.figures(run)), **_ends(spread)})
        progress("variants", number + 1, len(variants))
    table = pd.DataFrame(rows)
    returns = np.array(daily)
    _add_excess(table, returns, per_year, settings.seed)
    table = deflated(table, recorded(settings, variants, table, bars, begin))
    choice = walk_forward(returns, folds)
    luck = intervals(choice.returns, per_year, seed=settings.seed)
    held = {
        "walk-forward choice": choice.returns,
        **dict(zip(names, returns[:, choice.days], strict=True)),
    }
    fixed = {name: _sharpe(series, per_year) for name, series in held.items()}
    return Comparison(
        bars,
        table,
        names,
        at,
        np.array(curves),
        choice,
        luck,
        fixed,
        _remarks(settings, bars, table),
    )


def _prepared(
    variant: BacktestSettings, bars: Bars, traders: dict[str, Trader], progress: Progress
) -> Trader:
    """The variant's trader, with beliefs that variants share where nothing that they come from
    differs.
    """
    trader = variant.trader(variant.forecaster.build(bars.symbols))
    rule = variant.sizing.volatility
    blocks = trader.blocks
    shared = (variant.forecaster, variant.correlation, rule, blocks, variant.data, variant.symbols)
    if (known := traders.get(repr(shared))) is None:
        first = int(np.searchsorted(bars.times, variant.span(bars)[0]))
        known = traders[repr(shared)] = variant.prepared(trader, bars, first, progress)
    return replace(trader, table=known.table)


def _varied(chosen: Chosen) -> list[str]:
    return [f"{key}={value}" for key, value in chosen.items() if key != "sizing.strategy"]


def _survived(daily: Array) -> Array:
    """Returns [D] of daily equity [1 + D]; all is lost once nothing is left, and nothing moves
    after that.
    """
    before = daily[:-1]
    alive = np.minimum.accumulate(before) > 0
    return (
        np.divide(np.maximum(daily[1:], 0.0), before, out=np.ones(len(before)), where=alive) - 1.0
    )


def _sharpe(returns: Array, per_year: int) -> float | None:
    deviation = float(returns.std(ddof=1)) if len(returns) > 1 else 0.0
    return float(returns.mean() / deviation * np.sqrt(per_year)) if deviation > 0 else None


def _scalars(figures: dict[str, Any]) -> dict[str, Any]:
    """What fits into a cell, and the kinds of cost."""
    kinds = {f"cost_{kind}": usd for kind, usd in figures["costs_by_kind"].items()}
    return {
        **{key: value for key, value in figures.items() if not isinstance(value, dict)},
        **kinds,
    }


def _ends(spread: Mapping[str, tuple[float, float]]) -> dict[str, float | None]:
    """Both ends of the interval of each figure."""
    names = ("annual_return", "sharpe", "max_drawdown")
    return {
        f"{n}_{end}": spread[n][k] if n in spread else None
        for n in names
        for k, end in enumerate(("low", "high"))
    }


def _add_excess(table: pd.DataFrame, returns: Array, per_year: int, seed: int) -> None:
    """90 % interval of the yearly return beyond the benchmark's, from the differences of the
    same days.
    """
    rows = np.flatnonzero(table["sizing.strategy"] == BENCHMARK)
    for end in ("excess_low", "excess_high"):
        table[end] = np.nan
    for k in range(len(table)) if len(rows) else ():
        found = intervals(returns[k] - returns[rows[0]], per_year, seed=seed).get("annual_return")
        table.loc[k, ["excess_low", "excess_high"]] = found or (np.nan, np.nan)


def _remarks(settings: BacktestSettings, bars: Bars, table: pd.DataFrame) -> tuple[str, ...]:
    """What a reader of the figures must not miss."""
    notes = []
    if bars.source.startswith("synthetic"):
        notes.append(
            f"The bars are a {bars.source}: the figures say nothing about any real market."
        )
    if settings.forecaster.kind == "oracle":
        notes.append("The oracle reads the future: what it earns is not a result.")
    idle = [str(row["variant"]) for row in rows_of(table) if not row["trades"]]
    if idle:
        notes.append(f"Never traded: {', '.join(idle)}.")
    if settings.trials is None:
        notes.append(
            "These trials are in no ledger: ratios are deflated by their own number alone."
        )
    return tuple(notes)


def _show(found: Comparison, output: Path) -> None:
    trials = int(found.table["trials"].iloc[0])
    title = (
        f"{len(found.table)} variants, {trials} tried on these"
        f" data\n{', '.join(found.bars.symbols)}\n{found.bars.source}"
    )
    shown = Table("variant", *(HEADS.get(c, c) for c in COLUMNS), title=title)
    for row in rows_of(found.ranked()):
        shown.add_row(str(row["variant"]), *(cell(column, row) for column in COLUMNS))
    console = Console(width=None if sys.stdout.isatty() else 170)
    console.print(shown)
    for line in (walked(found), *found.remarks):
        console.print(line, soft_wrap=True, highlight=False)
    console.print(f"Report: {output / 'comparison.html'}", soft_wrap=True, highlight=False)


def cell(column: str, row: Mapping[str, Any]) -> str:
    """A figure as people read it; Sharpe and excess with their 90 % intervals."""
    if column == "excess":
        low = row["excess_low"]
        high = row["excess_high"]
        return "n/a" if low is None or low != low else f"{low:+.0%} … {high:+.0%}"
    value = row[column]
    if value is None or value != value:
        return "n/a"
    text = STYLE.get(column, "{:.2f}").format(value)
    low = row.get(f"{column}_low") if column == "sharpe" else None
    return text if low is None or low != low else f"{text} ({low:.2f} … {row['sharpe_high']:.2f})"


def walked(found: Comparison) -> str:
    """What choosing by the past would have been worth, in a sentence."""
    ratio = found.fixed["walk-forward choice"]
    picked = ", ".join(found.names[k] for k in found.choice.chosen)
    text = f"Chosen fold by fold by the Sharpe ratio until then: {picked}; Sharpe of that"
    text += " n/a" if ratio is None else f" {ratio:.2f}"
    if "sharpe" in found.luck:
        low, high = found.luck["sharpe"]
        text += f" (90 % interval {low:.2f} to {high:.2f})"
    return f"{text} over the {len(found.choice.days)} days that were not looked at first."


def _write(found: Comparison, output: Path) -> None:
    """Every file, each put in place whole."""
    heads = [HEADS.get(c, c) for c in COLUMNS]
    cells = [
        (str(row["variant"]), [cell(column, row) for column in COLUMNS])
        for row in rows_of(found.ranked())
    ]
    notes = [walked(found), *found.remarks]
    equity = pd.DataFrame(found.equity.T, columns=list(found.names))
    equity.insert(0, "at", pd.DatetimeIndex(found.at).tz_localize("UTC"))
    page = render_comparison(found.bars, heads, cells, notes, equity)
    summary = json.dumps(found.summary(), indent=1, allow_nan=False) + "\n"
    writers: dict[str, Callable[[Path], object]] = {
        "comparison.parquet": lambda path: found.ranked().to_parquet(path, index=False),
        "equity.parquet": lambda path: equity.to_parquet(path, index=False),
        "comparison.html": lambda path: path.write_text(page, encoding="utf-8"),
        "comparison.json": lambda path: path.write_text(summary),
    }
    write_whole(writers, output)


def _run_composed(config: DictConfig) -> None:
    with one_line("nothing was written") as made:
        plain: Any = OmegaConf.to_container(OmegaConf.masked_copy(config, list(OWN)), resolve=True)
        settings = BacktestSettings.of(
            OmegaConf.masked_copy(config, [str(key) for key in config if key not in OWN])
        )
        strategies = plain["strategies"]
        vary = plain["vary"]
        folds = plain["folds"]
        strategies = [strategies] if isinstance(strategies, str) else strategies
        if (
            not isinstance(strategies, list)
            or not isinstance(vary or {}, dict)
            or not isinstance(folds, int)
        ):
            raise InputError(
                "strategies, vary, folds: a list, settings with lists of values, and a number are"
                " needed"
            )
        output = Path(settings.output)
        made.append(output)
        check_output(output)
        log_to_file("compare")
        with ProgressBar() as progress:
            found = compare(settings, strategies, vary, folds=folds, progress=progress)
        _write(found, output)
    _show(found, output)


def main() -> None:
    """Hydra entry."""
    hydra_command("compare", _run_composed)


if __name__ == "__main__":
    main()
