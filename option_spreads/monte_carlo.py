r"""What a year of such trades may bring: resampled results with the autoscaler inside every run.

    python -m option_spreads.monte_carlo trades=FILE.csv [runs=10000] [days=252] [seed=0] \
        [output=DIR] [key=value …]
    python -m option_spreads.monte_carlo check=FILE.csv …    an account's months in their bands

Every run begins with STARTING_CAPITAL and an empty history. Trades are drawn one by one and in
blocks, per contract, each with its own risk, and sized by the rules of
`option_spreads.autoscaler.rules` as they come. Resampling cannot show a loss that the file does not
hold: a third set of runs lets trades lose all they can, with a chance that the file does not rule
out.

`check` sets each month of an account's file beside what the trades that had closed before its first
day make likely, those of `trades` among them; with `trades`, months after its last are checked.
"""

from __future__ import annotations

from foundation.opening import open_command

if __name__ == "__main__":
    open_command(
        "option_spreads.monte_carlo",
        __doc__,
        settings="monte_carlo",
        hydra=True,
        needs={"matplotlib": "pictures"},
    )

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.table import Table

from foundation.clock import system_clock
from foundation.command import log_to_file, one_line_errors
from foundation.compose import hydra_command
from foundation.configuration import output_of
from foundation.counts import counted, usd
from foundation.errors import InputError
from foundation.files import write_whole
from foundation.progress import ProgressBar
from foundation.terminal import terminal
from option_spreads.simulation.account_check import (
    Month,
    account_months,
    check_content,
    learned_text,
    trades_in_both,
)
from option_spreads.simulation.account_figures import doubts, summary
from option_spreads.simulation.pictures import runs_figure, write_picture
from option_spreads.simulation.resampled_accounts import (
    MonteCarloSettings,
    limits_text,
    simulate_accounts,
    stress_chance,
)
from option_spreads.simulation.resampling import UNIT, AccountPaths
from option_spreads.simulation.spread_report import figure_table
from option_spreads.simulation.trade_sample import TradeSample, read_flows, read_sample


def write_results(
    sample: TradeSample,
    settings: MonteCarloSettings,
    sets: Mapping[str, AccountPaths],
    output: Path,
) -> dict[str, Any]:
    """Write monte_carlo.json and monte_carlo.png, each whole; the content of the JSON.

    Raises
    ------
    InputError
        if the folder cannot be written.
    """
    figures = {name: summary(runs, settings.above) for name, runs in sets.items()}
    a_day = settings.trades_per_day or sample.trades_per_day
    rules = settings.rules
    content = {
        "trades": {
            "file": settings.trades,
            "n": len(sample.results),
            "mean_per_contract": float(sample.results.mean() / UNIT),
            "worst_per_contract": float(sample.results.min() / UNIT),
            "maximum_losses": sample.maximal,
            "a_day": a_day,
        },
        "runs": settings.runs,
        "days": settings.days,
        "seed": settings.seed,
        # `block` is the name of a set of runs below.
        "block_length": settings.block_length(a_day),
        "uncertainty": settings.uncertainty,
        "stress_chance": stress_chance(sample, settings),
        "above": settings.above,
        "starting_capital": rules.STARTING_CAPITAL,
        "limits_of_resampling": limits_text(sample, settings),
        "warnings": doubts(sample, figures, rules.STARTING_CAPITAL, rules.MAX_CONTRACTS),
        **figures,
    }
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    name = "trades" if settings.trades is None else Path(settings.trades).name
    heading = (
        f"{name}: {counted(len(sample.results), 'trade')}, {counted(settings.runs, 'run')} of"
        f" {counted(settings.days, 'day')}, seed {settings.seed}"
    )
    figure = runs_figure(heading, sets, float(rules.floor), rules.DRAWDOWN_HALT_PCT)
    writers: dict[str, Callable[[Path], object]] = {
        "monte_carlo.json": lambda path: path.write_text(text),
        "monte_carlo.png": lambda path: write_picture(figure, path),
    }
    write_whole(writers, output)
    return content


def _print_figures(content: Mapping[str, Any], output: Path) -> None:
    sets = ("iid", "block", "stress")
    title = (
        f"{counted(content['runs'], 'run')} of {counted(content['days'], 'day')},"
        f" {counted(content['trades']['n'], 'trade')},"
        f" seed {content['seed']}"
    )
    above = content["above"]
    console = terminal()
    console.print(figure_table(title, {name: _figure_texts(content[name], above) for name in sets}))
    console.print(content["limits_of_resampling"], highlight=False)
    for warning in content["warnings"]:
        console.print(f"Warning: {warning}", highlight=False, markup=False)
    files = f"{output / 'monte_carlo.json'}, {output / 'monte_carlo.png'}"
    console.print(files, soft_wrap=True, highlight=False)


def _figure_texts(figures: Mapping[str, Any], above: float | None) -> dict[str, str]:
    """The figures of a set that people look for, by label."""
    more = {} if above is None else {f"P(above ${above:,.0f})": f"{figures['p_above']:.1%}"}
    win_rate = figures["win_rate"]
    fall = figures["max_drawdown_usd"]
    final = figures["final_balance"]
    drawdown = figures["max_drawdown"]
    sortino = figures["sortino"]
    multiples = f"{figures['p_at_least_2x']:.1%}, {figures['p_at_least_3x']:.1%}"
    return {
        "final balance, median": usd(final["p50"]),
        "5 to 95 %": f"{usd(final['p5'])} to {usd(final['p95'])}",
        "least and most": f"{usd(final['least'])} to {usd(final['most'])}",
        "mean": usd(final["mean"]),
        "standard deviation": f"${final['standard_deviation']:,.0f}",
        "P(loss)": f"{figures['p_loss']:.1%}",
        "P(at least 2x), P(at least 3x)": multiples,
        **more,
        "P(halt)": f"{figures['p_halt']:.1%}",
        "drawdown, median and 95 %": f"{drawdown['p50']:.1%}, {drawdown['p95']:.1%}",
        "drawdown in USD, median and most": f"${fall['p50']:,.0f}, ${fall['most']:,.0f}",
        "trades won": "n/a" if win_rate is None else f"{win_rate:.1%}",
        "Sortino, median": "n/a" if sortino is None else f"{sortino['p50']:.2f}",
        "days under water, median": f"{figures['longest_days_under_water']['p50']:.0f}",
    }


def _check_account(
    config: DictConfig, settings: MonteCarloSettings, file: str, output: Path
) -> None:
    """Write and print the months of an account and their bands."""
    now = system_clock()
    account = read_flows(Path(file).expanduser(), now, "check")
    named = settings.trades
    known = [] if named is None else read_flows(Path(named).expanduser(), now)
    output_of(config, "monte_carlo_check.json")
    log_to_file("monte_carlo")
    with ProgressBar():
        months = account_months(account, known, settings)
    both = trades_in_both(account, known)
    content = {
        "check": file,
        "trades": named,
        "trades_in_both": both,
        "runs": settings.runs,
        "seed": settings.seed,
        "block_length": settings.block,
        "learned_from": learned_text(both),
        **check_content(months),
    }
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write_whole({"monte_carlo_check.json": lambda path: path.write_text(text)}, output)
    _print_months(months, content, output / "monte_carlo_check.json")


def _print_months(months: Sequence[Month], content: Mapping[str, Any], file: Path) -> None:
    columns = ("month", "trades", "result", "5 %", "median", "95 %", "learned from", "place")
    table = Table(*columns)
    for month in months:
        band = ("", "", "") if month.band is None else map(usd, month.band)
        counts = str(month.trades), usd(month.result), *band, str(month.learned)
        table.add_row(month.month, *counts, month.place or "no band")
    console = terminal()
    console.print(table)
    outside = (month.words for month in months if month.place != "within")
    for line in (content["verdict"], content["learned_from"], *outside):
        console.print(line, highlight=False, markup=False)
    console.print(str(file), soft_wrap=True, highlight=False)


def _run_composed(config: DictConfig) -> None:
    with one_line_errors("nothing was written") as folders:
        output = Path(str(config.output)).expanduser()
        folders.append(output)
        settings = MonteCarloSettings.of(config)
        if settings.check is not None:
            _check_account(config, settings, settings.check, output)
            return
        if settings.trades is None:
            raise InputError(
                "trades: name a file of closed trades, trades=data/autoscaling/paper/trades.csv,"
                " or check=FILE.csv for the months of an account"
            )
        sample = read_sample(Path(settings.trades).expanduser(), system_clock())
        output_of(config, "monte_carlo.json")
        log_to_file("monte_carlo")
        with ProgressBar():
            paths = simulate_accounts(sample, settings)
            content = write_results(sample, settings, paths, output)
    _print_figures(content, output)


def main() -> None:
    """Hydra entry."""
    hydra_command("monte_carlo", _run_composed, MonteCarloSettings.of)


if __name__ == "__main__":
    main()
