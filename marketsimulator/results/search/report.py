"""Report of a search: verdict, tables, page and JSON document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from foundation.arrays import Array
from foundation.charts import Chart
from foundation.formatting import (
    NO_VALUE,
    format_count,
    format_interval,
    format_number,
    format_percent,
)
from foundation.tables import Cell, Table, format_json
from marketsimulator.results.comparison_page import ComparisonPage
from marketsimulator.results.remarks import data_warning_remarks
from marketsimulator.results.returns_page import RUN_COLOUR_NAMES, curves_chart
from marketsimulator.results.search.space import format_params
from marketsimulator.results.search.walk import SearchResult, SpanChoice, cumulative_growth
from marketsimulator.results.significance import MIN_DEFLATED_SHARPE
from marketsimulator.results.trials import NO_LEDGER_NOTE
from marketsimulator.results.verdict import Verdict, no_evidence_reason, qualify_claim

NO_SKILL_PBO = 0.5  # probability of backtest overfitting of variants without skill
SEARCH_PAGE_FILE = "search.html"
SEARCH_RESULT_FILE = "search.json"
CHOSEN, DEFAULT = "chosen settings", "default settings"
BEST_IN_SAMPLE_LABEL = "best trial, in sample"
CURVE_COLOURS = dict(zip((CHOSEN, DEFAULT), RUN_COLOUR_NAMES, strict=False))  # curves, table rows
LEDGER_OFF_NOTE = NO_LEDGER_NOTE.format("ledger=null")

format_signed_percent = partial(format_percent, places=1, sign=True)


class SearchReport:
    """Figures, verdict and texts of a search.

    result: result of the search.
    has_ledger: true if a trial ledger counts earlier trials, too.
    """

    def __init__(self, result: SearchResult, *, has_ledger: bool) -> None:
        self.result = result
        self._notes = [
            *data_warning_remarks(result.market.data_warnings),
            *([] if has_ledger else [LEDGER_OFF_NOTE]),
            "Both accounts start every test span in cash and pay for their first positions again.",
        ]
        self.outperformance = result.outperformance()
        self.deflated = result.deflated_sharpe()
        self._returns = {CHOSEN: result.chosen_returns, DEFAULT: result.default_returns}
        self._figures = {name: result.performance(each) for name, each in self._returns.items()}
        self._intervals = {
            name: result.confidence_intervals(each) for name, each in self._returns.items()
        }
        source = result.market.bars.source
        reasons = [no_evidence_reason(each, source) for each in result.forecasters]
        self._no_evidence = " and ".join(dict.fromkeys(filter(None, reasons)))

    @property
    def failed_criteria(self) -> list[str]:
        """Criteria that the search fails, as texts; empty if it found better settings.

        The chosen settings must earn money on the test spans and significantly outperform the
        default settings; the deflated Sharpe ratio of the best trial must rule out luck, and the
        probability of backtest overfitting must be below that of chance.
        """
        lead, overfitting = self.outperformance, self.result.overfitting
        failed = []
        if self._figures[CHOSEN].total_return <= 0:
            failed.append("the chosen settings earned nothing on the test spans")
        if lead is None or lead.significant_sign < 1:
            failed.append("the outperformance over the default settings is not significant")
        if self.deflated is None or self.deflated < MIN_DEFLATED_SHARPE:
            failed.append(
                "the deflated Sharpe ratio of the best trial is"
                f" {_format_probability(self.deflated)}, below"
                f" {format_percent(MIN_DEFLATED_SHARPE, 0)}"
            )
        if overfitting is not None and overfitting.probability >= NO_SKILL_PBO:
            failed.append(
                f"PBO is {format_percent(overfitting.probability, 0)}, not below"
                f" {format_percent(NO_SKILL_PBO, 0)}"
            )
        return failed

    @property
    def verdict(self) -> Verdict:
        """Verdict on whether the search found better settings, with the criteria it fails."""
        lead = "an account was wiped out"
        if self.outperformance is not None:
            ends = format_interval(self.outperformance.interval, format_signed_percent)
            ahead = self.outperformance.lead
            lead = f"{'ahead' if ahead >= 0 else 'behind'} by {format_percent(abs(ahead), 1)}"
            lead += f" (90% interval {ends})" if ends else ""
        claim = "nothing found" if self.failed_criteria else "found"
        earned = format_signed_percent(self._figures[CHOSEN].total_return)
        default = format_signed_percent(self._figures[DEFAULT].total_return)
        claim += (
            f": on {format_count(len(self.result.tested_choices), 'test span')} the"
            f" chosen settings earned {earned}, the default settings {default}; {lead}."
        )
        return Verdict(
            "bad" if self._no_evidence else "open" if self.failed_criteria else "good",
            qualify_claim(self._no_evidence, claim),
            self._evidence(),
        )

    def _evidence(self) -> str:
        failed = self.failed_criteria
        sentences = [f"Nothing found because {'; '.join(failed)}"] if failed else []
        count = format_count(self.result.trial_count, "trial")
        sentences.append(
            "Deflated Sharpe of the best trial on the last training span after"
            f" {count}: {_format_probability(self.deflated)}"
        )
        overfitting = self.result.overfitting
        if overfitting is not None:
            sentences.append(
                "PBO (probability of backtest overfitting) there:"
                f" {format_percent(overfitting.probability, 0)} (chance:"
                f" {format_percent(NO_SKILL_PBO, 0)})"
            )
        last = self.result.choices[-1]
        sentences.append(
            f"Choice of the last training span, not yet tested: {format_params(last.params)}"
        )
        return f"{'. '.join(sentences)}."

    def sentences(self) -> list[str]:
        """Return the sentences below the tables."""
        return [self.verdict.evidence, *self._notes]

    def total_figure_table(self) -> Table:
        """Return the table of chosen and default settings on test spans, and of the best trial."""
        rows = []
        for name, returns in (
            *self._returns.items(),
            (BEST_IN_SAMPLE_LABEL, self.result.choices[-1].training_returns),
        ):
            figures = self.result.performance(returns)
            ends = {} if name == BEST_IN_SAMPLE_LABEL else self._intervals[name]
            sharpe = format_interval(ends.get("sharpe"), partial(format_number, places=1), " … ")
            rows.append(
                (
                    Cell(name, line_colour=CURVE_COLOURS.get(name, "")),
                    format_signed_percent(figures.total_return),
                    Cell(format_number(figures.sharpe), subtext=sharpe),
                    format_percent(figures.max_drawdown, 1),
                    _format_probability(self.deflated) if name == BEST_IN_SAMPLE_LABEL else "",
                )
            )
        heads = ("All test spans", "Return", "Sharpe", "Max drawdown", "Deflated Sharpe")
        return Table(self._title(), heads, rows)

    def chosen_settings_table(self) -> Table:
        """Return a table of each training span's choice, with its return on the next span."""
        heads = ("Test span", "Chosen settings", "Training objective", "Return", "Default return")
        rows = [
            (
                " to ".join(choice.fold.test_span.date_range)
                if choice.fold.test_span
                else "after the last bar",
                format_params(choice.params),
                format_number(choice.objective_value),
                _format_total_return(choice.test_returns),
                _format_total_return(choice.default_test_returns),
            )
            for choice in self.result.choices
        ]
        title = (
            f"Settings chosen by {self.result.plan.options.objective}, and what they earned next"
        )
        return Table(title, heads, rows, left_aligned_columns=(1,), optional_columns=(2,))

    def _title(self) -> str:
        bars = self.result.market.run_bars
        return f"{', '.join(bars.symbols)} · {bars.source}"

    def summary(self) -> dict[str, Any]:
        """Return the content of `search.json`."""
        result, verdict = self.result, self.verdict
        return {
            "verdict": f"{verdict.claim} {verdict.evidence}",
            "found": not self.failed_criteria,
            "failed_criteria": self.failed_criteria,
            "no_evidence": self._no_evidence or None,
            "data": result.market.bars.source,
            "symbols": list(result.market.bars.symbols),
            "objective": result.plan.options.objective,
            "trials": result.trial_count,
            "trials_per_span": result.plan.options.trials,
            "deflated_sharpe": self.deflated,
            "lead": None if self.outperformance is None else asdict(self.outperformance),
            "overfitting": None if result.overfitting is None else asdict(result.overfitting),
            "out_of_sample": {
                name: {**self._figures[name].as_dict(), "intervals": self._intervals[name]}
                for name in self._returns
            },
            "spans": [_span_summary(choice) for choice in result.choices],
            "notes": self._notes,
        }

    def render_page(self) -> str:
        """Return the HTML of `search.html`."""
        first, _ = self.result.tested_choices[0].fold.training_span.date_range
        last = self.result.choices[-1].fold.training_span.date_range[1]
        count = self.result.plan.options.trials * len(self.result.choices)
        sheet = ComparisonPage(
            title=f"Search, {count:,} trials, {first} to {last}",
            subtitle=f"{self._title()} · dates are New York's, amounts are USD",
            verdict=self.verdict,
            table=self.total_figure_table(),
            notes=self._notes,
        )
        return sheet.render(
            "marketsimulator/search.html.j2",
            spans=self.chosen_settings_table(),
            growth=self._chart(),
        )

    def _chart(self) -> Chart:
        """Return the chart of the cumulative returns over all test spans."""
        spans = [choice.fold.test_span for choice in self.result.choices if choice.fold.test_span]
        start = spans[0].market.bars.times[spans[0].market.start_row]
        at = np.concatenate(
            [[start], *(span.market.bars.times[span.day_end_rows] for span in spans)]
        )
        curves = [(at, cumulative_growth(returns) - 1.0) for returns in self._returns.values()]
        text = "Cumulative returns over the test spans"
        return curves_chart(text, list(self._returns), curves, "percent", format_percent)

    def file_writers(self) -> Mapping[str, Callable[[Path], object]]:
        """Return the writer of each file of the report, by file name."""
        text = format_json(self.summary())
        return {
            SEARCH_PAGE_FILE: lambda path: path.write_text(self.render_page(), encoding="utf-8"),
            SEARCH_RESULT_FILE: lambda path: path.write_text(text),
        }


def _format_probability(value: float | None) -> str:
    return NO_VALUE if value is None else format_percent(value, 0)


def _format_total_return(returns: Array | None) -> str:
    return (
        NO_VALUE
        if returns is None
        else format_signed_percent(float(cumulative_growth(returns)[-1]) - 1.0)
    )


def _span_summary(choice: SpanChoice) -> dict[str, Any]:
    test = choice.fold.test_span
    total = {
        name: None if returns is None else float(cumulative_growth(returns)[-1]) - 1.0
        for name, returns in ((CHOSEN, choice.test_returns), (DEFAULT, choice.default_test_returns))
    }
    return {
        "train": choice.fold.training_span.date_range,
        "test": None if test is None else test.date_range,
        "chosen": choice.params,
        "objective": choice.objective_value,
        "returns": total,
        "trials": [
            {"number": trial.number, "params": trial.params, "objective": trial.objective_value}
            for trial in choice.trials
        ],
    }
