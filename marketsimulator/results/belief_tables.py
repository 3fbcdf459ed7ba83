"""Cache of belief tables for variants of a backtest that share their beliefs.

A belief table holds the expected returns and covariances of all decisions of a run.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from execution.decision.beliefs import BeliefTable
from forecasting.baseline import RandomWalk
from forecasting.forecast import Progress, mark_as_look_ahead, no_progress
from marketsimulator.results.forecast_outcomes import forecasts_contain_future
from marketsimulator.settings import BacktestSettings
from trainingdata.correlation import CachedCorrelations
from trainingdata.market import Market

MAX_CACHED_TABLES = 4  # a table of a long run with many symbols takes hundreds of megabytes


class VariantGroup(NamedTuple):
    """Variants that share a belief table.

    belief_table: beliefs at every instant of the market's run.
    variant_numbers: numbers of the variants.
    forecaster: name of the forecaster, marked if it reads the future.
    """

    belief_table: BeliefTable
    variant_numbers: list[int]
    forecaster: str


class BeliefTableCache:
    """LRU cache of the belief tables of one market, by the settings that determine them.

    These settings are forecaster, correlation, volatility rule, holding period, universe and its
    ranking, and those by which the forecast is judged if it counts as far as it has earned. No
    correlation is estimated twice.
    """

    def __init__(self, market: Market, progress: Progress = no_progress) -> None:
        self._market = market
        self._progress = progress
        self._correlations: dict[str, CachedCorrelations] = {}
        self._tables: OrderedDict[str, tuple[BeliefTable, str]] = OrderedDict()

    def group_variants(self, variants: Sequence[BacktestSettings]) -> Iterator[VariantGroup]:
        """Yield the variants in groups that share a belief table."""
        groups: dict[str, list[int]] = {}
        for k, variant in enumerate(variants):
            groups.setdefault(_belief_key(variant), []).append(k)
        for key, members in groups.items():
            if key not in self._tables:
                self._tables[key] = self._build(variants[members[0]])
            self._tables.move_to_end(key)
            if len(self._tables) > MAX_CACHED_TABLES:
                self._tables.popitem(last=False)
            table, forecaster = self._tables[key]
            yield VariantGroup(table, members, forecaster)

    def _build(self, variant: BacktestSettings) -> tuple[BeliefTable, str]:
        """Return the belief table of a variant, and the name of its forecaster."""
        key = repr(variant.correlation)
        if key not in self._correlations:
            self._correlations[key] = CachedCorrelations(variant.correlation.build_source())
        forecaster = variant.forecaster.build(self._market.bars.symbols)
        trader = replace(variant.build_trader(forecaster), correlations=self._correlations[key])
        table = trader.build_beliefs(self._market, self._progress)
        future = forecasts_contain_future(table, self._market.bars)
        return table, mark_as_look_ahead(forecaster.name) if future else forecaster.name


def _belief_key(variant: BacktestSettings) -> str:
    """Return the settings that determine the beliefs of a variant, as text."""
    trader = variant.build_trader(RandomWalk())
    sources = (
        variant.forecaster,
        variant.correlation,
        variant.sizing.volatility,
        trader.decision_periods,
    )
    universe = variant.universe
    ranked_by = (variant.prior, variant.costs, variant.fees) if universe.ranks_by_growth else ()
    judged_by: tuple[object, ...] = ()
    if variant.sizing.earned is True:
        terms = variant.prior, variant.costs, variant.fees, variant.limits, variant.margin
        judged_by = *terms, variant.sizing.judging_fraction, variant.sizing.earned_attempt
    return repr((*sources, universe, *ranked_by, *judged_by))
