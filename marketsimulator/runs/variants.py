"""Many variants over the same beliefs: the backtest's own walk each, of which sums are kept.

Beliefs are computed once; a variant changes what depends on the account: strategy, limits, costs,
fees, margin, fills, capital. Compiled walks hold no lock and share the cores.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from execution.decision.beliefs import BeliefTable
from forecasting.baseline import RandomWalk
from forecasting.forecast import Progress, silent
from foundation.plugin import is_own
from marketsimulator.account.terms import day_table
from marketsimulator.runs.outcome import Outcome
from marketsimulator.runs.simulate import simulate_trading, walks
from marketsimulator.runs.walk import walked
from marketsimulator.settings import BacktestSettings
from trainingdata.market import Market


def outcomes(
    variants: Sequence[BacktestSettings],
    market: Market,
    beliefs: BeliefTable,
    *,
    workers: int | None = None,
    progress: Progress = silent,
) -> list[Outcome]:
    """What becomes of an account under each variant, over the same market and beliefs.

    variants: whole settings; those that beliefs come from are the same in all.
    workers: threads; one a core by default.
    """
    base = variants[0].timeline(market, impact=True)

    def simulate(variant: BacktestSettings) -> Outcome:
        if not walks(variant, market):
            trader = replace(variant.trader(RandomWalk()), table=beliefs)
            return Outcome.of_run(simulate_trading(variant, market, "variant", trader))
        # Laying out the panel takes longer than many a run, and depends on one setting alone.
        if variant.fills.coverage == variants[0].fills.coverage:
            dates = base.days["date"].astype("datetime64[D]")
            days = day_table(dates, variant.fees, variant.margin, variant.fills)
            line = base._replace(days=days)
        else:
            line = variant.timeline(market, impact=True)
        walk = walked(variant, market, beliefs, line, keeps=False)
        return Outcome.of_walk(walk.account)

    # Threads do, because compiled loops hold no lock; the market and the beliefs are shared. A rule
    # of one's own is asked by one variant after the other: nobody knows what it holds.
    own = any(is_own(variant.sizing.strategy) for variant in variants)
    done: list[Outcome] = []
    with ThreadPoolExecutor(1 if own else workers or os.cpu_count()) as pool:
        for outcome in pool.map(simulate, variants):
            done.append(outcome)
            progress("variants", len(done), len(variants))
    return done
