"""Figures of resampled accounts, and what is said where they are absurd."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from foundation.arrays import Array
from foundation.counts import counted
from foundation.sample_size import FEWEST_FILLS
from option_spreads.selling.rules import TRADING_DAYS
from option_spreads.simulation.resampling import UNIT, AccountPaths
from option_spreads.simulation.trade_sample import TradeSample

PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
THOUSANDFOLD = 1000.0  # of the starting balance
NEARLY_ALWAYS = 0.95  # of all trades


def summary(runs: AccountPaths, above: float | None = None) -> dict[str, Any]:
    """Figures of a set of runs; shares of one, USD, days.

    above: USD; none for no chance of more than that.
    """
    final = runs.balances[:, -1]
    start = runs.start
    course = runs.course
    ratios = sortino(np.diff(course, axis=1), course[:, :-1])
    defined = ratios[np.isfinite(ratios)]
    trades = int(runs.trades.sum())
    return {
        "final_balance": {
            "mean": float(final.mean()),
            "standard_deviation": float(final.std()),
            "least": float(final.min()),
            "most": float(final.max()),
            **_percentiles(final),
        },
        "p_loss": float((final < start).mean()),
        "p_at_least_2x": float((final >= 2 * start).mean()),
        "p_at_least_3x": float((final >= 3 * start).mean()),
        "p_above": None if above is None else float((final > above).mean()),
        "p_halt": float(runs.halted.mean()),
        "max_drawdown": _figures_of(runs.drawdown),
        "max_drawdown_usd": _figures_of(runs.largest_fall),
        "sortino": _percentiles(defined) if len(defined) else None,
        "longest_days_under_water": _percentiles(runs.days_under_water.astype(float)),
        "p_recovered": float(runs.recovered.mean()),
        "mean_contracts": float(runs.contracts.mean()),
        "mean_trades": float(runs.trades.mean()),
        "win_rate": int(runs.wins.sum()) / trades if trades else None,
        "share_at_cap": int(runs.at_cap.sum()) / trades if trades else None,
    }


def _figures_of(values: Array) -> dict[str, float]:
    return {"mean": float(values.mean()), "most": float(values.max()), **_percentiles(values)}


def sortino(daily: Array, before: Array) -> Array:
    """Yearly Sortino ratio [...] of daily profits [..., D]; NaN without a loss.

    before: balance at the beginning of each day [..., D].
    """
    # Days without a trade count as well: √252 is for all sessions of a year. A day that begins with
    # nothing has no return; 0 leaves it out of gains and losses.
    returns = np.divide(daily, before, out=np.zeros_like(daily), where=before > 0)
    downside = np.sqrt((np.minimum(returns, 0.0) ** 2).mean(axis=-1))
    undefined = np.full(np.shape(downside), np.nan)
    ratio = np.divide(returns.mean(axis=-1), downside, out=undefined, where=downside > 0)
    return np.asarray(ratio * np.sqrt(TRADING_DAYS))


def _percentiles(values: Array) -> dict[str, float]:
    quantiles = np.percentile(values, PERCENTILES)
    return {f"p{q}": float(value) for q, value in zip(PERCENTILES, quantiles, strict=True)}


def doubts(
    sample: TradeSample, sets: Mapping[str, Mapping[str, Any]], start: float, cap: int
) -> list[str]:
    """What no account is likely to do, a sentence each.

    sample: what was resampled.
    sets: figures by name, as of `summary`.
    start: balance that each run began with, USD.
    cap: contracts of a trade at most.
    """
    n = len(sample.results)
    few = (
        f"The file holds {counted(n, 'trade')}; with fewer than {FEWEST_FILLS} every figure rests"
        " on a few lucky or unlucky ones."
    )
    return [
        *([few] if n < FEWEST_FILLS else []),
        *impossible_results(sample),
        *_doubts_of_runs(sets, start, cap),
    ]


def impossible_results(sample: TradeSample) -> Iterator[str]:
    """What the trades say that no spread makes of its width and its credit, a sentence each."""
    n = len(sample.results)
    won = sample.results > 0
    average, possible = (
        float(values[won].sum() / UNIT) / max(int(won.sum()), 1)
        for values in (sample.results, sample.gains)
    )
    if average > possible:
        yield (
            f"The average win is ${average:,.2f} a contract, and the credits allow"
            f" ${possible:,.2f}: no spread of that width earns so much. Check P/L_$,"
            " Position_Size and Entry_Credit."
        )
    elif beyond := int((sample.results > sample.gains).sum()):
        yield (
            f"{beyond} of {counted(n, 'trade')} won more than the credit, the most that a spread"
            " can earn. Check P/L_$, Position_Size and Entry_Credit."
        )
    if beyond := int((sample.results < -sample.risks).sum()):
        yield (
            f"{beyond} of {counted(n, 'trade')} lost more than width less credit, the most that a"
            " spread can lose. Check P/L_$, Position_Size and Strikes."
        )


def _doubts_of_runs(sets: Mapping[str, Mapping[str, Any]], start: float, cap: int) -> Iterator[str]:
    beyond = [
        name
        for name, figures in sets.items()
        if figures["final_balance"]["p50"] > THOUSANDFOLD * start
    ]
    if beyond:
        yield (
            f"{', '.join(beyond)}: the median run ends beyond {THOUSANDFOLD:,.0f} times its start."
            " No market takes such orders at the prices of small ones."
        )
    capped = [
        name for name, figures in sets.items() if (figures["share_at_cap"] or 0) >= NEARLY_ALWAYS
    ]
    if capped and cap > 1:
        yield (
            f"{', '.join(capped)}: at least {NEARLY_ALWAYS:.0%} of the trades have MAX_CONTRACTS,"
            f" {cap}: the cap sizes them, and Kelly does not."
        )
    sure = [name for name, figures in sets.items() if figures["p_loss"] == 0]
    if sure:
        yield (
            f"{', '.join(sure)}: no run ends with a loss. That says how few losses the file holds,"
            " and not that there can be none."
        )
