"""Comparison of runs over their common days: terminal table, HTML page and files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from foundation.formatting import (
    MIN_FILLS_FOR_ANNUAL_FIGURES,
    NO_VALUE,
    allows_annual_figures,
    format_count,
    format_interval,
    format_percent,
)
from foundation.tables import Cell, Row, Table, format_json
from marketsimulator.results.comparison_page import ComparisonPage, colours_by_run, growth_chart
from marketsimulator.results.metrics import (
    FIGURE_FORMATS,
    format_figure,
    measure_daily_performance,
    returns_until_ruin,
)
from marketsimulator.results.run_record import (
    RunRecord,
    format_setting,
    format_setting_value,
    unique_run_names,
    varied_settings,
)
from marketsimulator.results.run_set import (
    MAX_COMPARED_RUNS,
    BestRunComparison,
    RelationToBest,
    RunSet,
    SharedDays,
    compare_best_run,
    comparison_verdict,
    overfitting_figures,
    short_run_remarks,
)
from marketsimulator.results.significance import (
    FIGURES_WITH_INTERVALS,
    NO_ANNUAL_FIGURES_NOTE,
    Outperformance,
    bootstrap_intervals,
    deflated_sharpe,
    estimate_overfitting,
)
from marketsimulator.results.verdict import BUY_AND_HOLD, Verdict, no_evidence_reason
from trainingdata.instants import format_utc, new_york_date

WHOLE_RUN_FIGURES = ("turnover", "costs", "trades", "max_leverage")  # undefined for part of a run
MAIN_FIGURE_HEADINGS = {
    "total_return": "Return",
    "sharpe": "Sharpe",
    "max_drawdown": "Max drawdown",
}
WIDE_TABLE_HEADINGS = {  # heading by figure, of columns that narrow tables leave out
    "deflated_sharpe": "Deflated Sharpe",
    "trades": "Fills",
    "costs": "Costs",
    "sortino": "Sortino",
    "turnover": "Turnover (ann.)",
    "max_leverage": "Exposure (max)",
}
RELATION_LABELS: Mapping[RelationToBest, str] = {
    "best": "best",
    "ahead": "significantly ahead",
    "behind": "significantly behind",
    "not_significant": "not significant",
    "same": "identical",
    "insufficient_data": "too few days",
    "ruined": "wiped out",
    "left out": "not compared",
}
REPORT_FILE = "report.html"
MAX_ROWS_PRINTED = 20  # runs on the terminal; the page has all


@dataclass(frozen=True, eq=False, slots=True)
class Comparison:
    """V runs compared over their common days.

    records: [V] complete runs.
    run_set: runs cut to their common days.
    best_run_comparison: comparison of the best run with the others.
    warnings: warnings about the data that may affect the figures.
    notes: remarks on the method of the runs.
    """

    records: tuple[RunRecord, ...]
    run_set: RunSet
    best_run_comparison: BestRunComparison
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return self.run_set.names

    @property
    def table(self) -> pd.DataFrame:
        return self.run_set.table

    @property
    def verdict(self) -> Verdict:
        return comparison_verdict(self.run_set, self.best_run_comparison)

    def sentences(self) -> list[str]:
        """Return the sentences below the verdict: supporting figures, warnings and notes."""
        return [self.verdict.evidence, *self._all_warnings(), *self.notes]

    def terminal_table(self) -> Table:
        """Return the table for the terminal: the first runs of the ranking."""
        return self._ranking_table({}, MAX_ROWS_PRINTED)

    def _all_warnings(self) -> list[str]:
        return [*self.warnings, *short_run_remarks(self.run_set)]

    def _subtitle(self) -> str:
        return f"{', '.join(self._symbols())} · {self._distinct_values('data')}"

    def _ranking_table(
        self, colours: Mapping[int, str], shown: int, links: Sequence[str] | None = None
    ) -> Table:
        """Return the table of the ranking, with one row per run.

        colours: chart colour of each run that has one, by run number.
        shown: maximum number of rows.
        links: [V] links to the runs' reports; empty strings for runs without a report.
        """
        figures = frame_to_rows(self.table)
        main, more = (
            {name: heading for name, heading in headings.items() if name in self.table}
            for headings in (MAIN_FIGURE_HEADINGS, WIDE_TABLE_HEADINGS)
        )
        rows: list[Row] = [
            (
                Cell(
                    self.names[k],
                    subtext=self._format_varied_settings(k),
                    line_colour=colours.get(k, ""),
                    link=links[k] if links else "",
                ),
                *(_cell(figures[k], name) for name in main),
                _lead_cell(self.best_run_comparison.outperformances[k]),
                RELATION_LABELS[self.best_run_comparison.relations[k]],
                *(_cell(figures[k], name) for name in more),
            )
            for k in self.run_set.ranking()[:shown]
        ]
        if "deflated_sharpe" in more:
            count = format_count(int(self.table["trials"].iloc[0]), "trial")
            more["deflated_sharpe"] += f" ({count})"
        heads = ("Run", *main.values(), "vs best", "Significance", *more.values())
        significance = len(main) + 2
        return Table(
            self._subtitle(),
            heads,
            rows,
            left_aligned_columns=(significance,),
            optional_columns=range(significance, len(heads)),
        )

    def _format_varied_settings(self, k: int) -> str:
        """Return the varied settings of run `k` as text, without those that its name contains."""
        name = self.names[k] if self.records[k].path is None else ""
        varied = {setting: values[k] for setting, values in self.run_set.varied_settings.items()}
        return ", ".join(
            format_setting(setting, value)
            for setting, value in varied.items()
            if not {format_setting_value(value), f"{setting}={format_setting_value(value)}"}
            & set(name.split())
        )

    def summary(self) -> dict[str, Any]:
        """Return the content of `comparison.json`."""
        verdict = self.verdict
        # JSON has no NaN: pandas writes null for a figure that is not defined.
        figures = json.loads(self.table.to_json(orient="records", double_precision=15))
        rows = []
        for k in self.run_set.ranking():
            outperformance, folder = (
                self.best_run_comparison.outperformances[k],
                self.records[k].path,
            )
            rows.append(
                {
                    **figures[k],
                    "folder": None if folder is None else str(folder),
                    "settings": {
                        name: self.run_set.varied_settings[name][k]
                        for name in self.run_set.varied_settings
                    },
                    "against_best": self.best_run_comparison.relations[k],
                    "outperformance": None if outperformance is None else asdict(outperformance),
                }
            )
        return {
            "verdict": f"{verdict.claim} {verdict.evidence}",
            "data": self._distinct_values("data"),
            "symbols": self._symbols(),
            "start": format_utc(self.run_set.instants[0]),
            "end": format_utc(self.run_set.instants[-1]),
            "days": self.run_set.days,
            "overfitting": overfitting_figures(self.run_set),
            "runs": rows,
            "warnings": list(self.warnings),
            "notes": list(self.notes),
        }

    def render_page(self, output: Path) -> str:
        """Return the HTML of `comparison.html`.

        output: folder of the page; links to the runs' reports are relative to it.
        """
        colours = colours_by_run(self.run_set)
        links = [_link(record.path, output) for record in self.records]
        first, last = new_york_date(self.run_set.instants[[0, -1]])
        sheet = ComparisonPage(
            title=f"{format_count(len(self.names), 'run')}, {first} to {last}",
            subtitle=f"{self._subtitle()} · dates are New York's, amounts are USD",
            verdict=self.verdict,
            table=self._ranking_table(colours, len(links), links),
            warnings=self._all_warnings(),
            notes=self.notes,
        )
        return sheet.render(
            "marketsimulator/comparison.html.j2",
            per_year=self.run_set.days_per_year,
            best=self.names[self.best_run_comparison.best_run_index],
            rule=NO_ANNUAL_FIGURES_NOTE,
            growth=growth_chart(self.run_set, colours),
        )

    def file_writers(self) -> dict[str, Callable[[Path], object]]:
        """Return the writer of each file of the comparison, by file name."""
        text = format_json(_to_json_value(self.summary()))
        return {
            "comparison.html": lambda path: path.write_text(
                self.render_page(path.parent), encoding="utf-8"
            ),
            "comparison.json": lambda path: path.write_text(text),
        }

    def _symbols(self) -> list[str]:
        return list(dict.fromkeys(str(s) for r in self.records for s in r.summary["symbols"]))

    def _distinct_values(self, name: str) -> str:
        """Return the different values of a summary key among all runs, as one text."""
        return "; ".join(dict.fromkeys(str(record.summary[name]) for record in self.records))


def compare_records(
    records: Sequence[RunRecord],
    counted_trials: int | None = None,
    notes: Sequence[str] = (),
    *,
    seed: int = 0,
) -> Comparison:
    """Compare two or more runs over their common days.

    records: the runs.
    counted_trials: number of trials in the ledger; None counts these runs. The Sharpe ratios are
        deflated by the largest of this number and the numbers that the runs have stored.
    notes: remarks on the method of the runs.
    seed: seed of the bootstrap.
    """
    names = unique_run_names(records)
    shared = SharedDays.from_records(records)
    if counted_trials is None:
        counted_trials = sum(record.is_trial for record in records)
    trials = max(counted_trials, *(record.summary["trials"] or 0 for record in records))
    table = _comparison_table(records, names, shared, trials)
    reasons = [
        no_evidence_reason(run.summary["forecaster"], run.summary["data"]) for run in records
    ]
    runs = RunSet(
        *(getattr(shared, field.name) for field in fields(shared)),
        names=names,
        varied_settings=varied_settings(records),
        table=table,
        overfitting=estimate_overfitting(returns_until_ruin(shared.daily_equity)),
        seed=seed,
        no_evidence_reason=" and ".join(dict.fromkeys(filter(None, reasons))),
    )
    _add_intervals(runs)
    warnings = [
        *_market_warnings(records),
        *([] if shared.covers_whole_runs else [_describe_common_period(shared)]),
    ]
    return Comparison(tuple(records), runs, compare_best_run(runs), tuple(warnings), tuple(notes))


def _comparison_table(
    records: Sequence[RunRecord], names: Sequence[str], shared: SharedDays, trials: int
) -> pd.DataFrame:
    """Return a table of figures over the common days, with one row per run.

    Each Sharpe ratio is deflated by the number of all trials, because the best run is selected
    among them. If all runs cover the same period, the figures of the complete runs are added.
    """
    whole = [name for name in (*WHOLE_RUN_FIGURES, "costs_by_kind") if shared.covers_whole_runs]
    whole = [name for name in whole if all(name in record.summary for record in records)]
    rows = []
    for record, name, daily in zip(records, names, shared.daily_equity, strict=True):
        figures = measure_daily_performance(daily, shared.days_per_year)
        deflated = deflated_sharpe(figures, trials)
        row = {"run": name, **figures.as_dict(), "deflated_sharpe": deflated}
        for figure in whole:
            value = record.summary[figure]
            kinds = value if isinstance(value, dict) else None
            row |= (
                {f"cost_{kind}": usd for kind, usd in kinds.items()} if kinds else {figure: value}
            )
        # Buy and hold trades too rarely for a minimum of fills.
        holds = name.split(" ")[0] == BUY_AND_HOLD
        fills = MIN_FILLS_FOR_ANNUAL_FIGURES if holds else record.summary["trades"]
        annual = allows_annual_figures(fills, shared.days)
        rows.append({**row, "annual_figures": annual, "trials": trials})
    # A column of None alone would hold objects without a type named, and Parquet something else.
    return pd.DataFrame(rows).astype({"deflated_sharpe": "float64"})


def frame_to_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def is_undefined_figure(value: Any) -> bool:
    """Return whether a figure is undefined: None, or NaN in a column of numbers."""
    return value is None or value != value


def _add_intervals(runs: RunSet) -> None:
    """Add columns with 90 % intervals to the table; only the best runs have values in them."""
    table = runs.table
    returns = returns_until_ruin(runs.daily_equity)
    for name in FIGURES_WITH_INTERVALS:
        table[[f"{name}_low", f"{name}_high"]] = np.nan
    for k in runs.ranking()[: MAX_COMPARED_RUNS + 1]:
        found = bootstrap_intervals(returns[k], runs.days_per_year, seed=runs.seed)
        for name in FIGURES_WITH_INTERVALS:
            table.loc[k, [f"{name}_low", f"{name}_high"]] = found.get(name, (np.nan, np.nan))


def _cell(row: Mapping[str, Any], column: str) -> Cell:
    """Return a table cell with a figure; the Sharpe ratio has its 90 % interval below it."""
    text = format_figure(row, column, annual=row["annual_figures"])
    if column == "sharpe" and row["annual_figures"] and not is_undefined_figure(row["sharpe_low"]):
        ends = (row["sharpe_low"], row["sharpe_high"])
        return Cell(text, subtext=format_interval(ends, FIGURE_FORMATS[column].formatter, " … "))
    return Cell(text)


def _lead_cell(lead: Outperformance | None) -> Cell:
    """Return a table cell with a run's lead over the best run and its 90 % interval below."""
    if lead is None:
        return Cell(NO_VALUE)
    ends = format_interval(lead.interval, partial(format_percent, places=1, sign=True), " … ")
    return Cell(format_percent(lead.lead, sign=True), subtext=ends)


def _link(folder: Path | None, output: Path) -> str:
    if folder is None or not (folder / REPORT_FILE).is_file():
        return ""
    return quote(os.path.relpath(folder.resolve() / REPORT_FILE, output.resolve()))


def _market_warnings(records: Sequence[RunRecord]) -> list[str]:
    """Return a warning if the runs do not have the same symbols and data, else an empty list."""
    markets = dict.fromkeys(
        f"{', '.join(map(str, record.summary['symbols']))} ({record.summary['data']})"
        for record in records
    )
    if len(markets) == 1:
        return []
    return [
        f"The runs use {len(markets)} different markets: {'; '.join(markets)}. Differences may"
        " come from the market instead of the settings."
    ]


def _describe_common_period(shared: SharedDays) -> str:
    first, last = new_york_date(shared.instants[[0, -1]])
    return (
        "The runs cover different periods. They are compared over their"
        f" {format_count(shared.days, 'common day')} from {first} to {last}, without the"
        " costs and fills of whole runs."
    )


def _to_json_value(value: Any) -> Any:
    """Convert a value for JSON: NaN and infinite numbers to None, unsupported types to text."""
    if isinstance(value, Mapping):
        return {str(key): _to_json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json_value(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
