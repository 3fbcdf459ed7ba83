"""Strategies side by side: what a comparison found, in a table, in sentences and in files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from forecasting.forecast import reads_future
from foundation.arrays import Array, Instants
from foundation.files import write_whole
from marketsimulator.results.comparison_charts import setting_text
from marketsimulator.results.comparison_page import Cell, number_cell, render_comparison
from marketsimulator.results.remarks import market_remarks
from marketsimulator.results.run_set import RunSet, daily_marks
from marketsimulator.results.variant_table import is_missing, table_rows
from marketsimulator.results.verdict import no_result
from marketsimulator.results.walk_forward import WalkForward
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import Bars

BENCHMARK = "buy_and_hold"
WALK_FORWARD = "walk-forward choice"
COLUMNS = (
    *("total_return", "sharpe", "deflated_sharpe", "sortino", "max_drawdown", "excess"),
    *("turnover", "costs", "trades", "max_leverage"),
)
HEADINGS = {
    "total_return": "return",
    "sharpe": "Sharpe (90 %)",
    "deflated_sharpe": "deflated",
    "sortino": "Sortino",
    "max_drawdown": "drawdown",
    "excess": f"a year beyond {BENCHMARK} (90 %)",
    "max_leverage": "leverage, max",
}
FORMATS = {
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
    """Every variant's way through the same bars; V variants, N instants.

    settings: of what was not varied.
    bars: the panel of all of them.
    table: a row a variant.
    names: of the variants [V].
    varied: values [V] of each setting that was.
    at: instants [N].
    equity: USD after each instant's fills [V, N].
    choice: what choosing among the variants by their past would have held.
    choice_intervals: 90 % intervals of the choice's yearly figures.
    sharpes: Sharpe ratio of the choice and of every variant over the days of the choice, by name.
    forecasters: their names.
    remarks: what a reader of the figures must not miss.
    """

    settings: BacktestSettings
    bars: Bars
    table: pd.DataFrame
    names: tuple[str, ...]
    varied: dict[str, tuple[Any, ...]]
    at: Instants
    equity: Array
    choice: WalkForward
    choice_intervals: dict[str, tuple[float, float]]
    sharpes: dict[str, float | None]
    forecasters: tuple[str, ...]
    remarks: tuple[str, ...]

    def ranked(self) -> pd.DataFrame:
        """The table, the best Sharpe ratio first."""
        return self.table.sort_values(
            "sharpe", ascending=False, na_position="last", ignore_index=True
        )

    def summary(self) -> dict[str, Any]:
        """The content of `comparison.json`."""
        walk_forward = {
            "chosen": [self.names[k] for k in self.choice.chosen],
            "days": len(self.choice.days),
            "sharpe": self.sharpes,
            "intervals": self.choice_intervals,
        }
        # JSON has no NaN: pandas writes null for a figure that is not defined.
        variants = json.loads(self.ranked().to_json(orient="records"))
        return {
            "data": self.bars.source,
            "symbols": list(self.bars.symbols),
            "start": pd.Timestamp(self.at[0], tz="UTC").isoformat(),
            "end": pd.Timestamp(self.at[-1], tz="UTC").isoformat(),
            "variants": variants,
            "walk_forward": walk_forward,
            "remarks": list(self.remarks),
        }

    def cells(self) -> list[tuple[str, list[str]]]:
        """Name and cells of every variant, the best first."""
        return [
            (str(row["variant"]), [cell_text(column, row) for column in COLUMNS])
            for row in table_rows(self.ranked())
        ]

    def sentences(self) -> list[str]:
        """What choosing by the past would have been worth, then the remarks."""
        return [self._choice_text(), *self.remarks]

    def page(self) -> str:
        """The content of `comparison.html`."""
        runs = variants_set(
            self.settings,
            self.bars,
            self.at,
            self.table,
            self.varied,
            self.equity,
            self.forecasters,
            self.names,
        )
        warnings = self._no_results
        return render_comparison(
            runs,
            _subtitle(self.bars),
            [HEADINGS.get(name, name).replace(" (90 %)", "") for name in COLUMNS],
            [[_figure_cell(name, row) for name in COLUMNS] for row in table_rows(self.table)],
            warnings=warnings,
            notes=[self._choice_text(), *(n for n in self.remarks if n not in warnings)],
            pinned=BENCHMARK,
        )

    @property
    def _no_results(self) -> list[str]:
        """Those of the remarks by which the figures are no results."""
        oracle = any(map(reads_future, self.forecasters))
        return market_remarks(self.bars.source, reads_future=oracle)

    def _choice_text(self) -> str:
        ratio = self.sharpes[WALK_FORWARD]
        chosen = ", ".join(self.names[k] for k in self.choice.chosen)
        text = f"Chosen fold by fold by the Sharpe ratio until then: {chosen}; Sharpe of that"
        text += " n/a" if ratio is None else f" {ratio:.2f}"
        if "sharpe" in self.choice_intervals:
            low, high = self.choice_intervals["sharpe"]
            text += f" (90 % interval {low:.2f} to {high:.2f})"
        return f"{text} over the {len(self.choice.days)} days that were not looked at first."


def column_headings() -> list[str]:
    """The headings of the columns beside the variant's name."""
    return [HEADINGS.get(column, column) for column in COLUMNS]


def cell_text(column: str, row: Mapping[str, Any]) -> str:
    """A figure as people read it; Sharpe and excess with their 90 % intervals."""
    if column == "excess":
        low = row["excess_low"]
        return "n/a" if is_missing(low) else f"{low:+.0%} … {row['excess_high']:+.0%}"
    value = row[column]
    if is_missing(value):
        return "n/a"
    text = FORMATS.get(column, "{:.2f}").format(value)
    if column != "sharpe" or is_missing(row["sharpe_low"]):
        return text
    return f"{text} ({row['sharpe_low']:.2f} … {row['sharpe_high']:.2f})"


def _figure_cell(column: str, row: Mapping[str, Any]) -> Cell:
    """A figure of the page's table, with its interval below it."""
    if column == "excess":
        low = row["excess_low"]
        return number_cell(low, cell_text(column, row))
    figure = cell_text(column, {**row, "sharpe_low": None})
    if column != "sharpe" or is_missing(row["sharpe_low"]):
        return number_cell(row[column], figure)
    ends = f"{row['sharpe_low']:.2f} … {row['sharpe_high']:.2f}"
    return number_cell(row[column], figure, ends)


def variants_set(
    settings: BacktestSettings,
    bars: Bars,
    at: Instants,
    table: pd.DataFrame,
    varied: Mapping[str, tuple[Any, ...]],
    equity: Array,
    forecasters: Iterable[str],
    names: Sequence[str] = (),
) -> RunSet:
    """Variants of one run as a set; their names say what was varied, where they have no others.

    Parameters
    ----------
    table: a row a variant, deflated.
    varied: values [V] of each setting that was.
    equity: [V, N] USD at the instants [N].
    forecasters: their names.
    """
    each = range(len(table))
    labels = [" ".join(setting_text(key, varied[key][k]) for key in varied) for k in each]
    starts = varied.get("capital", (settings.capital,) * len(table))
    coins = bool(bars.crypto.any())
    marks = [daily_marks(at, equity[k], starts[k], coins=coins) for k in each]
    return RunSet(
        names=tuple(names or labels),
        varied=varied,
        at=marks[0][0],
        daily=np.array([daily for _, daily in marks]),
        per_year=int(table["periods_per_year"].iloc[0]),
        sharpes=table["sharpe"].to_numpy(dtype=float),
        deflated=table["deflated_sharpe"].to_numpy(dtype=float),
        trials=int(table["trials"].iloc[0]),
        seed=settings.seed,
        no_result=no_result({"forecaster": " ".join(forecasters), "data": bars.source}),
    )


def variants_page(
    settings: BacktestSettings,
    bars: Bars,
    first: int,
    table: pd.DataFrame,
    varied: Mapping[str, tuple[Any, ...]],
    equity: Array,
) -> str:
    """The page of a sweep; first: number of the instant that the runs begin at."""
    forecaster = settings.forecaster.build(bars.symbols).name
    at = bars.times[first:]
    runs = variants_set(settings, bars, at, table, varied, equity, [forecaster])
    columns = [name for name in COLUMNS if name in table]
    named = table.assign(variant=list(runs.names), sharpe_low=None)
    return render_comparison(
        runs,
        _subtitle(bars),
        [HEADINGS.get(name, name).replace(" (90 %)", "") for name in columns],
        [[_figure_cell(name, row) for name in columns] for row in table_rows(named)],
        warnings=comparison_remarks(settings, bars, named, [forecaster]),
    )


def _subtitle(bars: Bars) -> str:
    return f"{', '.join(bars.symbols)} · {bars.source}"


def comparison_remarks(
    settings: BacktestSettings, bars: Bars, table: pd.DataFrame, forecasters: Iterable[str]
) -> tuple[str, ...]:
    """What a reader of the figures must not miss; forecasters: their names."""
    notes = market_remarks(bars.source, reads_future=any(map(reads_future, forecasters)))
    idle = [str(row["variant"]) for row in table_rows(table) if not row["trades"]]
    if idle:
        notes.append(f"Never traded: {', '.join(idle)}.")
    if settings.trials is None:
        notes.append(
            "These trials are in no ledger: ratios are deflated by their own number alone."
        )
    return tuple(notes)


def write_comparison(comparison: Comparison, output: Path) -> None:
    """Write every file into `output`, each put in place whole.

    Raises
    ------
    InputError
        if the folder cannot be written.
    """
    equity = pd.DataFrame(comparison.equity.T, columns=list(comparison.names))
    equity.insert(0, "at", pd.DatetimeIndex(comparison.at).tz_localize("UTC"))
    page = comparison.page()
    summary = json.dumps(comparison.summary(), indent=1, allow_nan=False) + "\n"
    writers: dict[str, Callable[[Path], object]] = {
        "comparison.parquet": lambda path: comparison.ranked().to_parquet(path, index=False),
        "equity.parquet": lambda path: equity.to_parquet(path, index=False),
        "comparison.html": lambda path: path.write_text(page, encoding="utf-8"),
        "comparison.json": lambda path: path.write_text(summary),
    }
    write_whole(writers, output)
