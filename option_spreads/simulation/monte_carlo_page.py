"""HTML page of a Monte Carlo: fan of balances and distribution of outcomes by resampling scheme."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from foundation.arrays import Array
from foundation.charts import Chart, Series, build_histogram_chart, horizontal_line, vertical_line
from foundation.formatting import format_count, format_enumeration, format_percent, format_usd
from foundation.page import Section, render_page
from foundation.tables import Table
from marketsimulator.results.verdict import Verdict
from option_spreads.simulation.resampling import AccountPaths

RESAMPLING_SCHEME_LABELS = {
    "iid": "one by one",
    "block": "in blocks",
    "stress": "with maximum losses",
}
HISTOGRAM_BINS = 60
AXIS_CUTOFF_QUANTILE = 0.995  # of all final balances: a few runs are far beyond
FAN_QUANTILE_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
MAX_FAN_DAYS = 130  # days in a fan chart
MAX_SINGLE_RUNS = 12  # runs drawn in a fan chart
FAN_DIGITS = 5  # significant digits of a balance in a fan chart


def render_monte_carlo_page(
    content: Mapping[str, Any],
    figures: Table,
    paths_by_scheme: Mapping[str, AccountPaths],
    halt_balance: float,
) -> str:
    """Render a Monte Carlo as one self-contained HTML page.

    content: content of monte_carlo.json.
    figures: table of the main figures.
    halt_balance: balance below which no spread is sold, USD.
    """
    labels = {name: RESAMPLING_SCHEME_LABELS.get(name, name) for name in paths_by_scheme}
    fans = [
        (labels[name], balance_fan_chart(runs, halt_balance))
        for name, runs in paths_by_scheme.items()
    ]
    finals = {labels[name]: runs.balances[:, -1] for name, runs in paths_by_scheme.items()}
    drawdowns = {labels[name]: runs.max_drawdown_share for name, runs in paths_by_scheme.items()}
    edges = final_balance_edges(paths_by_scheme, halt_balance)
    beyond = describe_runs_beyond_axis(np.concatenate(list(finals.values())), float(edges[-1]))
    deepest = max(float(np.max(each)) for each in drawdowns.values())
    return render_page(
        "foundation/page.html.j2",
        title="Monte Carlo of option spreads",
        subtitle=f"{figures.title} · {content['trades']['file']} · amounts are USD",
        verdict=_verdict(content, labels),
        warnings=content["warnings"],
        notes=[content["limits_of_resampling"]],
        sections=[
            Section("Figures", [figures], f"Trades are drawn {_describe_schemes(labels)}."),
            Section(
                "Balance by day",
                [{"Trades drawn": fans}],
                "Bands hold 90 % and 50 % of the runs on each day; they are not paths. Thin lines:"
                f" the first {min(MAX_SINGLE_RUNS, content['runs'])} runs.",
            ),
            Section(
                "Final balance",
                [
                    build_histogram_chart(
                        "Final balance in USD",
                        finals,
                        edges,
                        lines=_balance_lines(finals, edges, paths_by_scheme, halt_balance),
                    )
                ],
                f"Shares of the runs by final balance. {beyond[:1].upper()}{beyond[1:]}",
            ),
            Section(
                "Maximum drawdown",
                [
                    build_histogram_chart(
                        "Maximum drawdown as a share of the peak",
                        drawdowns,
                        np.linspace(0.0, max(deepest, 0.01), HISTOGRAM_BINS + 1),
                    )
                ],
                "Shares of the runs by their largest fall, trade by trade; 0.2 is 20 % of the"
                " peak.",
            ),
        ],
    )


def balance_fan_chart(runs: AccountPaths, halt_balance: float) -> Chart:
    """Return the fan of balances by day: quantiles of all runs, and a few single runs."""
    days = np.unique(np.linspace(0, runs.balances.shape[1], MAX_FAN_DAYS).astype(np.intp))
    x = days.astype(float)
    # Day by day: all days of many runs would need as much memory again.
    levels = [
        np.quantile(runs.balances[:, day - 1], FAN_QUANTILE_LEVELS) for day in days[1:].tolist()
    ]
    start = np.full(len(FAN_QUANTILE_LEVELS), runs.starting_balance)
    low, lower, middle, upper, high = np.array([start, *levels]).T
    single = runs.select_runs(slice(MAX_SINGLE_RUNS)).balances_from_start[:, days]
    ends = f"{format_usd(low[-1], 0)} and {format_usd(high[-1], 0)}"
    return Chart(
        f"Balance by day in {format_count(len(runs.balances), 'run')}: after"
        f" {format_count(int(days[-1]), 'day')} 90% of the runs are between {ends}, the median is"
        f" {format_usd(middle[-1], 0)}",
        (
            Series("90% of runs", "first", x, high, "band", low, significant_digits=FAN_DIGITS),
            Series("50% of runs", "first", x, upper, "band", lower, significant_digits=FAN_DIGITS),
            *(Series("", "quiet", x, each, "faint") for each in single),
            horizontal_line(halt_balance, x, "limit", "halt"),
            Series("median", "third", x, middle, significant_digits=FAN_DIGITS),
        ),
        "usd",
    )


def final_balance_edges(paths_by_scheme: Mapping[str, AccountPaths], halt_balance: float) -> Array:
    """Return the edges of the bins of all schemes' final balances, USD [HISTOGRAM_BINS + 1]."""
    finals = np.concatenate([runs.balances[:, -1] for runs in paths_by_scheme.values()])
    start = next(iter(paths_by_scheme.values())).starting_balance
    most = max(float(np.quantile(finals, AXIS_CUTOFF_QUANTILE)), start)
    least = min(float(finals.min()), halt_balance, start)
    return np.linspace(least, most, HISTOGRAM_BINS + 1)


def describe_runs_beyond_axis(final_balances: Array, axis_max: float) -> str:
    """Return a note with the number of runs beyond the axis and their highest balance, or "".

    final_balances: final balances [R], USD.
    axis_max: upper end of the axis, USD.
    """
    beyond = final_balances[final_balances > axis_max]
    if not len(beyond):
        return ""
    words = f"not drawn: {format_count(len(beyond), 'run')} above {format_usd(axis_max, 0)},"
    return f"{words} up to {format_usd(beyond.max(), 0)} →"


def _describe_schemes(labels: Mapping[str, str]) -> str:
    return format_enumeration([f"{label} ({name})" for name, label in labels.items()])


def _balance_lines(
    finals: Mapping[str, Array],
    edges: Array,
    paths_by_scheme: Mapping[str, AccountPaths],
    halt_balance: float,
) -> list[Series]:
    """Return vertical lines at the starting balance and at the halt."""
    highest = max(
        float(np.histogram(each, bins=edges)[0].max()) / len(each) for each in finals.values()
    )
    start = next(iter(paths_by_scheme.values())).starting_balance
    return [
        vertical_line(halt_balance, highest, "limit", "halt"),
        vertical_line(start, highest, "quiet", "start"),
    ]


def _verdict(content: Mapping[str, Any], labels: Mapping[str, str]) -> Verdict:
    """Return the verdict: it is bad if most runs drawn one by one lose money, and never good."""
    loss = content["iid"]["p_loss"]
    middle = format_usd(content["iid"]["final_balance"]["p50"], 0)
    claim = (
        f"Median balance {middle} after {format_count(content['days'], 'day')}, from"
        f" {format_usd(content['starting_capital'], 0)}."
    )
    chances = ", ".join(
        f"{format_percent(content[name]['p_loss'], 1)} {label}" for name, label in labels.items()
    )
    return Verdict("bad" if loss > 0.5 else "open", claim, f"Probability of a loss: {chances}.")
