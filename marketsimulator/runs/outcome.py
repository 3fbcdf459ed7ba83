"""Results of many variants of a backtest that share one table of forecasts.

The forecasts and covariances of all decisions (beliefs) are computed once. A variant changes other
settings: strategy, limits, costs, fees, margin, fills, capital. Compiled runs release the
interpreter lock and run on all cores.

On a Ray cluster the results are identical, byte for byte. A task runs several variants in sequence.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from execution.decision.beliefs import BeliefTable
from forecasting.baseline import RandomWalk
from forecasting.chronos2.profile import RaySettings
from forecasting.forecast import Progress, no_progress
from foundation.arrays import Array, StructuredArray
from foundation.plugin import is_plugin, load_entry_point
from marketsimulator.account.terms import day_terms_table
from marketsimulator.run_result import Run, is_trade
from marketsimulator.runs.compiled_run import run_compiled
from marketsimulator.runs.simulate import can_run_compiled, simulate_trading
from marketsimulator.settings import BacktestSettings
from trainingdata.market import Market

VARIANTS_PER_TASK = 50  # laying out the panel is shared by as many variants


class RunTotals(NamedTuple):
    """Traded value and costs of an account over a whole run; USD, except counts.

    notional: traded value, purchases plus sales.
    trades: number of trades, without crypto fees, splits and delistings.
    fees: fees charged in USD.
    crypto_fees: fees charged in crypto, valued at the price of the fill.
    spread: half-spreads paid.
    slippage: slippage paid, including market impact.
    interest: interest on borrowed cash overnight.
    borrow: borrow fees on shorts overnight.
    rounding: rounding of a day's regulatory fees up to the cent.
    dividends: dividends received less dividends paid on shorts.
    failures: number of decisions without target weights, because the solver failed or because
        equity was lacking.
    """

    notional: float
    trades: int
    fees: float
    crypto_fees: float
    spread: float
    slippage: float
    interest: float
    borrow: float
    rounding: float
    dividends: float
    failures: int

    @property
    def costs_by_kind(self) -> dict[str, float]:
        """Return the amount of each kind of cost, USD, positive when paid."""
        return {
            "spread": self.spread,
            "slippage": self.slippage,
            # The rounding of a day's fees up to the cent is a fee as well.
            "fees": self.fees + self.rounding,
            "crypto_fees": self.crypto_fees,
            "interest": self.interest,
            "borrow": self.borrow,
        }

    @property
    def costs(self) -> float:
        """Return the sum of all costs, USD."""
        return sum(self.costs_by_kind.values())


_FLOW_NAMES = (
    "fees",
    "crypto_fees",
    "spread",
    "slippage",
    "interest",
    "borrow",
    "rounding",
    "dividends",
)


@dataclass(frozen=True, eq=False, slots=True)
class VariantOutcome:
    """Equity, exposure and costs of an account over T instants.

    equity: [T] equity after the fills of each instant, USD.
    gross_exposure: [T] gross value of the positions after these fills, USD.
    totals: traded value and costs of the whole run.
    """

    equity: Array
    gross_exposure: Array
    totals: RunTotals

    @classmethod
    def from_compiled(cls, account: StructuredArray) -> VariantOutcome:
        """Build the outcome from a compiled run's equity rows, [T] records (EQUITY_ROW_DTYPE)."""
        sums: Any = {name: float(account[name].sum()) for name in ("notional", *_FLOW_NAMES)}
        counts: Any = {name: int(account[name].sum()) for name in ("trades", "failures")}
        gross = account["stock"] + account["crypto"]
        return cls(account["equity"].copy(), gross, RunTotals(**sums, **counts))

    @classmethod
    def from_run(cls, run: Run) -> VariantOutcome:
        """Build the outcome from a run's equity rows and fills."""
        flows: Any = {name: sum(map(attrgetter(name), run.equity_rows)) for name in _FLOW_NAMES}
        trades = [fill for fill in run.fills if is_trade(fill)]
        totals = RunTotals(
            notional=sum(abs(float(fill.qty)) * fill.price for fill in trades),
            trades=len(trades),
            failures=run.decision_log.failure_count,
            **flows,
        )
        gross = np.array([row.gross_stock + row.gross_crypto for row in run.equity_rows])
        return cls(np.array([row.equity for row in run.equity_rows]), gross, totals)


def simulate_variants(
    variants: Sequence[BacktestSettings],
    market: Market,
    beliefs: BeliefTable,
    *,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> list[VariantOutcome]:
    """Simulate each variant over the same market and beliefs; return one outcome per variant.

    variants: complete settings. The settings that determine beliefs must be equal in all of them.
    beliefs: expected returns and covariances of each decision instant.
    workers: number of threads; None: one per core.
    """
    base = variants[0].build_timeline(market, impact=True)

    def simulate(variant: BacktestSettings) -> VariantOutcome:
        if not can_run_compiled(variant, market):
            trader = replace(variant.build_trader(RandomWalk()), belief_table=beliefs)
            return VariantOutcome.from_run(simulate_trading(variant, market, "variant", trader))
        # Laying out the panel takes longer than many runs, and depends on one setting only.
        if variant.fills.feed_volume_share == variants[0].fills.feed_volume_share:
            dates = base.day_terms["date"].astype("datetime64[D]")
            days = day_terms_table(dates, variant.fees, variant.margin, variant.fills)
            line = base._replace(day_terms=days)
        else:
            line = variant.build_timeline(market, impact=True)
        walk = run_compiled(variant, market, beliefs, line, keep_decisions=False)
        return VariantOutcome.from_compiled(walk.equity_rows)

    # Threads suffice, because compiled loops hold no lock, and the market and beliefs are shared. A
    # plugin's strategy is called by one variant at a time, because its state is unknown.
    own = any(is_plugin(variant.sizing.strategy) for variant in variants)
    done: list[VariantOutcome] = []
    with ThreadPoolExecutor(1 if own else workers or os.cpu_count()) as pool:
        for outcome in pool.map(simulate, variants):
            done.append(outcome)
            progress("variants", len(done), len(variants))
    return done


def simulate_variants_on_ray(
    variants: Sequence[BacktestSettings],
    market: Market,
    beliefs: BeliefTable,
    settings: RaySettings | None = None,
    *,
    per_task: int = VARIANTS_PER_TASK,
    progress: Progress = no_progress,
) -> list[VariantOutcome]:
    """Simulate each variant on a Ray cluster; return one outcome per variant.

    The outcomes equal those of `simulate_variants`.

    settings: settings of the cluster; each task reserves `cores` cores.
    per_task: number of variants that a task runs in sequence.
    """
    groups = [list(variants[k : k + per_task]) for k in range(0, len(variants), per_task)]
    # Arrays in Ray's store are read-only, for which Numba would compile all code again.
    found: dict[int, list[VariantOutcome]] = {}
    with closing(
        load_entry_point("launchers", "ray")(
            settings or RaySettings(), _simulate_group, (market, beliefs), groups, prepare=deepcopy
        )
    ) as answers:
        for number, _, outcomes in answers:
            found[number] = outcomes
            progress("variants", sum(map(len, found.values())), len(variants))
    return [outcome for number in range(len(groups)) for outcome in found[number]]


def _simulate_group(
    shared: tuple[Market, BeliefTable], variants: list[BacktestSettings]
) -> list[VariantOutcome]:
    """Simulate the variants of one Ray task; return one outcome per variant."""
    return simulate_variants(variants, *shared, workers=1)
