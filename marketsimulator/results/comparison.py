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
from marketsimulator.results.comparison_charts import setting_text
from marketsimulator.results.comparison_page import Cell, figure_cell, render_comparison
from marketsimulator.results.metrics import returns_until_ruin
from marketsimulator.results.overfitting import overfitting
from marketsimulator.results.remarks import doubt_remarks, market_remarks
from marketsimulator.results.run_set import (
    RunSet,
    all_lost,
    annual_remarks,
    best_first,
    daily_marks,
    overfitting_figures,
    overfitting_text,
)
from marketsimulator.results.trials import NO_LEDGER
from marketsimulator.results.variant_table import (
    figure_heading,
    figure_text,
    is_missing,
    shown_figure,
    table_rows,
)
from marketsimulator.results.verdict import no_result
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import Bars

BENCHMARK = "buy_and_hold"
COLUMNS = (
    *("total_return", "sharpe", "deflated_sharpe", "sortino", "max_drawdown", "excess"),
    *("turnover", "costs", "trades", "max_leverage"),
)
EXCESS = f"return a year beyond {BENCHMARK}"


@dataclass(frozen=True, eq=False, slots=True)
class Comparison:
    """Every variant's way through the same bars; V variants, N instants.

    settings: of what was not varied.
    bars: the panel of all of them.
    table: a row a variant.
    runs: the variants as a set over the same days.
    at: instants [N].
    equity: USD after each instant's fills [V, N].
    forecasters: their names.
    remarks: what a reader of the figures must not miss.
    """

    settings: BacktestSettings
    bars: Bars
    table: pd.DataFrame
    runs: RunSet
    at: Instants
    equity: Array
    forecasters: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the variants, [V]."""
        return self.runs.names

    def ranked(self) -> pd.DataFrame:
        """The table, the best first."""
        return ranked_table(self.table).reset_index(drop=True)

    def summary(self) -> dict[str, Any]:
        """The content of `comparison.json`."""
        # JSON has no NaN: pandas writes null for a figure that is not defined.
        variants = json.loads(self.ranked().to_json(orient="records"))
        return {
            "data": self.bars.source,
            "symbols": list(self.bars.symbols),
            "start": pd.Timestamp(self.at[0], tz="UTC").isoformat(),
            "end": pd.Timestamp(self.at[-1], tz="UTC").isoformat(),
            "variants": variants,
            "overfitting": overfitting_figures(self.runs),
            "remarks": list(self.remarks),
        }

    def cells(self) -> list[tuple[str, list[str]]]:
        """Name and cells of every variant, the best first."""
        return [
            (str(row["variant"]), [cell_text(column, row) for column in COLUMNS])
            for row in table_rows(self.ranked())
        ]

    def sentences(self) -> list[str]:
        """What choosing the best comes to, then the remarks."""
        return [overfitting_text(self.runs), *short_remarks(self.ranked()), *self.remarks]

    def page(self) -> str:
        """The content of `comparison.html`."""
        warnings = self._no_results
        return render_comparison(
            self.runs,
            _subtitle(self.bars),
            list(map(_heading, COLUMNS)),
            [[_page_cell(row, name) for name in COLUMNS] for row in table_rows(self.table)],
            warnings=warnings,
            notes=[note for note in self.remarks if note not in warnings],
            pinned=BENCHMARK,
        )

    @property
    def _no_results(self) -> list[str]:
        """Those of the remarks by which the figures are no results."""
        oracle = any(map(reads_future, self.forecasters))
        return market_remarks(self.bars.source, reads_future=oracle)


def ranked_table(table: pd.DataFrame) -> pd.DataFrame:
    """A table of variants, the best first, as `best_first`; its index keeps their numbers."""
    sharpes, totals = (table[name].to_numpy(dtype=float) for name in ("sharpe", "total_return"))
    return table.iloc[best_first(sharpes, totals)]


def short_remarks(table: pd.DataFrame) -> list[str]:
    """Which variants of a table, ranked and named, are too short for yearly figures."""
    annual = table["annual_figures"].to_numpy(dtype=bool)
    lost = all_lost(table["total_return"].to_numpy(dtype=float))
    return annual_remarks(list(table["variant"]), annual, int(table["days"].iloc[0]), lost=lost)


def column_headings() -> list[str]:
    """The headings of the columns beside the variant's name."""
    with_intervals = ("sharpe", "excess")
    return [
        f"{_heading(column)} (90 %)" if column in with_intervals else _heading(column)
        for column in COLUMNS
    ]


def cell_text(column: str, row: Mapping[str, Any]) -> str:
    """A figure as people read it; Sharpe and excess with their 90 % intervals."""
    if column == "excess":
        return _excess_text(row) or "n/a"
    text = figure_text(row, column)
    ends = _sharpe_ends(row) if column == "sharpe" else ""
    return f"{text} ({ends})" if ends else text


def _heading(column: str) -> str:
    return EXCESS if column == "excess" else figure_heading(column)


def _page_cell(row: Mapping[str, Any], column: str) -> Cell:
    """A figure of the page's table, with its interval below it."""
    if column == "excess":
        text = _excess_text(row)
        return Cell(text, repr(float(row["excess_low"]))) if text else Cell("n/a")
    return figure_cell(row, column, _sharpe_ends(row) if column == "sharpe" else "")


def _excess_text(row: Mapping[str, Any]) -> str:
    """The interval of a yearly return; empty where there is none, or too little for a year."""
    low = row["excess_low"]
    if is_missing(low) or not row["annual_figures"]:
        return ""
    return f"{low:+.0%} … {row['excess_high']:+.0%}"


def _sharpe_ends(row: Mapping[str, Any]) -> str:
    if shown_figure(row, "sharpe") is None or is_missing(row["sharpe_low"]):
        return ""
    return f"{row['sharpe_low']:.2f} … {row['sharpe_high']:.2f}"


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
    daily = np.array([values for _, values in marks])
    return RunSet(
        names=tuple(names or labels),
        varied=varied,
        at=marks[0][0],
        daily=daily,
        end=at[-1],
        final=equity[:, -1],
        per_year=int(table["periods_per_year"].iloc[0]),
        sharpes=table["sharpe"].to_numpy(dtype=float),
        annual=table["annual_figures"].to_numpy(dtype=bool),
        deflated=table["deflated_sharpe"].to_numpy(dtype=float),
        trials=int(table["trials"].iloc[0]),
        overfitting=overfitting(returns_until_ruin(daily)),
        seed=settings.seed,
        no_result=no_result({"forecaster": " ".join(forecasters), "data": bars.source}),
    )


def _subtitle(bars: Bars) -> str:
    return f"{', '.join(bars.symbols)} · {bars.source}"


def comparison_remarks(
    settings: BacktestSettings, bars: Bars, table: pd.DataFrame, forecasters: Iterable[str]
) -> tuple[str, ...]:
    """What a reader of the figures must not miss; forecasters: their names."""
    notes = doubt_remarks(bars)
    notes += market_remarks(bars.source, reads_future=any(map(reads_future, forecasters)))
    idle = [str(row["variant"]) for row in table_rows(table) if not row["trades"]]
    if idle:
        notes.append(f"Never traded: {', '.join(idle)}.")
    if settings.trials is None:
        notes.append(NO_LEDGER)
    return tuple(notes)


def comparison_files(comparison: Comparison) -> dict[str, Callable[[Path], object]]:
    """What writes each file of a comparison."""
    equity = pd.DataFrame(comparison.equity.T, columns=list(comparison.names))
    equity.insert(0, "at", pd.DatetimeIndex(comparison.at).tz_localize("UTC"))
    page = comparison.page()
    summary = json.dumps(comparison.summary(), indent=1, allow_nan=False) + "\n"
    return {
        "comparison.parquet": lambda path: comparison.ranked().to_parquet(path, index=False),
        "equity.parquet": lambda path: equity.to_parquet(path, index=False),
        "comparison.html": lambda path: path.write_text(page, encoding="utf-8"),
        "comparison.json": lambda path: path.write_text(summary),
    }
