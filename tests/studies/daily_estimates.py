"""Means of past returns as forecasts on real daily bars: what every kind of Kelly makes of them.

    python -m tests.studies.daily_estimates DAILY_BARS [--past 500] [--group 8] [--seed 0]

DAILY_BARS is a folder of Parquet files, one for each stock. The stocks are taken in groups by name.
Every fifth day mean and covariance of the last 500 days set the weights of the next five, within
60 % of equity a stock and 200 % together; trades cost 2 bp, what is borrowed 6.5 % a year. Printed:
growth a year, deviation, Sharpe ratio and largest fall of a book that holds every group alike, and
growth beyond half-Kelly with a 90 % interval (stationary bootstrap of whole weeks, that of
`marketsimulator.results.significance`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from foundation.arrays import Array
from marketsimulator.results.significance import Lead, lead
from sizing.kelly import kelly_weights
from sizing.optimum import DrawdownBound
from sizing.uncertainty import drawdown_fraction, proven_share, shrinkage
from tests.studies.markdown import markdown

HOLD = 5  # days that weights are held
YEAR = 252
COST = 2e-4  # of what is traded
INTEREST = 0.065  # a year, of what is borrowed
CAP, GROSS = 0.6, 2.0
PREMIUM = 0.3  # Sharpe ratio a year of `prior.stock_sharpe`
BOUND = drawdown_fraction(DrawdownBound(0.7, 0.1))
REFERENCE = "plug-in, half"


def kelly(mean: Array, covariance: Array, fraction: float) -> Array:
    """[n] fractional Kelly within the limits."""
    one = np.ones(len(mean))
    bounds = {"lower": -CAP * one, "upper": CAP * one}
    return kelly_weights(mean, covariance, fraction=fraction, groups=[(one, GROSS)], **bounds)


def premium(covariance: Array) -> Array:
    """[n] means a day at which equal weights are worth holding, for a Sharpe ratio of PREMIUM."""
    equal = np.full(len(covariance), 1 / len(covariance))
    with_book = covariance @ equal
    return np.asarray(PREMIUM / np.sqrt(YEAR) * with_book / np.sqrt(equal @ with_book))


def proven(mean: Array, covariance: Array, past: int, errors: float = 1.645) -> Array:
    """[n] the proven share of a mean of `past` days."""
    return mean * proven_share(mean, covariance / past, covariance, errors)


Rule = Callable[[Array, Array, int], Array]
RULES: dict[str, Rule] = {
    "plug-in, full": lambda m, s, n: kelly(m, s, 1.0),
    REFERENCE: lambda m, s, n: kelly(m, s, 0.5),
    "Baker–McHale, half": lambda m, s, n: kelly(m * shrinkage(m, s / n, s), s, 0.5),
    "proven mean (1.645 errors), half": lambda m, s, n: kelly(proven(m, s, n), s, 0.5),
    "proven mean (3 errors), half": lambda m, s, n: kelly(proven(m, s, n, 3.0), s, 0.5),
    "drawdown fraction": lambda m, s, n: kelly(m, s, BOUND),
    "drawdown fraction, proven mean": lambda m, s, n: kelly(proven(m, s, n), s, BOUND),
    "stated premium, half": lambda m, s, n: kelly(premium(s), s, 0.5),
    "equal weights": lambda m, s, n: np.full(len(m), 1 / len(m)),
}


def earned(returns: Array, rule: Rule, past: int) -> Array:
    """[W] returns by week of one group's book; returns: [D, n] by day."""
    held = np.zeros(returns.shape[1])
    weeks = []
    for day in range(past, len(returns) - HOLD + 1, HOLD):
        seen = returns[day - past : day]
        weights = rule(seen.mean(axis=0), np.atleast_2d(np.cov(seen.T)), past)
        paid = COST * np.abs(weights - held).sum()
        owed = max(weights.sum() - 1, 0) * INTEREST / YEAR
        daily = returns[day : day + HOLD] @ weights - owed
        weeks.append((1 - paid) * np.prod(1 + daily) - 1)
        held = weights
    return np.array(weeks)


def table(books: dict[str, Array], seed: int) -> str:
    """Markdown: a line a rule."""
    heads = ["growth a year", "deviation", "Sharpe", "largest fall", "beyond half-Kelly, all years"]
    rows = []
    for name, weeks in books.items():
        logs = np.log1p(weeks)
        wealth = np.exp(np.concatenate([[0.0], np.cumsum(logs)]))
        fall = (1 - wealth / np.maximum.accumulate(wealth)).max()
        a_year = YEAR / HOLD
        deviation = weeks.std(ddof=1) * np.sqrt(a_year)
        sharpe = weeks.mean() * a_year / deviation if deviation > 0 else 0.0
        beyond = lead(weeks, books[REFERENCE], seed=seed) if name != REFERENCE else None
        cells = [f"{logs.mean() * a_year:+.1%}", f"{deviation:.1%}", f"{sharpe:.2f}", f"{fall:.0%}"]
        rows.append((name, [*cells, _words(beyond)]))
    return markdown(heads, rows)


def _words(beyond: Lead | None) -> str:
    if beyond is None or beyond.interval is None:
        return ""
    low, high = beyond.interval
    return f"{beyond.ahead:+.0%} ({low:+.0%} … {high:+.0%})"


def main(words: Sequence[str] | None = None) -> None:
    """Read the bars, hold every rule's books, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bars", type=Path)
    parser.add_argument("--past", type=int, default=500)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(words)
    files = sorted(asked.bars.glob("*.parquet"))
    closes = {file.stem: pd.read_parquet(file).set_index("timestamp")["close"] for file in files}
    frame = pd.DataFrame(closes).sort_index().dropna()
    returns = frame.pct_change().iloc[1:].to_numpy()
    groups = [returns[:, k : k + asked.group] for k in range(0, len(files), asked.group)]
    whole = [group for group in groups if group.shape[1] == asked.group]
    print(f"{len(whole)} groups of {asked.group}, {frame.index[asked.past]} to {frame.index[-1]}\n")
    books = {
        name: np.mean([earned(group, rule, asked.past) for group in whole], axis=0)
        for name, rule in RULES.items()
    }
    print(table(books, asked.seed))


if __name__ == "__main__":
    main()
