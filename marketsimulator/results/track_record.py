"""Track record: daily returns of any account, judged by this project's figures.

The bootstrap intervals, the deflated Sharpe ratio and the outperformance are those of a backtest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foundation.arrays import Array
from foundation.errors import InputError
from foundation.formatting import (
    MIN_ANNUAL_FILLS,
    MIN_INTERVAL_DAYS,
    allows_annual_figures,
    count_text,
    percent,
)
from foundation.tables import json_text
from marketsimulator.results.metrics import (
    TABLE_FIGURES,
    Performance,
    count_periods_per_year,
    daily_returns,
    measure_daily_performance,
    relative_performance,
    wipeout_date,
)
from marketsimulator.results.remarks import (
    MIN_DEFLATED_SHARPE,
    NO_ANNUAL_FIGURES_NOTE,
    deflated_sharpe_remarks,
)
from marketsimulator.results.significance import (
    Outperformance,
    bootstrap_intervals,
    deflated_sharpe,
    measure_outperformance,
    probabilistic_sharpe,
    relative_intervals,
    sharpe_variance,
)
from marketsimulator.results.verdict import Verdict
from trainingdata.instants import Dates, four_pm
from trainingdata.sessions import calendar

MIN_RETURNS = 2  # daily returns that make a deviation
MAX_MEDIAN_GAP = 3  # calendar days between daily rows; 7 are weeks
MAX_GAP = 10  # calendar days without a row that a remark reports
WEEKEND_SHARE = 0.1  # of rows on Saturdays and Sundays, from which days are calendar days


@dataclass(frozen=True, eq=False)
class TrackRecord:
    """Daily returns of an account or a fund, with their figures.

    Returns are signed fractions. Figures are annualised by the sessions of a year, or by its
    calendar days if the record has weekends.

    name: name of the account.
    dates: [D] date of each return.
    daily: [1 + D] equity, or growth from 1, before the first day and at the end of each day.
    per_year: days per year.
    trials: number of variants tried, of which this record is the best; None: not stated.
    benchmark: record of the benchmark on the same dates, or None.
    source: description of the returns for the page.
    notes: remarks on the returns.
    account: further figures of an account by name, as in `TABLE_FIGURES`: exposure, turnover,
        costs, fills.
    seed: seed of the bootstrap.
    """

    name: str
    dates: Dates
    daily: Array
    per_year: int
    trials: int | None = None
    benchmark: TrackRecord | None = None
    source: str = ""
    notes: tuple[str, ...] = ()
    account: Mapping[str, Any] = field(default_factory=dict)
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
            fractions; the index has one increasing date a row.
        benchmark : [B]
            daily returns on its own dates. Its returns compound between the dates of the record,
            and the record is cut to the days that both cover.
        account
            further figures of the account over all days.

        Raises
        ------
        InputError
            for rows that are not daily, and for returns below -1 or not finite.
        """
        dates, values = _checked_returns(returns, name)
        notes = []
        reference = None
        if benchmark is not None:
            other = str(benchmark.name or "benchmark")
            dates, values, aligned = _common_days(dates, values, benchmark, (name, other))
            if len(dates) < len(returns):
                notes.append(f"Cut to the {count_text(len(dates), 'day')} that {other} covers.")
                if account:
                    account = {**account}
                    account.pop("total_return", None)
                    notes.append("Exposure, costs and fills are those of the whole run.")
            reference = cls(other, dates, _growth(aligned), _days_per_year(dates), seed=seed)
        gaps = np.diff(dates).astype(np.int64)
        if gaps.max(initial=0) > MAX_GAP:
            at = int(gaps.argmax())
            notes.append(f"No row for {gaps[at]} days, from {dates[at]} to {dates[at + 1]}.")
        return cls(
            name,
            dates,
            _growth(values),
            _days_per_year(dates),
            trials=trials,
            benchmark=reference,
            source=source,
            notes=tuple(notes),
            account=account or {},
            seed=seed,
        )

    @property
    def days(self) -> int:
        return len(self.dates)

    @property
    def is_long_enough(self) -> bool:
        """Return whether the record is long enough for annual figures."""
        return allows_annual_figures(self.account.get("trades", MIN_ANNUAL_FILLS), self.days)

    @cached_property
    def returns(self) -> pd.Series:
        """Return the daily returns, [D]; empty after a day without equity."""
        values = daily_returns(self.daily)
        index = pd.DatetimeIndex(self.dates[: len(values)], name="date")
        return pd.Series(values, index=index, name=self.name)

    @cached_property
    def performance(self) -> Performance:
        return measure_daily_performance(self.daily, self.per_year)

    @cached_property
    def figures(self) -> dict[str, Any]:
        """Return the figures by name: return and risk, significance, benchmark, account."""
        return {
            **self.performance.as_dict(),
            **self.account,
            **self._significance(),
            **self._relation(),
        }

    @cached_property
    def stats(self) -> pd.Series:
        """Return the figures under their standard names; fractions and USD, NaN if undefined."""
        found = {
            each.label: self.figures[key]
            for key, each in TABLE_FIGURES.items()
            if each.label and key in self.figures
        }
        found["Probabilistic Sharpe"] = self.figures["probabilistic_sharpe"]
        if self.trials is not None:
            found["Deflated Sharpe"] = self.figures["deflated_sharpe"]
        return pd.Series(found, dtype="float64", name=self.name)

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """Return the 90 % bootstrap intervals by figure, with those of alpha and beta."""
        found = bootstrap_intervals(daily_returns(self.daily), self.per_year, seed=self.seed)
        pair = self._pair()
        if pair is None:
            return found
        return found | relative_intervals(*pair, self.per_year, seed=self.seed)

    def _relation(self) -> dict[str, float | None]:
        """Return the figures against the benchmark by name; empty without one."""
        pair = self._pair()
        return {} if pair is None else relative_performance(*pair, self.per_year).as_dict()

    @cached_property
    def outperformance(self) -> Outperformance | None:
        """Return the lead over the benchmark with its 90 % interval; None without one."""
        pair = self._pair()
        return None if pair is None else measure_outperformance(*pair, seed=self.seed)

    def _pair(self) -> tuple[Array, Array] | None:
        """Return the returns of record and benchmark, [D] each; None if one is undefined."""
        if self.benchmark is None:
            return None
        mine, other = daily_returns(self.daily), daily_returns(self.benchmark.daily)
        return (mine, other) if len(mine) == len(other) > 1 else None

    def _significance(self) -> dict[str, float | int | None]:
        """Return the probabilistic and the deflated Sharpe ratio.

        Only the number of trials is known. Their Sharpe ratios are assumed to vary as estimates of
        zero over these days do, which holds for unrelated trials without skill.
        """
        figures = self.performance
        ratio = figures.daily_sharpe()
        shape = (figures.skewness, figures.excess_kurtosis, figures.autocorrelation)
        found: dict[str, float | int | None] = {
            "probabilistic_sharpe": None,
            "deflated_sharpe": None,
            "trials": self.trials,
        }
        if ratio is None or None in shape:
            return found
        skewness, kurtosis, correlation = (float(value or 0.0) for value in shape)
        words: dict[str, Any] = {
            "skewness": skewness,
            "excess_kurtosis": kurtosis,
            "autocorrelation": correlation,
        }
        found["probabilistic_sharpe"] = probabilistic_sharpe(ratio, self.days, **words)
        if self.trials is not None:
            variance = sharpe_variance(0.0, skewness, kurtosis, correlation) / (self.days - 1)
            found["deflated_sharpe"] = deflated_sharpe(
                ratio, self.days, trials=self.trials, variance=variance, **words
            )
        return found

    def warnings(self) -> list[str]:
        """Return the doubts about the figures, one sentence each."""
        short = [] if self.is_long_enough else [f"{self._size()}: {NO_ANNUAL_FIGURES_NOTE}."]
        deflated = self.figures["deflated_sharpe"]
        unstated = []
        if self.trials is None:
            unstated = ["Trials are not stated: a Sharpe ratio chosen among N needs trials=N."]
        return [*short, *deflated_sharpe_remarks(deflated, self.trials), *unstated, *self.notes]

    def _size(self) -> str:
        fills = self.account.get("trades")
        text = f"Small sample of {count_text(self.days, 'day')}"
        return text if fills is None else f"{text} and {count_text(fills, 'fill')}"

    def verdict(self) -> Verdict:
        """Return the verdict: the lead over the benchmark, or the sign of the Sharpe ratio."""
        figures = self.figures
        total = f"{percent(figures['total_return'], sign=True)} in {count_text(self.days, 'day')}"
        lost = wipeout_date(four_pm(self.dates), self.daily)
        if lost:
            return Verdict("bad", f"Account lost: no equity was left on {lost}.", "")
        if self.benchmark is not None and self.outperformance is not None:
            claim, sign = _lead_claim(self.outperformance, self.benchmark)
        else:
            claim, sign = self._sharpe_claim()
        deflated = figures["deflated_sharpe"]
        sure = deflated is not None and deflated >= MIN_DEFLATED_SHARPE
        rest = "No variance: nothing to judge."
        if figures["probabilistic_sharpe"] is not None:
            rest = f"Probability of skill: {percent(figures['probabilistic_sharpe'], 0)}"
            rest += (
                " if this was the only trial."
                if deflated is None
                else f" for one trial, {percent(deflated, 0)} after"
                f" {count_text(int(self.trials or 1), 'trial')} (deflated Sharpe)."
            )
        level = {1: "good" if sure else "open", 0: "open", -1: "bad"}[sign]
        return Verdict(level, f"{total}; {claim}.", rest)  # type: ignore[arg-type]

    def _sharpe_claim(self) -> tuple[str, int]:
        """Return what the interval of the Sharpe ratio shows, and the sign it proves."""
        if "sharpe" not in self.intervals:
            return f"intervals need {count_text(MIN_INTERVAL_DAYS, 'day')} with moves", 0
        low, high = self.intervals["sharpe"]
        sign = int(low > 0) - int(high < 0)
        text = {1: "significantly above", 0: "not significantly different from", -1: "below"}[sign]
        return f"the Sharpe ratio is {text} zero", sign

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
        from marketsimulator.results.track_record_page import render_track_record

        return render_track_record(self)

    def files(self) -> dict[str, Callable[[Path], object]]:
        """Return the writer of each file of the tear sheet, by file name."""
        text = json_text(self.summary())
        return {
            "tearsheet.html": lambda path: path.write_text(self.page(), encoding="utf-8"),
            "tearsheet.json": lambda path: path.write_text(text, encoding="utf-8"),
        }


def _lead_claim(lead: Outperformance, benchmark: TrackRecord) -> tuple[str, int]:
    """Return the claim about the lead over a benchmark, and its significant sign."""
    size = f"lead over {benchmark.name} {percent(lead.lead, sign=True)}"
    if lead.interval is None:
        return f"{size}: {'identical' if lead.is_identical else 'too few days to compare'}", 0
    words = {1: "significantly ahead", 0: "no significant difference", -1: "significantly behind"}
    return f"{size}: {words[lead.significant_sign]}", lead.significant_sign


def _growth(returns: Array) -> Array:
    return np.concatenate([[1.0], np.cumprod(1.0 + returns)])


def _days_per_year(dates: Dates) -> int:
    has_weekends = bool((~np.is_busday(dates)).mean() > WEEKEND_SHARE)
    return count_periods_per_year(four_pm(dates), has_crypto=has_weekends)


def _checked_returns(returns: pd.Series, name: str) -> tuple[Dates, Array]:
    """Return the dates [D] and the values [D] of daily returns."""
    index = returns.index
    if not isinstance(index, pd.DatetimeIndex) or index.hasnans:
        raise InputError(f"{name}: the index must be dates (a DatetimeIndex)")
    dates = index.tz_localize(None).to_numpy("datetime64[D]")
    try:
        values = returns.to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: {error}") from error
    if len(dates) < MIN_RETURNS:
        raise InputError(f"{name}: {MIN_RETURNS} daily returns are needed; it has {len(dates)}")
    steps = np.diff(dates).astype(np.int64)
    if (steps <= 0).any():
        row = int((steps <= 0).argmax()) + 1
        what = "appears twice" if steps[row - 1] == 0 else f"follows {dates[row - 1]}"
        raise InputError(f"{name}: {dates[row]} {what}; one row a day, oldest first")
    first, last = calendar().dates[[0, -1]]
    for date in dates[[0, -1]]:
        if not first <= date <= last:
            raise InputError(f"{name}: {date} is outside the calendar, {first} to {last}")
    if np.median(steps) > MAX_MEDIAN_GAP:
        raise InputError(
            f"{name}: rows are {np.median(steps):g} days apart; daily returns are needed"
        )
    wrong = ~np.isfinite(values) | (values < -1)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{name}: {dates[row]}: a return of {values[row]:g}, below -1 or not finite"
        )
    return dates, values


def _common_days(
    dates: Dates, returns: Array, benchmark: pd.Series, names: tuple[str, str]
) -> tuple[Dates, Array, Array]:
    """Cut a record to the days that a benchmark covers; return dates, returns and the benchmark's.

    names: names of record and benchmark, for messages.
    """
    own, values = _checked_returns(benchmark, names[1])
    levels = _growth(values)  # [1 + B]: at a date all returns up to it have compounded
    reached = np.searchsorted(own, dates, side="right")
    before = np.append(np.searchsorted(own, dates[:1], side="left"), reached[:-1])
    covered = (dates >= own[0]) & (dates <= own[-1] + np.timedelta64(MAX_GAP, "D"))
    if covered.sum() < MIN_INTERVAL_DAYS:
        raise InputError(
            f"benchmark: {names[1]} ({own[0]} to {own[-1]}) and {names[0]} ({dates[0]} to"
            f" {dates[-1]}) share {count_text(int(covered.sum()), 'day')}; {MIN_INTERVAL_DAYS} are"
            " needed"
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        moves = levels[reached] / levels[before] - 1.0
    moves[~np.isfinite(moves)] = 0.0
    return dates[covered], returns[covered], moves[covered]
