"""How far each strategy of a comparison ends ahead of another, judged by whole weeks.

    python -m tests.studies.weekly_leads COMPARISON [--beside kelly_50] [--capital 100000]
        [--seed 0]

COMPARISON is a folder that `marketsimulator.compare_strategies` wrote. Weeks end with Sunday in
UTC, the last one with the data. The interval is 90 %, by the stationary bootstrap of
`marketsimulator.results.significance` on the weeks' differences.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from marketsimulator.results.significance import Lead, lead


def weekly_leads(
    equity: pd.DataFrame, beside: str, capital: float, seed: int
) -> dict[str, Lead | None]:
    """The lead of every column over one of them; equity: USD by instant, capital: before them."""
    weeks = equity.resample("W").last()
    growth = weeks / weeks.shift(fill_value=capital)
    returns = {name: growth[name].to_numpy() - 1 for name in equity.columns}
    return {
        name: lead(own, returns[beside], seed=seed)
        for name, own in returns.items()
        if name != beside
    }


def main(words: Sequence[str] | None = None) -> None:
    """Read the equity of a comparison and print a line for every strategy."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("comparison", type=Path)
    parser.add_argument("--beside", default="kelly_50")
    parser.add_argument("--capital", type=float, default=100_000.0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(words)
    equity = pd.read_parquet(asked.comparison / "equity.parquet").set_index("at")
    for name, found in weekly_leads(equity, asked.beside, asked.capital, asked.seed).items():
        if found is not None and found.interval is not None:
            low, high = found.interval
            print(f"{name}: {found.ahead:+.2%} ({low:+.1%} … {high:+.1%})")


if __name__ == "__main__":
    main()
