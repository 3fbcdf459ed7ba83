"""Track record: figures, intervals, verdict and page of the daily returns of any account.

Bootstrap intervals, deflated Sharpe ratio and outperformance are computed as in a backtest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foundation.arrays import Array, Instants
from foundation.errors import InputError
from foundation.formatting import (
    MIN_DAYS_FOR_INTERVALS,
    MIN_FILLS_FOR_ANNUAL_FIGURES,
    allows_annual_figures,
    format_count,
    format_interval,
    format_percent,
)
from foundation.page import render_page
from foundation.tables import Cell, Row, Table, format_json
from marketsimulator.results.metrics import (
    FIGURE_FORMATS,
    Performance,
    count_periods_per_year,
    daily_returns,
    format_figure,
    measure_daily_performance,
    relative_performance,
    returns_by_period,
    wipeout_date,
)
from marketsimulator.results.returns_file import DailyReturns
from marketsimulator.results.returns_page import (
    RUN_COLOUR_NAMES,
    curves_chart,
    describe_significance,
    drawdown_chart,
    drawdown_table,
    monthly_return_table,
    rolling_charts,
    rolling_window_days,
    yearly_return_chart,
)
from marketsimulator.results.significance import (
    MIN_DEFLATED_SHARPE,
    NO_ANNUAL_FIGURES_NOTE,
    Outperformance,
    alpha_beta_intervals,
    bootstrap_intervals,
    deflated_sharpe_remarks,
    measure_outperformance,
    skill_figures,
)
from marketsimulator.results.verdict import Verdict
from trainingdata.instants import DAY, Dates, new_york_four_pm
from trainingdata.sessions import exchange_calendar

MAX_RECORD_GAP_DAYS = 10  # calendar days between rows; a note reports longer gaps
MIN_WEEKEND_SHARE = 0.1  # rows on weekends above which a year has 365 days


@dataclass(frozen=True, eq=False)
class TrackRecord:
    """Daily returns of an account or a fund, with their figures.

    Returns are fractions. Annual figures count sessions, or calendar days if the record has
    weekends.

    name: name of the account.
    dates: [D] date of each return.
    daily_equity: [1 + D] equity, or growth from 1, before the first day and at the end of each day.
    days_per_year: days per year.
    trials: number of variants tried, of which this record is the best; None: unknown.
    benchmark: record of the benchmark on the same dates, or None.
    source: description of the returns, for the page.
    notes: remarks on the returns.
    account_figures: further figures by name, as in `FIGURE_FORMATS`: exposure, turnover, costs,
        fills.
    seed: seed of the bootstrap.
    """

    name: str
    dates: Dates
    daily_equity: Array
    days_per_year: int
    trials: int | None = None
    benchmark: TrackRecord | None = None
    source: str = ""
    notes: tuple[str, ...] = ()
    account_figures: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    @classmethod
    def from_returns(
        cls,
        returns: pd.Series,
        benchmark: pd.Series | None = None,
        *,
        name: str = "returns",
        trials: int | None = None,
        source: str = "",
        account: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> TrackRecord:
        """Build the record of daily returns.

        Parameters
        ----------
        returns : [D]
            fractions, with increasing dates.
        benchmark : [B]
            daily returns. Both records compound over the intervals between their common days. Days
            that one of them lacks are removed.
        account
            further figures of the account over all days.

        Raises
        ------
        InputError
            for rows that are not daily, and for returns below -1 or not finite.
        """
        own = DailyReturns.from_series(returns, name)
        notes = []
        dates, values = own.dates, own.values
        starts = np.append(own.starts[:1], dates[:-1])
        reference = None
        if benchmark is not None:
            other = str(benchmark.name or "benchmark")
            other = "benchmark" if other == name else other
            other_returns = DailyReturns.from_series(benchmark, other)
            first, last = _common_intervals(own, other_returns, (name, other))
            starts, dates = (each.index.to_numpy("datetime64[D]") for each in (first, last))
            values, other_values = (
                series.compound(first[row].to_numpy(), last[row].to_numpy())
                for series, row in ((own, "row_record"), (other_returns, "row_benchmark"))
            )
            if len(dates) < len(returns):
                notes.append(f"Cut to the {format_count(len(dates), 'day')} that {other} covers.")
                if account:
                    account = {k: v for k, v in account.items() if k != "total_return"}
                    notes.append("Exposure, costs and fills are those of the whole run.")
            per_year = _days_per_year(starts, dates)
            reference = cls(other, dates, _growth(other_values), per_year, seed=seed)
        gaps = np.diff(dates).astype(np.int64)
        if gaps.max(initial=0) > MAX_RECORD_GAP_DAYS:
            at = int(gaps.argmax())
            notes.append(f"No returns between {dates[at]} and {dates[at + 1]} ({gaps[at]} days).")
        return cls(
            name,
            dates,
            _growth(values),
            _days_per_year(starts, dates),
            trials=trials,
            benchmark=reference,
            source=source,
            notes=tuple(notes),
            account_figures=account or {},
            seed=seed,
        )

    @property
    def days(self) -> int:
        return len(self.dates)

    @property
    def is_long_enough(self) -> bool:
        """Return whether the record is long enough for annual figures."""
        return allows_annual_figures(
            self.account_figures.get("trades", MIN_FILLS_FOR_ANNUAL_FIGURES), self.days
        )

    @cached_property
    def returns(self) -> pd.Series:
        """Return the daily returns, [D]; empty after a day without equity."""
        values = daily_returns(self.daily_equity)
        index = pd.DatetimeIndex(self.dates[: len(values)], name="date")
        return pd.Series(values, index=index, name=self.name)

    @cached_property
    def performance(self) -> Performance:
        return measure_daily_performance(self.daily_equity, self.days_per_year)

    @cached_property
    def figures(self) -> dict[str, Any]:
        """Return the figures by name: return and risk, significance, benchmark, account."""
        return {
            **self.performance.as_dict(),
            **self.account_figures,
            **skill_figures(self.performance, self.trials),
            **self._relative_figures(),
        }

    @cached_property
    def stats(self) -> pd.Series:
        """Return the figures under their standard names; fractions and USD, NaN if undefined."""
        stats = {
            figure.label: self.figures[key]
            for key, figure in FIGURE_FORMATS.items()
            if figure.label and key in self.figures
        }
        stats["Probabilistic Sharpe"] = self.figures["probabilistic_sharpe"]
        if self.trials is not None:
            stats["Deflated Sharpe"] = self.figures["deflated_sharpe"]
        return pd.Series(stats, dtype="float64", name=self.name)

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """Return the 90 % bootstrap intervals by figure, with those of alpha and beta."""
        intervals = bootstrap_intervals(
            daily_returns(self.daily_equity), self.days_per_year, seed=self.seed
        )
        pair = self._aligned_returns()
        if pair is not None:
            intervals |= alpha_beta_intervals(*pair, self.days_per_year, seed=self.seed)
        return intervals

    def _relative_figures(self) -> dict[str, float | None]:
        """Return the figures relative to the benchmark by name; empty without one."""
        pair = self._aligned_returns()
        return {} if pair is None else relative_performance(*pair, self.days_per_year).as_dict()

    @cached_property
    def outperformance(self) -> Outperformance | None:
        """Return the lead over the benchmark with its 90 % interval; None without one."""
        pair = self._aligned_returns()
        return None if pair is None else measure_outperformance(*pair, seed=self.seed)

    def _aligned_returns(self) -> tuple[Array, Array] | None:
        """Return the returns of record and benchmark, [D] each; None if one is undefined."""
        if self.benchmark is None:
            return None
        mine, other = daily_returns(self.daily_equity), daily_returns(self.benchmark.daily_equity)
        return (mine, other) if len(mine) == len(other) > 1 else None

    def warnings(self) -> list[str]:
        """Return the reasons to doubt the figures, one sentence each."""
        fills = self.account_figures.get("trades")
        sample = format_count(self.days, "day")
        sample += "" if fills is None else f" and {format_count(fills, 'fill')}"
        short = (
            [] if self.is_long_enough else [f"Small sample of {sample}: {NO_ANNUAL_FIGURES_NOTE}."]
        )
        deflated = self.figures["deflated_sharpe"]
        unstated = []
        if self.trials is None:
            unstated = [
                "Number of trials unknown: set trials=N if this is the best of N variants; the"
                " deflated Sharpe ratio accounts for them."
            ]
        return [*short, *deflated_sharpe_remarks(deflated, self.trials), *unstated, *self.notes]

    def verdict(self) -> Verdict:
        """Return the verdict: the lead over the benchmark, or the sign of the Sharpe ratio."""
        figures = self.figures
        total = (
            f"{format_percent(figures['total_return'], sign=True)} in"
            f" {format_count(self.days, 'day')}"
        )
        lost = wipeout_date(new_york_four_pm(self.dates), self.daily_equity)
        if lost:
            return Verdict("bad", f"Account lost: no equity was left on {lost}.", "")
        if self.benchmark is not None and self.outperformance is not None:
            claim, sign = _lead_claim(self.outperformance, self.benchmark)
        else:
            claim, sign = self._sharpe_claim()
        deflated = figures["deflated_sharpe"]
        sure = deflated is not None and deflated >= MIN_DEFLATED_SHARPE
        rest = "Undefined Sharpe ratio: the returns do not vary."
        if figures["probabilistic_sharpe"] is not None:
            probability = format_percent(figures["probabilistic_sharpe"], 0)
            rest = f"Probability of a Sharpe ratio above zero: {probability}"
            rest += (
                " if this was the only trial."
                if deflated is None
                else f" for one trial, {format_percent(deflated, 0)} after"
                f" {format_count(int(self.trials or 1), 'trial')} (deflated Sharpe)."
            )
        level = {1: "good" if sure else "open", 0: "open", -1: "bad"}[sign]
        return Verdict(level, f"{total}; {claim}.", rest)  # type: ignore[arg-type]

    def _sharpe_claim(self) -> tuple[str, int]:
        """Return the claim about the Sharpe ratio, and its significant sign."""
        if "sharpe" not in self.intervals:
            return f"intervals require {MIN_DAYS_FOR_INTERVALS} days with varying returns", 0
        low, high = self.intervals["sharpe"]
        sign = int(low > 0) - int(high < 0)
        words = {1: "significantly above", 0: "not significantly different from", -1: "below"}
        return f"the Sharpe ratio is {words[sign]} zero", sign

    def summary(self) -> dict[str, Any]:
        """Return the content of `tearsheet.json`."""
        verdict = self.verdict()
        lead = self.outperformance
        return {
            "name": self.name,
            "verdict": f"{verdict.claim} {verdict.evidence}".strip(),
            "start": str(self.dates[0]),
            "end": str(self.dates[-1]),
            **self.figures,
            "intervals": self.intervals,
            "benchmark": None
            if self.benchmark is None
            else {"name": self.benchmark.name, **self.benchmark.figures},
            "outperformance": None if lead is None else asdict(lead),
            "warnings": self.warnings(),
        }

    def page(self) -> str:
        """Return the record as one self-contained HTML page."""
        records = [self] if self.benchmark is None else [self, self.benchmark]
        names = [each.name for each in records]
        days: Instants = new_york_four_pm(self.dates)
        at = np.append(days[:1] - np.timedelta64(16, "h"), days)  # from midnight of the first day
        curves = [(at, each.daily_equity / each.daily_equity[0]) for each in records]
        returns = [(at, growth - 1.0) for at, growth in curves]
        growth = curves[0][1]
        return render_page(
            "marketsimulator/tearsheet.html.j2",
            record=self,
            title=track_record_heading(self),
            subtitle=self.source,
            verdict=self.verdict(),
            warnings=self.warnings(),
            significance=_describe_significance(self),
            figures=figure_table(self),
            growth=curves_chart("Cumulative returns", names, returns, "percent", format_percent),
            drawdown=drawdown_chart(names, curves),
            drawdowns=drawdown_table(at, self.daily_equity),
            months=monthly_return_table(
                *(returns_by_period(unit, at, growth, capital=1.0) for unit in "MY")
            ),
            years=yearly_return_chart(
                names,
                [returns_by_period("Y", *curve, capital=1.0) for curve in curves],
                RUN_COLOUR_NAMES,
            ),
            rolling=rolling_charts(names, curves, RUN_COLOUR_NAMES, self.days_per_year),
            window=rolling_window_days(self.days_per_year),
        )

    def file_writers(self) -> dict[str, Callable[[Path], object]]:
        """Return the writer of each file of the tear sheet, by file name."""
        text = format_json(self.summary())
        return {
            "tearsheet.html": lambda path: path.write_text(self.page(), encoding="utf-8"),
            "tearsheet.json": lambda path: path.write_text(text, encoding="utf-8"),
        }


def _lead_claim(lead: Outperformance, benchmark: TrackRecord) -> tuple[str, int]:
    """Return the claim about the lead over a benchmark, and its significant sign."""
    size = f"outperformance over {benchmark.name} {format_percent(lead.lead, sign=True)}"
    if lead.interval is None:
        return f"{size}: {'identical' if lead.is_identical else 'too few days to compare'}", 0
    words = {1: "significantly ahead", 0: "no significant difference", -1: "significantly behind"}
    return f"{size}: {words[lead.significant_sign]}", lead.significant_sign


def _growth(returns: Array) -> Array:
    return np.concatenate([[1.0], np.cumprod(1.0 + returns)])


def _days_per_year(starts: Dates, dates: Dates) -> int:
    """Return the number of returns per year, from the share of days with a return.

    starts, dates: [D] dates at the end of which each return starts and ends.
    """
    has_weekends = bool((~np.is_busday(dates)).mean() > MIN_WEEKEND_SHARE)
    sessions = exchange_calendar().dates
    ends = (np.searchsorted(sessions, each, side="right") for each in (dates, starts))
    days = int(((dates - starts) / DAY if has_weekends else np.subtract(*ends)).sum())
    per_year = count_periods_per_year(new_york_four_pm(dates), has_crypto=has_weekends)
    return round(per_year * len(dates) / max(days, 1))


def _common_intervals(
    record: DailyReturns, benchmark: DailyReturns, names: tuple[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the starts and the ends of the intervals that record and benchmark both cover.

    The index of each frame [D] is the days. The columns `row_record` and `row_benchmark` are the
    numbers of returns up to these days.

    names: names of record and benchmark, for messages.
    """
    own_bounds = record.bounds().add_suffix("_record")
    days = own_bounds.join(benchmark.bounds().add_suffix("_benchmark"), how="inner")
    starts, ends = days[:-1], days[1:]
    segments = ["segment_record", "segment_benchmark"]
    covered = (starts[segments].to_numpy() == ends[segments].to_numpy()).all(axis=1)
    if covered.sum() < MIN_DAYS_FOR_INTERVALS:
        periods = [
            f"series {name} ({each.dates[0]} to {each.dates[-1]})"
            for name, each in zip(names, (record, benchmark), strict=True)
        ]
        raise InputError(
            f"benchmark: {periods[1]} and {periods[0]} share"
            f" {format_count(int(covered.sum()), 'day')}, fewer than {MIN_DAYS_FOR_INTERVALS};"
            " choose a benchmark with a longer history"
        )
    return starts[covered], ends[covered]


def track_record_terminal_parts(record: TrackRecord) -> tuple[list[str | Table], list[str]]:
    """Return the terminal output of a track record: verdict and table, then sentences."""
    verdict = record.verdict()
    sentences = (verdict.evidence, _describe_significance(record), *record.warnings())
    title = f"{track_record_heading(record)}\n{record.source}".strip()
    table = replace(figure_table(record), title=title)
    return [verdict.claim, table], list(filter(None, sentences))


def track_record_heading(record: TrackRecord) -> str:
    """Return the name of a record with its first and last date."""
    return f"{record.name}: {record.dates[0]} to {record.dates[-1]}"


def figure_table(record: TrackRecord) -> Table:
    """Return the table of figures with 90 % intervals, and those of the benchmark."""
    annual = record.is_long_enough
    other = record.benchmark
    rows: list[Row] = []
    for key, figure in FIGURE_FORMATS.items():
        if not figure.label or key not in record.figures:
            continue
        shown = annual or not figure.is_annual
        ends = record.intervals.get(key) if shown else None
        text = format_figure(record.figures, key, annual=annual)
        row: list[str | Cell] = [
            figure.label,
            Cell(text, "strong", format_interval(ends, figure.formatter)),
        ]
        if other is not None:
            known = key in other.figures
            row.append(format_figure(other.figures, key, annual=annual) if known else "")
        rows.append(row)
    if other is not None and (lead := record.outperformance) is not None:
        signed = partial(format_percent, sign=True)
        cell = Cell(signed(lead.lead), "strong", format_interval(lead.interval, signed))
        rows.append(("Outperformance", cell, ""))
    heads = ("", record.name) if other is None else ("", record.name, other.name)
    return Table("Figures", heads, rows)


def _describe_significance(record: TrackRecord) -> str:
    summary = {"intervals": record.intervals, "annual_figures": record.is_long_enough}
    return describe_significance({**record.figures, **summary})
