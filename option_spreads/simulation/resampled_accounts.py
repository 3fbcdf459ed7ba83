"""Monte Carlo of an account on resampled trades: iid, in blocks, and with maximum losses.

Also the summary statistics of these runs, and data warnings about the trades.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from foundation.arrays import Array
from foundation.errors import InputError
from foundation.formatting import MIN_FILLS_FOR_ANNUAL_FIGURES, format_count
from option_spreads.selling.rules import TRADING_DAYS
from option_spreads.simulation.resampling import (
    AccountPaths,
    ScaledSizingRules,
    draw_trades,
    insert_random_max_losses,
    simulate_account_paths,
)
from option_spreads.simulation.settings import MonteCarloSettings
from option_spreads.simulation.trade_sample import TradeSample

REPORTED_PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)


def simulate_accounts(sample: TradeSample, settings: MonteCarloSettings) -> dict[str, AccountPaths]:
    """Simulate accounts on resampled trades; return their paths by resampling scheme.

    The schemes are `iid` (trades drawn one by one), `stress` (`iid` with added maximum losses) and
    `block` (trades drawn in blocks of consecutive trades).

    Raises InputError if the runs do not fit into memory.
    """
    n = len(sample.profit_units)
    a_day = settings.trades_per_day or sample.trades_per_day
    _refuse_beyond_memory(settings, math.ceil(a_day))
    rules = ScaledSizingRules.from_settings(settings)
    # Trade n + k is trade k with its maximum loss, for the stress runs.
    results = np.concatenate([sample.profit_units, -sample.max_loss_units])
    risks = np.concatenate([sample.max_loss_units, sample.max_loss_units])
    overlaps = np.concatenate([sample.overlapping_trade_counts, sample.overlapping_trade_counts])
    shape = n, settings.runs, settings.days, a_day, settings.seed
    single = draw_trades(*shape)
    iid = simulate_account_paths(results, risks, single, rules, overlaps)
    worse = insert_random_max_losses(single, n, stress_loss_probability(sample), settings.seed)
    del single
    stress = simulate_account_paths(results, risks, worse, rules, overlaps)
    del worse
    # Blocks keep trades in their order, and with it runs of losses.
    blocks = draw_trades(*shape, block_length=settings.effective_block_length(a_day))
    block = simulate_account_paths(results, risks, blocks, rules, overlaps)
    return {"iid": iid, "block": block, "stress": stress}


def _refuse_beyond_memory(settings: MonteCarloSettings, most: int) -> None:
    # Two sets of draws at a time, and the balances of three sets.
    needed = settings.runs * settings.days * (2 * 4 * most + 3 * 8)
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise InputError(
            f"runs: {settings.runs:,} runs of {settings.days:,} days with up to"
            f" {format_count(most, 'trade')} need {needed / 1e9:,.0f} GB of memory, but"
            f" this machine has {there / 1e9:,.0f} GB; reduce runs or days"
        )


def stress_loss_probability(sample: TradeSample) -> float:
    """Return the probability that a trade of the stress runs loses its maximum.

    It is the share of maximum losses in the sample. If none of n trades is one, it is
    the upper bound of the 95 % confidence interval, 1 - 0.05^(1/n).
    """
    n = len(sample.profit_units)
    return sample.max_loss_count / n if sample.max_loss_count else 1.0 - 0.05 ** (1.0 / n)


def format_resampling_caveat(sample: TradeSample) -> str:
    """Return sentences on the limits of resampling these trades, and on the stress runs."""
    share = max(float((-sample.profit_units / sample.max_loss_units).max()), 0.0)
    chance = stress_loss_probability(sample)
    if sample.max_loss_count:
        unseen = f"{sample.max_loss_count} of {len(sample.profit_units)} trades lost their maximum."
    else:
        unseen = (
            "no trade lost its maximum. In the stress runs a trade does so with a probability of"
            f" {chance:.2%}."
        )
    return (
        "Resampling only repeats past trades: it cannot show a loss that the file does not contain."
        f" The worst trade lost {share:.0%} of its maximum loss; {unseen}"
    )


def summarize_paths(
    paths: AccountPaths, balance_thresholds: Sequence[float] = ()
) -> dict[str, Any]:
    """Return summary statistics of simulated accounts, in USD, days and shares of 1.

    balance_thresholds: USD; `p_final_above` contains the share of runs that end above each one.
    """
    final = paths.balances[:, -1]
    start = paths.starting_balance
    course = paths.balances_from_start
    ratios = sortino_ratios(np.diff(course, axis=1), course[:, :-1])
    defined = ratios[np.isfinite(ratios)]
    trades = int(paths.trade_counts.sum())
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
        "p_final_above": {f"{usd:.15g}": float((final > usd).mean()) for usd in balance_thresholds},
        "p_halt": float(paths.has_halted.mean()),
        "max_drawdown": _summarize_values(paths.max_drawdown_share),
        "max_drawdown_usd": _summarize_values(paths.max_drawdown_usd),
        "sortino": _percentiles(defined) if len(defined) else None,
        "longest_days_under_water": _percentiles(paths.longest_days_under_water.astype(float)),
        "mean_contracts": float(paths.contract_counts.mean()),
        "mean_trades": float(paths.trade_counts.mean()),
        "win_rate": int(paths.win_counts.sum()) / trades if trades else None,
        "share_at_cap": int(paths.capped_trade_counts.sum()) / trades if trades else None,
    }


def _summarize_values(values: Array) -> dict[str, float]:
    return {"mean": float(values.mean()), "most": float(values.max()), **_percentiles(values)}


def _percentiles(values: Array) -> dict[str, float]:
    quantiles = np.percentile(values, REPORTED_PERCENTILES)
    return {f"p{q}": float(value) for q, value in zip(REPORTED_PERCENTILES, quantiles, strict=True)}


def sortino_ratios(daily_profits: Array, opening_balances: Array) -> Array:
    """Return the annualised Sortino ratio [...] of daily profits [..., D]; NaN without a loss.

    daily_profits: profit of each day, USD.
    opening_balances: balance at the start of each day [..., D], USD.
    """
    # Days without a trade count as well: √252 is for all sessions of a year. A day that begins with
    # no balance has no return; 0 excludes it from gains and losses.
    returns = np.divide(
        daily_profits,
        opening_balances,
        out=np.zeros_like(daily_profits),
        where=opening_balances > 0,
    )
    downside = np.sqrt((np.minimum(returns, 0.0) ** 2).mean(axis=-1))
    undefined = np.full(np.shape(downside), np.nan)
    ratio = np.divide(returns.mean(axis=-1), downside, out=undefined, where=downside > 0)
    return np.asarray(ratio * np.sqrt(TRADING_DAYS))


def find_sample_warnings(sample: TradeSample) -> Iterator[str]:
    """Yield data warnings about a file's trades, one sentence each."""
    n = len(sample.profit_units)
    if n < MIN_FILLS_FOR_ANNUAL_FIGURES:
        yield (
            f"The file has {format_count(n, 'trade')}; with fewer than"
            f" {MIN_FILLS_FOR_ANNUAL_FIGURES} every"
            " figure depends on a few lucky or unlucky trades."
        )
    if beyond := int(
        (
            (sample.profit_units > sample.max_gain_units)
            | (sample.profit_units < -sample.max_loss_units)
        ).sum()
    ):
        yield (
            f"{beyond} of {format_count(n, 'trade')} won more than the credit or lost"
            " more than width"
            " less credit, which is impossible for a spread. Check P/L_$, Position_Size,"
            " Entry_Credit and Strikes."
        )
