"""Backtests that were run before, side by side: a page on what can be told apart beyond error.

    python -m marketsimulator.compare RUN RUN … [--output DIR] [--overwrite]

RUN           folder of a backtest (its summary.json and equity.parquet), or one that holds several
--output DIR  folder of comparison.html and comparison.json; without it outputs/comparison-TIME
--overwrite   write into a folder that holds something else

Runs over different periods are compared over the days that all of them have. A sweep, a Hydra
multirun of the backtest and a comparison of strategies leave the same page.
"""

from __future__ import annotations

from foundation.opening import open_command

if __name__ == "__main__":
    open_command("marketsimulator.compare", __doc__)

import argparse
from datetime import UTC, datetime
from pathlib import Path

from rich.table import Table

from foundation.command import Parser, log_to_file, one_line_errors
from foundation.files import check_output
from foundation.terminal import terminal
from marketsimulator.results.comparison_page import SAYS
from marketsimulator.results.run_comparison import (
    RunComparison,
    compare_runs,
    write_comparison_of_runs,
)
from marketsimulator.results.run_folders import read_run, run_paths
from marketsimulator.results.run_set import length_remarks, separation, set_verdict
from marketsimulator.results.variant_table import figure_heading, figure_text, table_rows

SHOWN = 20  # rows on the screen; the page has all
COLUMNS = ("total_return", "sharpe", "deflated_sharpe", "max_drawdown")


def _print_comparison(comparison: RunComparison, output: Path) -> None:
    runs = comparison.runs
    found = separation(runs)
    rows = table_rows(comparison.table)
    table = Table("run", *map(figure_heading, COLUMNS), "against the best")
    for k in runs.ranking()[:SHOWN]:
        figures = [figure_text(rows[k], name) for name in COLUMNS]
        table.add_row(runs.names[k], *figures, SAYS[found.relations[k]])
    console = terminal()
    console.print(table)
    verdict = set_verdict(runs, found)
    for sentence in (
        verdict.claim,
        verdict.rest,
        *comparison.warnings,
        *length_remarks(runs),
        *comparison.notes,
    ):
        console.print(sentence, soft_wrap=True, highlight=False)
    console.print(f"Page: {output / 'comparison.html'}", soft_wrap=True, highlight=False)


def _arguments() -> argparse.Namespace:
    parser = Parser()
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--overwrite", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    with one_line_errors("nothing was written") as folders:
        flags = _arguments()
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        output = (flags.output or Path(f"outputs/comparison-{stamp}")).expanduser()
        check_output(output, "comparison.json", overwrite=flags.overwrite, word="--overwrite")
        paths = run_paths(flags.runs)
        folders.append(output)
        log_to_file("compare")
        comparison = compare_runs([read_run(path) for path in paths])
        write_comparison_of_runs(comparison, output)
    _print_comparison(comparison, output)


if __name__ == "__main__":
    main()
