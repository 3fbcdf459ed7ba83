"""Backtests that were run before, side by side: figures over their shared days, page and JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from forecasting.forecast import reads_future
from foundation.counts import counted
from foundation.sample_size import allows_annual_figures
from marketsimulator.results.comparison_page import Cell, figure_cell, render_comparison
from marketsimulator.results.metrics import daily_performance, returns_until_ruin
from marketsimulator.results.overfitting import overfitting
from marketsimulator.results.remarks import market_remarks
from marketsimulator.results.run_folders import (
    RunFolder,
    SharedDays,
    run_names,
    shared_days,
    varied_settings,
)
from marketsimulator.results.run_set import (
    RunSet,
    overfitting_figures,
    separation,
    set_verdict,
)
from marketsimulator.results.trials import TrialStatistics
from marketsimulator.results.variant_table import (
    add_deflated_sharpe,
    figure_heading,
    table_rows,
)
from marketsimulator.results.verdict import no_result
from trainingdata.instants import new_york_date, utc_text

COLUMNS = (
    *("total_return", "sharpe", "deflated_sharpe", "max_drawdown"),
    *("max_leverage", "costs", "trades"),
)
WHOLE = ("max_leverage", "costs", "trades")  # of a run as a whole, no part of it
REPORT = "report.html"
NAMED = 3  # markets that a sentence names


@dataclass(frozen=True, eq=False, slots=True)
class RunComparison:
    """What a set of runs amounts to.

    folders: [V].
    runs: the same over their shared days.
    table: a row a run.
    warnings: what must not be missed.
    notes: what is good to know.
    """

    folders: tuple[RunFolder, ...]
    runs: RunSet
    table: pd.DataFrame
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """The content of `comparison.json`."""
        found = separation(self.runs)
        verdict = set_verdict(self.runs, found)
        figures = json.loads(self.table.to_json(orient="records"))
        rows = []
        for k in self.runs.ranking():
            lead = found.leads[k]
            rows.append(
                {
                    "run": self.runs.names[k],
                    "folder": str(self.folders[k].path),
                    "settings": {name: self.runs.varied[name][k] for name in self.runs.varied},
                    **figures[k],
                    "against_best": found.relations[k],
                    "lead": None if lead is None else asdict(lead),
                }
            )
        return {
            "verdict": f"{verdict.claim} {verdict.rest}",
            "start": utc_text(self.runs.at[0]),
            "end": utc_text(self.runs.end),
            "days": self.runs.days,
            "overfitting": overfitting_figures(self.runs),
            "runs": rows,
            "warnings": list(self.warnings),
            "notes": list(self.notes),
        }

    def page(self, output: Path) -> str:
        """`comparison.html`; output: its folder, from which it links to each run's report."""
        heads, cells = self._cells()
        symbols = list(dict.fromkeys(s for f in self.folders for s in f.summary["symbols"]))
        sources = dict.fromkeys(folder.summary["data"] for folder in self.folders)
        return render_comparison(
            self.runs,
            f"{', '.join(map(str, symbols))} · {'; '.join(sources)}",
            heads,
            cells,
            warnings=self.warnings,
            notes=self.notes,
            links=[_link(folder.path, output) for folder in self.folders],
        )

    def _cells(self) -> tuple[list[str], list[list[Cell]]]:
        """Headings, and the cells of each run."""
        columns = [name for name in COLUMNS if name in self.table]
        cells = []
        for folder, row in zip(self.folders, table_rows(self.table), strict=True):
            ends = folder.summary.get("intervals")
            interval = ends.get("sharpe") if isinstance(ends, dict) and self._is_whole else None
            text = f"{interval[0]:.2f} … {interval[1]:.2f}" if interval else ""
            cells.append(
                [figure_cell(row, name, text if name == "sharpe" else "") for name in columns]
            )
        return [figure_heading(name) for name in columns], cells

    @property
    def _is_whole(self) -> bool:
        """Whether no run was cut."""
        return WHOLE[0] in self.table


def _link(folder: Path, output: Path) -> str:
    if not (folder / REPORT).is_file():
        return ""
    return quote(os.path.relpath(folder.resolve() / REPORT, output.resolve()))


def compare_runs(folders: Sequence[RunFolder]) -> RunComparison:
    """The runs over the days that all of them have, deflated by their number.

    Raises
    ------
    InputError
        for runs that share no day.
    """
    varied = varied_settings(folders)
    names = run_names(folders, varied)
    shared = shared_days(folders, names)
    rows = []
    for folder, daily in zip(folders, shared.daily, strict=True):
        total = float(folder.summary["total_return"]) if shared.whole else None
        figures = daily_performance(daily, shared.per_year, total_return=total).as_dict()
        whole = {name: folder.summary[name] for name in WHOLE} if shared.whole else {}
        enough = allows_annual_figures(folder.summary["trades"], shared.days)
        rows.append({**figures, **whole, "annual_figures": enough})
    table = pd.DataFrame(rows)
    ratios = table["sharpe"].to_numpy(dtype=np.float64)
    defined = ratios[np.isfinite(ratios)] / np.sqrt(shared.per_year)
    variance = float(defined.var(ddof=1)) if len(defined) > 1 else 0.0
    table = add_deflated_sharpe(table, TrialStatistics(len(folders), variance))
    reasons = [no_result(dict(folder.summary)) for folder in folders]
    runs = RunSet(
        names=names,
        varied=varied,
        at=shared.at,
        daily=shared.daily,
        end=shared.end,
        final=shared.final,
        per_year=shared.per_year,
        sharpes=ratios,
        annual=table["annual_figures"].to_numpy(dtype=bool),
        deflated=table["deflated_sharpe"].to_numpy(dtype=float),
        trials=len(folders),
        overfitting=overfitting(returns_until_ruin(shared.daily)),
        seed=0,
        no_result=next(filter(None, reasons), ""),
    )
    warnings = [*_market_warnings(folders), *_period_warnings(folders, names, shared)]
    return RunComparison(
        tuple(folders), runs, table, tuple(warnings), tuple(_ledger_notes(folders))
    )


def _market_warnings(folders: Sequence[RunFolder]) -> list[str]:
    """Why figures are no results, and whether the runs are over one market."""
    notes: dict[str, None] = {}
    for folder in folders:
        oracle = reads_future(folder.summary["forecaster"])
        notes |= dict.fromkeys(market_remarks(folder.summary["data"], reads_future=oracle))
    markets = {
        f"{', '.join(map(str, folder.summary['symbols']))} ({folder.summary['data']})": None
        for folder in folders
    }
    if len(markets) > 1:
        more = len(markets) - NAMED
        rest = f"; and {more} more" if more > 0 else ""
        notes[
            f"The runs are over {len(markets)} markets: {'; '.join(list(markets)[:NAMED])}{rest}."
            " What tells them apart may be the market and not what was decided."
        ] = None
    return list(notes)


def _period_warnings(
    folders: Sequence[RunFolder], names: Sequence[str], shared: SharedDays
) -> list[str]:
    """What was cut off to compare the same days."""
    if shared.whole:
        return []
    first, last = new_york_date(shared.at[[0, -1]])
    earliest = min(range(len(folders)), key=lambda k: folders[k].at[0])
    latest = max(range(len(folders)), key=lambda k: folders[k].at[-1])
    begin = new_york_date(folders[earliest].at[:1])[0]
    end = new_york_date(folders[latest].at[-1:])[0]
    spans = {tuple(new_york_date(folder.at[[0, -1]])) for folder in folders}
    span = f"{names[earliest]} begins on {begin}, {names[latest]} ends on {end}"
    if earliest == latest:
        span = f"{names[earliest]} is over {begin} to {end}"
    days = "is the day" if shared.days == 1 else f"are the {shared.days:,} days"
    parts = "days" if len(spans) > 1 else "hours"
    return [
        f"The runs are not over the same {parts}: {span}. Compared {days} from {first} to {last}"
        " that all have; costs and fills of whole runs are left out."
    ]


def _ledger_notes(folders: Sequence[RunFolder]) -> list[str]:
    """How many trials the ledger has counted, where that is more than the runs of the page."""
    most = max(int(folder.summary["trials"] or 0) for folder in folders)
    notes = []
    if most > len(folders):
        notes.append(
            f"The ledger had counted {counted(most, 'trial')} on these data; ratios are deflated"
            f" here by the {len(folders)} of this page, and in the runs' own reports by more."
        )
    if any(not folder.settings for folder in folders):
        notes.append("A run without config.yaml: its settings are not compared.")
    return notes


def files_of_runs(comparison: RunComparison) -> dict[str, Callable[[Path], object]]:
    """What writes `comparison.html` and `comparison.json`."""
    text = json.dumps(_plain(comparison.summary()), indent=1, allow_nan=False) + "\n"
    return {
        "comparison.html": lambda path: path.write_text(
            comparison.page(path.parent), encoding="utf-8"
        ),
        "comparison.json": lambda path: path.write_text(text),
    }


def _plain(value: Any) -> Any:
    """The same with what JSON has no word for in text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
