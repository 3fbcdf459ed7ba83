"""Many variants over the same beliefs: one compiled walk each, the backtest's own.

Beliefs are computed once; a variant changes what depends on the account: sizing.fraction, limits,
costs, fees, margin, fills, capital. The walks hold no lock and share the cores.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from execution.beliefs import BeliefTable
from forecasting.forecast import Progress, silent
from foundation.arrays import Array
from foundation.errors import InputError
from marketsimulator.account.terms import day_table
from marketsimulator.runs.walk import walked
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import Bars


class Totals(NamedTuple):
    """What a variant traded and paid over all its instants.

    notional: USD bought and sold.
    trades: number of fills at a price, which the fee of a coin purchase is not.
    fees: USD, as are the six that follow.
    coin_fees: fees of coin purchases, taken in coin, at the price of their fill.
    spread: half-spreads.
    slippage: impact included.
    interest: on the debit over night.
    borrow: on shorts over night.
    rounding: of a day's regulatory fees, up to the cent.
    failures: number of decisions that the solver, or an account without equity, left unmade.
    """

    notional: float
    trades: int
    fees: float
    coin_fees: float
    spread: float
    slippage: float
    interest: float
    borrow: float
    rounding: float
    failures: int

    @property
    def costs(self) -> float:
        """USD of all kinds together."""
        trading = self.fees + self.coin_fees + self.spread + self.slippage
        return trading + self.interest + self.borrow + self.rounding


@dataclass(frozen=True, eq=False, slots=True)
class Outcome:
    """What became of one variant. equity: [T] USD at every instant, after its fills."""

    equity: Array
    totals: Totals


def outcomes(
    variants: Sequence[BacktestSettings],
    bars: Bars,
    beliefs: BeliefTable,
    first: int,
    *,
    workers: int | None = None,
    progress: Progress = silent,
) -> list[Outcome]:
    """What becomes of an account under each variant, over the same panel and beliefs.

    Parameters
    ----------
    variants
        whole settings; those that beliefs come from are the same in all.
    first
        number of the instant that the runs begin at.
    workers
        threads; one a core by default.

    Raises
    ------
    InputError
        for a variant that carries the rest of an order from bar to bar, or falls back on another
        strategy: only the backtest does.
    """
    for variant in variants:
        if variant.fills.remainder == "carry":
            raise InputError(
                "fills.remainder: an in-process sweep cancels what a bar leaves; run carry as a"
                " backtest"
            )
        if variant.sizing.fallback != "none":
            raise InputError("sizing.fallback: an in-process sweep has none; run a backtest")
    base = variants[0].timeline(bars, impact=True)

    def simulate(variant: BacktestSettings) -> Outcome:
        # Laying out the panel takes longer than many a run, and depends on one setting alone.
        if variant.fills.coverage == variants[0].fills.coverage:
            dates = base.days["date"].astype("datetime64[D]")
            days = day_table(dates, variant.fees, variant.margin, variant.fills)
            line = base._replace(days=days)
        else:
            line = variant.timeline(bars, impact=True)
        account = walked(variant, bars, beliefs, first, line, keeps=False).account
        sums = {name: float(account[name].sum()) for name in Totals._fields}
        counts = {name: int(sums[name]) for name in ("trades", "failures")}
        return Outcome(account["equity"].copy(), Totals(**{**sums, **counts}))  # type: ignore[arg-type]

    # Threads do, because compiled loops hold no lock; the panel and the beliefs are shared.
    done: list[Outcome] = []
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for outcome in pool.map(simulate, variants):
            done.append(outcome)
            progress("variants", len(done), len(variants))
    return done
