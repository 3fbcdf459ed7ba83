"""Report of a search: verdict, tables, page and JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from foundation.arrays import Array
from foundation.charts import Chart, Series
from foundation.formatting import NO_VALUE, count_text, interval, number, percent
from foundation.tables import Cell, Table, json_text
from marketsimulator.results.comparison_page import ComparisonPage
from marketsimulator.results.remarks import MIN_DEFLATED_SHARPE, doubt_remarks
from marketsimulator.results.search.space import params_text
from marketsimulator.results.search.walk import SearchResult, SpanChoice, growth_of
from marketsimulator.results.trials import NO_LEDGER_NOTE
from marketsimulator.results.verdict import Verdict, no_evidence_reason, qualified_claim
from trainingdata.instants import NEW_YORK

CHANCE_PBO = 0.5  # probability of overfitting of variants without skill
PAGE_FILE = "search.html"
RESULT_FILE = "search.json"
CHOSEN, DEFAULT = "chosen settings", "default settings"
BEST = "best trial, in sample"
COLOURS = {CHOSEN: "first", DEFAULT: "second"}  # of curves and rows
NO_LEDGER = NO_LEDGER_NOTE.format("ledger=null")

signed_percent = partial(percent, places=1, sign=True)


class SearchReport:
    """Figures and sentences of a search.

    found: the search itself.
    has_ledger: whether its trials were counted with earlier ones.
    """

    def __init__(self, found: SearchResult, *, has_ledger: bool) -> None:
        self.found = found
        self._notes = [
            *doubt_remarks(found.market.data_warnings),
            *([] if has_ledger else [NO_LEDGER]),
            "Every test span starts in cash, for both: each pays for its first positions again.",
        ]
        self.lead = found.lead()
        self.deflated = found.deflated_sharpe()
        figures = {name: found.performance(returns) for name, returns in self._curves().items()}
        self._figures = figures
        self._intervals = {
            name: found.intervals(returns) for name, returns in self._curves().items()
        }
        reasons = [no_evidence_reason(each, found.market.bars.source) for each in found.forecasters]
        self._no_evidence = " and ".join(dict.fromkeys(filter(None, reasons)))

    @property
    def missing(self) -> list[str]:
        """Reasons why nothing was found; empty if something was.

        Something was found if the choices earned money on the test spans and are significantly
        ahead of the default settings there, the deflated Sharpe ratio of the best trial rules luck
        out, and the best trial stays among the better ones on other days.
        """
        lead, overfitting = self.lead, self.found.overfitting
        missing = []
        if self._figures[CHOSEN].total_return <= 0:
            missing.append("the chosen settings earned nothing on the test spans")
        if lead is None or lead.significant_sign < 1:
            missing.append("the lead over the default settings is not significant")
        if self.deflated is None or self.deflated < MIN_DEFLATED_SHARPE:
            missing.append(
                f"the deflated Sharpe ratio of the best trial is {_probability(self.deflated)},"
                f" below {percent(MIN_DEFLATED_SHARPE, 0)}"
            )
        if overfitting is not None and overfitting.probability >= CHANCE_PBO:
            missing.append(
                f"PBO is {percent(overfitting.probability, 0)}, not below {percent(CHANCE_PBO, 0)}"
            )
        return missing

    @property
    def verdict(self) -> Verdict:
        """Verdict: whether the search found settings that earn more, and what is left of them."""
        lead = "an account was wiped out"
        if self.lead is not None:
            ends = interval(self.lead.interval, signed_percent)
            ahead = self.lead.lead
            lead = f"{'ahead' if ahead >= 0 else 'behind'} by {percent(abs(ahead), 1)}"
            lead += f" (90% interval of the lead {ends})" if ends else ""
        claim = "nothing found" if self.missing else "found"
        earned = signed_percent(self._figures[CHOSEN].total_return)
        default = signed_percent(self._figures[DEFAULT].total_return)
        claim += (
            f": on {count_text(len(self.found.tested), 'test span')} the chosen settings earned"
            f" {earned}, the default settings {default}; {lead}."
        )
        return Verdict(
            "bad" if self._no_evidence else "open" if self.missing else "good",
            qualified_claim(self._no_evidence, claim),
            self._rest(),
        )

    def _rest(self) -> str:
        sentences = [f"Nothing found because {'; '.join(self.missing)}"] if self.missing else []
        count = count_text(self.found.trials.count, "trial")
        sentences.append(
            "Deflated Sharpe of the best trial of the last training span after"
            f" {count}: {_probability(self.deflated)}"
        )
        overfitting = self.found.overfitting
        if overfitting is not None:
            sentences.append(
                "PBO (probability of backtest overfitting) there:"
                f" {percent(overfitting.probability, 0)} (chance: {percent(CHANCE_PBO, 0)})"
            )
        last = self.found.choices[-1]
        sentences.append(
            f"The last training span chooses {params_text(last.params)}, which nothing has tested"
        )
        return f"{'. '.join(sentences)}."

    def sentences(self) -> list[str]:
        """Return the sentences below the tables."""
        return [self.verdict.evidence, *self._notes]

    def _curves(self) -> dict[str, Array]:
        return {CHOSEN: self.found.returns, DEFAULT: self.found.default_returns}

    def total_table(self) -> Table:
        """Return the figures of both settings over all test spans, and of the best in sample."""
        rows = []
        for name, returns in (*self._curves().items(), (BEST, self.found.choices[-1].trained)):
            figures = self.found.performance(returns)
            ends = {} if name == BEST else self._intervals[name]
            sharpe = interval(ends.get("sharpe"), partial(number, places=1), " … ")
            rows.append(
                (
                    Cell(name, line_colour=COLOURS.get(name, "")),
                    signed_percent(figures.total_return),
                    Cell(number(figures.sharpe), subtext=sharpe),
                    percent(figures.max_drawdown, 1),
                    _probability(self.deflated) if name == BEST else "",
                )
            )
        heads = ("All test spans", "Return", "Sharpe", "Max drawdown", "Deflated Sharpe")
        return Table(self._title(), heads, rows)

    def span_table(self) -> Table:
        """Return the choice of each training span, and what it earned on the next span."""
        heads = ("Test span", "Chosen before", "Objective then", CHOSEN, DEFAULT)
        rows = [
            (
                " to ".join(choice.fold.test.dates) if choice.fold.test else "after the last bar",
                params_text(choice.params),
                number(choice.value),
                _total(choice.returns),
                _total(choice.default),
            )
            for choice in self.found.choices
        ]
        title = f"Settings chosen by {self.found.plan.options.objective}, and what they earned next"
        return Table(title, heads, rows, text_columns=(1,))

    def _title(self) -> str:
        bars = self.found.market.run_bars
        return f"{', '.join(bars.symbols)} · {bars.source}"

    def summary(self) -> dict[str, Any]:
        """Return the content of `search.json`."""
        found, verdict = self.found, self.verdict
        return {
            "verdict": f"{verdict.claim} {verdict.evidence}",
            "found": not self.missing,
            "missing": self.missing,
            "no_evidence": self._no_evidence or None,
            "data": found.market.bars.source,
            "symbols": list(found.market.bars.symbols),
            "objective": found.plan.options.objective,
            "trials": found.trials.count,
            "trials_per_span": found.plan.options.trials,
            "deflated_sharpe": self.deflated,
            "lead": None if self.lead is None else asdict(self.lead),
            "overfitting": None if found.overfitting is None else asdict(found.overfitting),
            "out_of_sample": {
                name: {**self._figures[name].as_dict(), "intervals": self._intervals[name]}
                for name in self._curves()
            },
            "spans": [_span_summary(choice) for choice in found.choices],
            "notes": self._notes,
        }

    def page(self) -> str:
        """Return the HTML of `search.html`."""
        first, _ = self.found.tested[0].fold.train.dates
        last = self.found.choices[-1].fold.train.dates[1]
        count = self.found.plan.options.trials * len(self.found.choices)
        sheet = ComparisonPage(
            title=f"Search, {count:,} trials, {first} to {last}",
            subtitle=f"{self._title()} · dates are New York's, amounts are USD",
            verdict=self.verdict,
            table=self.total_table(),
            notes=self._notes,
        )
        return sheet.render(
            "marketsimulator/search.html.j2", spans=self.span_table(), growth=self._chart()
        )

    def _chart(self) -> Chart:
        """Return the chart of the cumulative returns over all test spans."""
        spans = [choice.fold.test for choice in self.found.choices if choice.fold.test]
        start = spans[0].market.bars.times[spans[0].market.start_row]
        at = np.concatenate([[start], *(span.market.bars.times[span.marks] for span in spans)])
        series, ends = [], []
        for name, returns in self._curves().items():
            growth = growth_of(returns) - 1.0
            series.append(Series(name, COLOURS[name], at, growth).downsample())
            ends.append(f"{name} {percent(growth[-1])}")
        text = f"Cumulative returns over the test spans; at the end: {', '.join(ends)}"
        return Chart(text, tuple(reversed(series)), "percent", NEW_YORK.key)

    def files(self) -> Mapping[str, Callable[[Path], object]]:
        """Return the writer of each file of the report, by file name."""
        text = json_text(self.summary())
        return {
            PAGE_FILE: lambda path: path.write_text(self.page(), encoding="utf-8"),
            RESULT_FILE: lambda path: path.write_text(text),
        }


def _probability(value: float | None) -> str:
    return NO_VALUE if value is None else percent(value, 0)


def _total(returns: Array | None) -> str:
    return NO_VALUE if returns is None else signed_percent(float(growth_of(returns)[-1]) - 1.0)


def _span_summary(choice: SpanChoice) -> dict[str, Any]:
    test = choice.fold.test
    total = {
        name: None if returns is None else float(growth_of(returns)[-1]) - 1.0
        for name, returns in ((CHOSEN, choice.returns), (DEFAULT, choice.default))
    }
    return {
        "train": choice.fold.train.dates,
        "test": None if test is None else test.dates,
        "chosen": choice.params,
        "objective": choice.value,
        "returns": total,
    }
