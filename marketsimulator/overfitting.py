"""How likely the best of some backtests is the best by luck alone, and a check of that on noise.

    python -m marketsimulator.overfitting RUN RUN …
    python -m marketsimulator.overfitting --noise N [--seed N]

RUN        folder of a backtest (its summary.json and equity.parquet), or one that holds several
--noise N  instead: what is said of so many sweeps without any skill, under each of four laws
--seed N   of the noise; 0 unless given

Runs over different periods are judged over the days that all of them have. Nothing is written; a
sweep and every comparison show the same probability with their figures.
"""

from __future__ import annotations

from foundation.opening import open_command

if __name__ == "__main__":
    open_command("marketsimulator.overfitting", __doc__)

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from forecasting.forecast import Progress, silent
from foundation.command import Parser, log_to_file, one_line_errors
from foundation.errors import InputError
from foundation.progress import ProgressBar
from foundation.terminal import terminal
from marketsimulator.results.noise_sweeps import (
    DAYS,
    LAWS,
    VARIANTS,
    NoiseFigures,
    judge,
    noise_figures,
)
from marketsimulator.results.remarks import LIKELY
from marketsimulator.results.run_comparison import RunComparison, compare_runs
from marketsimulator.results.run_folders import read_run, run_paths
from marketsimulator.results.run_set import overfitting_figures, overfitting_text

MOST = 100_000  # sweeps, some hours of work
FIGURES = {  # what the table calls them, and their form
    "probability": ("probability of overfitting", "{:.1%}"),
    "sharpe_inside": ("Sharpe ratio a year where the best is chosen", "{:.2f}"),
    "sharpe_outside": ("… in the other half of the days", "{:.2f}"),
    "slope": ("… for each 1 of the first", "{:+.2f}"),
    "loss": ("… below zero", "{:.1%}"),
    "variants": ("runs that move", "{:,}"),
    "days": ("days", "{:,}"),
    "splits": ("splits", "{:,}"),
}


def noise_sweeps(count: int, seed: int, progress: Progress = silent) -> dict[str, NoiseFigures]:
    """What is said of so many sweeps without skill, by the name of their law.

    Raises
    ------
    InputError
        for a number of sweeps, or a seed, that cannot be.
    """
    if not 2 <= count <= MOST:
        raise InputError(f"--noise: {count} sweeps; a mean with its error takes 2 to {MOST:,}")
    if seed < 0:
        raise InputError(f"--seed: {seed} is below 0")
    found = {}
    for number, (name, law) in enumerate(LAWS.items()):
        sweeps = []
        for k in range(count):
            rng = np.random.default_rng([seed, number, k])
            sweeps.append(judge(law(rng, VARIANTS, DAYS)))
            progress(name, k + 1, count)
        found[name] = noise_figures(sweeps)
    return found


def _print_noise(found: dict[str, NoiseFigures]) -> None:
    count = next(iter(found.values())).sweeps
    table = Table(
        *("law", "overfitting", "5 to 95% of sweeps", "deceived", "… undeflated"),
        title=f"{count:,} synthetic sweeps without skill: {VARIANTS} variants, {DAYS} days",
    )
    for name, figures in found.items():
        table.add_row(
            name,
            f"{figures.probability:.1%} ± {figures.error:.1%}",
            f"{figures.low:.0%} … {figures.high:.0%}",
            f"{figures.deceived:.1%}, at most {figures.deceived_most:.1%}",
            f"{figures.deceived_alone:.0%}",
        )
    _print(
        table,
        "Overfitting: the probability of backtest overfitting, its mean over the sweeps. Deceived:"
        f" sweeps whose best variant has a deflated Sharpe ratio above {LIKELY:.0%},"
        " at most with a confidence of 95%; ± is one standard error. A mean of 50% says that the"
        " best of one half is nothing special in the other; a single sweep is anywhere in the"
        " range.",
    )


def _print_runs(comparison: RunComparison) -> None:
    runs = comparison.runs
    figures = overfitting_figures(runs)
    sentences = [overfitting_text(runs), *comparison.warnings]
    if figures is None:
        _print(*sentences)
        return
    table = Table("over these runs", "", show_header=False)
    for name, (heading, form) in FIGURES.items():
        value = figures[name]
        table.add_row(heading, "n/a" if value is None else form.format(value))
    best = runs.deflated[runs.ranking()[0]]
    table.add_row("deflated Sharpe ratio of the best", "n/a" if best != best else f"{best:.1%}")
    _print(table, *sentences)


def _print(*lines: Table | str) -> None:
    console = terminal()
    for line in lines:
        console.print(line, soft_wrap=isinstance(line, str), highlight=False)


def _arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(example="python -m marketsimulator.overfitting RUN RUN")
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    parser.add_argument("--noise", type=int)
    parser.add_argument("--seed", type=int)
    return parser.parse_args(words)


def main() -> None:
    """Command line."""
    with one_line_errors("nothing was written"):
        flags = _arguments()
        if flags.noise is not None and flags.runs:
            raise InputError(f"--noise: it takes no runs, and {flags.runs[0]} is named")
        if flags.noise is None and flags.seed is not None:
            raise InputError("--seed: it is of the noise; name --noise 1000 as well")
        if flags.noise is None and not flags.runs:
            raise InputError("RUN: name two or more runs, or --noise 1000 (see --help)")
        log_to_file("overfitting")
        if flags.noise is None:
            _print_runs(compare_runs([read_run(path) for path in run_paths(flags.runs)]))
            return
        with ProgressBar() as progress:
            found = noise_sweeps(flags.noise, flags.seed or 0, progress)
        _print_noise(found)


if __name__ == "__main__":
    main()
