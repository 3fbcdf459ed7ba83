r"""Monte Carlo of a year of trades: resampled trades, sized by the autoscaler in every run.

    python -m option_spreads.monte_carlo trades=FILE.csv [runs=10000] [days=252] [seed=0] \
        [output=DIR] [key=value …]

Every run starts with STARTING_CAPITAL and an empty history. One set of runs draws trades one by
one, a second set in blocks of consecutive trades. A drawn trade has its P/L and its maximum loss
per contract. The rules of `option_spreads.autoscaler.rules` size each trade from the trades before
it. Resampling cannot show a loss that is not in the file. In a third set of runs each trade may
therefore take its maximum loss, with a probability that the file does not rule out.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("option_spreads.monte_carlo")

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from forecasting.forecast import Progress
from foundation.cli import Result
from foundation.clock import utc_now
from foundation.errors import InputError
from foundation.formatting import format_count, format_number, format_percent, format_usd
from foundation.tables import Table, format_json
from option_spreads.simulation.monte_carlo_page import (
    RESAMPLING_SCHEME_LABELS,
    describe_runs_beyond_axis,
    final_balance_edges,
    render_monte_carlo_page,
)
from option_spreads.simulation.resampled_accounts import (
    find_sample_warnings,
    format_resampling_caveat,
    simulate_accounts,
    stress_loss_probability,
    summarize_paths,
)
from option_spreads.simulation.resampling import UNITS_PER_DOLLAR, AccountPaths
from option_spreads.simulation.settings import MonteCarloSettings
from option_spreads.simulation.spread_report import build_metrics_table
from option_spreads.simulation.trade_sample import TradeSample, read_sample

if TYPE_CHECKING:
    from matplotlib.figure import Figure


BLUE, ORANGE, RED, BLACK = "#2456c8", "#c2700c", "#b42318", "#1c2430"


def build_json_content(
    sample: TradeSample, settings: MonteCarloSettings, paths_by_scheme: Mapping[str, AccountPaths]
) -> dict[str, Any]:
    """Return the content of monte_carlo.json.

    sample: closed trades that the runs resample.
    paths_by_scheme: simulated accounts by resampling scheme: `iid`, `block` and `stress`.
    """
    figures = {
        name: summarize_paths(runs, settings.balance_thresholds)
        for name, runs in paths_by_scheme.items()
    }
    a_day = settings.trades_per_day or sample.trades_per_day
    return {
        "trades": {
            "file": settings.trades,
            "n": len(sample.profit_units),
            "mean_per_contract": float(sample.profit_units.mean() / UNITS_PER_DOLLAR),
            "worst_per_contract": float(sample.profit_units.min() / UNITS_PER_DOLLAR),
            "maximum_losses": sample.max_loss_count,
            "a_day": a_day,
        },
        "runs": settings.runs,
        "days": settings.days,
        "seed": settings.seed,
        # `block` is a resampling scheme below.
        "block_length": settings.effective_block_length(a_day),
        "stress_chance": stress_loss_probability(sample),
        "starting_capital": settings.STARTING_CAPITAL,
        "limits_of_resampling": format_resampling_caveat(sample),
        "warnings": list(find_sample_warnings(sample)),
        **figures,
    }


def build_file_writers(
    content: Mapping[str, Any],
    settings: MonteCarloSettings,
    paths_by_scheme: Mapping[str, AccountPaths],
) -> dict[str, Callable[[Path], object]]:
    """Return functions that write the page, monte_carlo.json and monte_carlo.png, by file name.

    content: content of monte_carlo.json.
    paths_by_scheme: simulated accounts by resampling scheme, for page and plot.
    """
    text = format_json(content)
    figure = plot_final_balances(
        _format_heading(content), paths_by_scheme, float(settings.halt_balance)
    )
    table = _metrics_table(content, paths_by_scheme)
    page = render_monte_carlo_page(content, table, paths_by_scheme, float(settings.halt_balance))
    return {
        "monte_carlo.html": lambda path: path.write_text(page, encoding="utf-8"),
        "monte_carlo.json": lambda path: path.write_text(text),
        "monte_carlo.png": lambda path: figure.savefig(path, format="png", dpi=110),
    }


def _format_heading(content: Mapping[str, Any]) -> str:
    return (
        f"{format_count(content['runs'], 'run')} of"
        f" {format_count(content['days'], 'day')},"
        f" {format_count(content['trades']['n'], 'trade')}, seed {content['seed']}"
    )


def _format_figures(figures: Mapping[str, Any]) -> dict[str, str]:
    """Return the main figures of one resampling scheme as text, by label."""
    fall = figures["max_drawdown_usd"]
    final = figures["final_balance"]
    drawdown = figures["max_drawdown"]
    sortino = figures["sortino"]
    multiples = (
        f"{format_percent(figures['p_at_least_2x'], 1)},"
        f" {format_percent(figures['p_at_least_3x'], 1)}"
    )
    return {
        "final balance, median": format_usd(final["p50"], 0),
        "5 to 95 %": f"{format_usd(final['p5'], 0)} to {format_usd(final['p95'], 0)}",
        "minimum and maximum": f"{format_usd(final['least'], 0)} to {format_usd(final['most'], 0)}",
        "mean": format_usd(final["mean"], 0),
        "standard deviation": format_usd(final["standard_deviation"], 0),
        "P(loss)": format_percent(figures["p_loss"], 1),
        "P(at least 2x), P(at least 3x)": multiples,
        **{
            f"P(final > {format_usd(float(amount), 0)})": format_percent(share, 1)
            for amount, share in figures["p_final_above"].items()
        },
        "P(halt)": format_percent(figures["p_halt"], 1),
        "drawdown, median and 95 %": ", ".join(
            format_percent(drawdown[p], 1) for p in ("p50", "p95")
        ),
        "drawdown in USD, median and maximum": (
            f"{format_usd(fall['p50'], 0)}, {format_usd(fall['most'], 0)}"
        ),
        "trades won": format_percent(figures["win_rate"], 1),
        "Sortino, median": format_number(sortino and sortino["p50"]),
        "days under water, median": format_number(figures["longest_days_under_water"]["p50"], 0),
    }


def _metrics_table(content: Mapping[str, Any], schemes: Iterable[str]) -> Table:
    """Return the table of the main figures, with a column per resampling scheme."""
    texts = {name: _format_figures(content[name]) for name in schemes}
    return build_metrics_table(_format_heading(content), texts)


def run(settings: MonteCarloSettings, progress: Progress) -> Result:
    """Run the Monte Carlo; return its table, warnings and files to write.

    Raises InputError if `trades` is not set.
    """
    del progress  # there are no steps to count
    if settings.trades is None:
        raise InputError(
            "trades: not set; give a file of closed trades,"
            " trades=data/autoscaling/paper/trades.csv"
        )
    sample = read_sample(Path(settings.trades).expanduser(), utc_now())
    sets = simulate_accounts(sample, settings)
    content = build_json_content(sample, settings, sets)
    return Result(
        [_metrics_table(content, sets)],
        [
            content["limits_of_resampling"],
            *(f"Warning: {warning}" for warning in content["warnings"]),
        ],
        build_file_writers(content, settings, sets),
    )


def plot_final_balances(
    heading: str, paths_by_scheme: Mapping[str, AccountPaths], halt_balance: float
) -> Figure:
    """Plot histograms of final balances, one panel per resampling scheme, with shared axes.

    paths_by_scheme: simulated accounts by resampling scheme, at least one, all with the same
        starting balance.
    halt_balance: balance below which no spread is sold, USD.
    """
    # Imported here: reading a sample, as other commands do, needs no plots.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.7 + 3.2 * len(paths_by_scheme)), layout="constrained")
    figure.suptitle(heading, fontsize=14, fontweight="bold")
    panels = figure.subplots(len(paths_by_scheme), squeeze=False, sharex=True, sharey=True)[:, 0]
    start = next(iter(paths_by_scheme.values())).starting_balance
    edges = final_balance_edges(paths_by_scheme, halt_balance)
    most = float(edges[-1])
    for (name, runs), panel in zip(paths_by_scheme.items(), panels, strict=True):
        final = runs.balances[:, -1]
        panel.hist(final[final <= most], bins=edges.tolist(), color=BLUE, alpha=0.55)
        if text := describe_runs_beyond_axis(final, most):
            panel.annotate(
                text, (0.99, 0.03), xycoords="axes fraction", ha="right", va="bottom", fontsize=8
            )
        middle = float(np.median(final))
        for value, color, label in ((start, BLACK, "start"), (middle, ORANGE, "median")):
            panel.axvline(
                value, color=color, linewidth=1.4, label=f"{label} {format_usd(value, 0)}"
            )
        panel.axvline(
            halt_balance,
            color=RED,
            linestyle="--",
            linewidth=1.4,
            label=f"halt {format_usd(halt_balance, 0)}",
        )
        panel.set(
            title=f"{name}, {RESAMPLING_SCHEME_LABELS.get(name, name)}: final balance",
            ylabel="runs",
        )
        panel.tick_params(labelbottom=True, labelleft=True)
        panel.xaxis.set_major_formatter(lambda x, _: format_usd(x, 0))
        # No frame above and at the right; lines from edge to edge, with labels.
        panel.spines[["top", "right"]].set_visible(False)
        panel.margins(x=0)
        panel.legend(loc="best", framealpha=0.85, edgecolor="none", fontsize=8)
    return figure
