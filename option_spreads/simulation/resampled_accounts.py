"""Runs of an account over resampled trades: one by one, in blocks, and with maximum losses."""

from __future__ import annotations

import math
import os

import numpy as np

from foundation.counts import counted
from foundation.errors import InputError
from foundation.settings import setting, settings_class
from option_spreads.autoscaler.rules import AutoscalingSettings
from option_spreads.simulation.resampling import (
    AccountPaths,
    ResamplingRules,
    account_paths,
    draw_trades,
    with_full_losses,
)
from option_spreads.simulation.trade_sample import TradeSample


@settings_class()
class MonteCarloSettings(AutoscalingSettings):
    """Settings of configs/monte_carlo.yaml."""

    trades: str | None = setting(None, "a file of closed trades")
    check: str | None = setting(
        None, "an account's file, its months beside what earlier trades make likely"
    )
    runs: int = setting(10_000, "number of them", ge=1, le=1_000_000)
    days: int = setting(252, "trading days of a run", ge=1, le=100_000)
    seed: int = setting(0, "of the draws", ge=0, lt=2**63)
    trades_per_day: float | None = setting(
        None, "on average; none: the file's, by sessions from first trade to last", gt=0, le=1000
    )
    block: int | None = setting(
        None, "trades that stay together in the block bootstrap; none: a week's", ge=1, le=100_000
    )
    uncertainty: bool = setting(
        False, "whether each run first draws its own history, as those of `check` do"
    )
    stress: float | None = setting(
        None,
        "chance of a maximum loss; none: 1 - 0.05^(1/n), the most that n trades without "
        "one leave possible at 95 %",
        ge=0,
        le=1,
    )
    above: float | None = setting(
        None, "USD that the chance to end above is given of", ge=0, le=1e15
    )
    output: str = setting("outputs/monte-carlo", "folder for the results")

    def block_length(self, trades_a_day: float) -> int:
        """Trades that stay together: those of a week, five sessions, where none are named."""
        return self.block or max(round(5 * trades_a_day), 1)


def simulate_accounts(sample: TradeSample, settings: MonteCarloSettings) -> dict[str, AccountPaths]:
    """Runs by name: `iid`, `block`, and `stress` (iid with maximum losses)."""
    n = len(sample.results)
    a_day = settings.trades_per_day or sample.trades_per_day
    _refuse_beyond_memory(settings, math.ceil(a_day))
    rules = ResamplingRules.of(settings)
    # Trade n + k is trade k with the largest loss it can have: what a stress draws.
    results = np.concatenate([sample.results, -sample.risks])
    risks = np.concatenate([sample.risks, sample.risks])
    overlaps = np.concatenate([sample.overlaps, sample.overlaps])
    shape = n, settings.runs, settings.days, a_day, settings.seed
    single = draw_trades(*shape, uncertainty=settings.uncertainty)
    iid = account_paths(results, risks, single, rules, overlaps)
    worse = with_full_losses(single, n, stress_chance(sample, settings), settings.seed)
    del single
    stress = account_paths(results, risks, worse, rules, overlaps)
    del worse
    # Blocks keep trades in their order: losses that came one after another do so again.
    length = settings.block_length(a_day)
    blocks = draw_trades(*shape, block=length, uncertainty=settings.uncertainty)
    block = account_paths(results, risks, blocks, rules, overlaps)
    return {"iid": iid, "block": block, "stress": stress}


def _refuse_beyond_memory(settings: MonteCarloSettings, most: int) -> None:
    # Two sets of draws at a time, and the balances of three sets.
    needed = settings.runs * settings.days * (2 * 4 * most + 3 * 8)
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise InputError(
            f"runs: {settings.runs:,} of {settings.days:,} days with up to"
            f" {counted(most, 'trade')} take {needed / 1e9:,.0f} GB, and this machine has"
            f" {there / 1e9:,.0f}; name fewer runs or days"
        )


def stress_chance(sample: TradeSample, settings: MonteCarloSettings) -> float:
    """The chance of a maximum loss in the stress runs.

    Without one in n trades, a chance of 1 - 0.05^(1/n) passes unseen one time in twenty.
    """
    n = len(sample.results)
    if settings.stress is not None:
        return settings.stress
    return sample.maximal / n if sample.maximal else 1.0 - 0.05 ** (1.0 / n)


def limits_text(sample: TradeSample, settings: MonteCarloSettings) -> str:
    """What these runs cannot show, and what the stress does about it."""
    share = max(float((-sample.results / sample.risks).max()), 0.0)
    chance = stress_chance(sample, settings)
    if sample.maximal:
        unseen = f"{sample.maximal} of {len(sample.results)} lost all."
    else:
        unseen = f"none lost all. The stress runs let a trade do so with a chance of {chance:.2%}."
    return (
        "Resampling repeats what happened: it cannot show a loss that the file does not hold. The"
        f" worst of these trades lost {share:.0%} of what it could; {unseen}"
    )
