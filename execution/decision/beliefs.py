"""Beliefs of a decision: the symbols that may trade, and their expected returns and covariances.

Beliefs cover the periods of a plan, and do not depend on the account.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from foundation.arrays import Array, Array32, Index, Instants, Mask
from foundation.compiled import AnyArray, compiled, jit_inline
from sizing.problem import ExpectedReturns
from trainingdata.schedule import EVERY_BAR, Schedule
from trainingdata.timeframe import HoldingRule
from trainingdata.universe import ExclusionRuleCodes

_PER_SYMBOL_FIELDS = (
    "is_adjustable",
    "exclusion_rule",
    "is_exiting",
    "mu",
    "sigma",
    "shrinkage",
    "signal_rms",
    "premium_per_unit_sharpe",
)
_TIMELESS_FIELDS = ("symbol_index", "crypto", "correlations")


@dataclass(frozen=True, slots=True)
class DecisionPeriods:
    """Periods over which a decision forecasts returns: one interval, or a plan of three periods.

    holding_interval: `next` or `session` for one interval, or `plan`, whose first period ends with
        the next decision.
    signal_bars: number of bars from now until a plan's second period ends.
    horizon_days: number of calendar days from now until a plan's last period ends.
    schedule: schedule of decisions.
    """

    holding_interval: HoldingRule = "plan"
    signal_bars: int = 3
    horizon_days: int = 28
    schedule: Schedule = EVERY_BAR


class BeliefTable(NamedTuple):
    """Beliefs about S symbols at T instants, over K consecutive periods.

    The table of a backtest has one row for each instant at which symbols are due to trade or are
    trimmed to the overnight leverage ceiling. The table of a single decision has one row.

    symbol_index: [S] index of each symbol in the panel.
    instants: [T] instants.
    period_ends: [T, K] ends of the periods.
    is_overnight: [T] true if the first period includes the night, or if no later decision can
        reduce positions before the night.
    can_trim_overnight: [T] true if stocks can be trimmed to the overnight ceiling at the instant,
        with or without a forecast.
    class_trading_years: [T, K, 2] trading time of stocks and of crypto in each period, years.
    interest_night_count: [T, K] number of nights for which a loan costs interest.
    shared_news_fraction: [T, K] share of the news in a period that moves stock and crypto prices
        alike.
    crypto: [S] true for crypto.
    is_adjustable: [T, S] true for symbols due to trade: the bar has just closed, the market is
        open, and a forecast of that bar exists.
    exclusion_rule: [T, S] index in `EXCLUSION_RULES` of the universe rule that excludes the symbol;
        0 for a symbol in the universe.
    is_exiting: [T, S] true for excluded symbols whose positions can be closed at the instant, with
        or without a forecast.
    mu: [T, K, S] expected returns; NaN without a forecast.
    sigma: [T, K, S] standard deviations of the returns; NaN without a forecast.
    shrinkage: [T, S] factor that multiplied the forecaster's median; NaN without shrinkage.
    signal_rms: [T, S] root mean square of the return that the median forecasts until it has
        decayed.
    premium_per_unit_sharpe: [T, S] yearly expected return of the symbol if its asset class has a
        Sharpe ratio of 1.
    earned: [T] fraction of its positions that the forecast has earned, which multiplies `mu` and
        `signal_rms` in a decision; NaN if they count in full.
    crypto_correlation: [T] correlation of the diversified crypto class with the stock market.
    correlation_index: [T] index of the correlation matrix in force, in `correlations`.
    correlations: [D, S, S] correlation matrices, float32.
    """

    symbol_index: Index
    instants: Instants
    period_ends: Instants
    is_overnight: Mask
    can_trim_overnight: Mask
    class_trading_years: Array
    interest_night_count: Index
    shared_news_fraction: Array
    crypto: Mask
    is_adjustable: Mask
    exclusion_rule: ExclusionRuleCodes
    is_exiting: Mask
    mu: Array
    sigma: Array
    shrinkage: Array
    signal_rms: Array
    premium_per_unit_sharpe: Array
    earned: Array
    crypto_correlation: Array
    correlation_index: Index
    correlations: Array32

    @property
    def forecast_shares(self) -> Array:
        """Share [T] of the forecast that counts: the fraction that it has earned, else 1."""
        return np.where(np.isnan(self.earned), 1.0, self.earned)

    @property
    def symbol_trading_years(self) -> Array:
        """Trading time of each symbol's market in each period, years, [T, K, S]."""
        return self.class_trading_years[:, :, self.crypto.astype(np.intp)]

    @property
    def first_period_end(self) -> np.datetime64:
        """End of the first period at the table's first instant."""
        return np.datetime64(self.period_ends[0, 0])

    def at_instant(self, now: np.datetime64, held: Mask | None = None) -> BeliefTable | None:
        """Return the beliefs about the relevant symbols at one instant; None if there are none.

        A symbol is relevant if it is held or may be held.

        held: [S] true for held symbols, which are relevant even outside the universe; None makes
            all symbols relevant.
        """
        t = int(self.instants.searchsorted(now))
        if t >= len(self.instants) or self.instants[t] != now:
            return None
        held = np.ones(len(self.symbol_index), dtype=bool) if held is None else held
        chosen = find_relevant_symbols(self.sigma[t], self.exclusion_rule[t], held)
        one = self.select_rows(np.array([t]))
        return one._replace(
            symbol_index=self.symbol_index[chosen],
            crypto=self.crypto[chosen],
            correlation_index=np.zeros(1, dtype=np.int64),
            correlations=self.correlations[self.correlation_index[t]][np.ix_(chosen, chosen)][None],
            **{name: getattr(one, name).take(chosen, axis=-1) for name in _PER_SYMBOL_FIELDS},
        )

    def select_rows(self, rows: Index) -> BeliefTable:
        """Return the beliefs at the instants with these indices."""
        names = [name for name in self._fields if name not in _TIMELESS_FIELDS]
        return self._replace(**{name: getattr(self, name)[rows] for name in names})


def concatenate_beliefs(parts: Sequence[BeliefTable]) -> BeliefTable:
    """Join belief tables of consecutive time spans of one history into one table."""
    if len(parts) == 1:
        return parts[0]
    # Every part numbers its matrices from 0; offsets renumber them in the whole.
    offsets = np.cumsum([0, *(len(part.correlations) for part in parts[:-1])])
    numbers = [part.correlation_index + offset for part, offset in zip(parts, offsets, strict=True)]
    arrays: dict[str, Any] = {}
    for name in BeliefTable._fields:
        if name not in ("symbol_index", "crypto", "correlation_index"):
            arrays[name] = np.concatenate([getattr(part, name) for part in parts])
    return parts[0]._replace(correlation_index=np.concatenate(numbers), **arrays)


@compiled
def find_relevant_symbols(sigma: Array, exclusion_rule: ExclusionRuleCodes, held: Mask) -> Index:
    """Return the indices [m] of the symbols that are held or may be held at a decision.

    All other symbols keep weight 0.

    sigma: [K, S] standard deviations of the returns at one instant; NaN without a forecast.
    exclusion_rule: [S] index of the rule that excludes each symbol from the universe; 0 for none.
    held: [S] true for symbols that are held.
    """
    chosen = np.empty(len(exclusion_rule), dtype=np.int64)
    count = 0
    for s in range(len(exclusion_rule)):
        if held[s] or (exclusion_rule[s] == 0 and np.isfinite(sigma[0, s])):
            chosen[count] = s
            count += 1
    return chosen[:count]


@compiled
def build_expected_returns(
    beliefs: BeliefTable,
    row: int,
    chosen: Index,
    class_sharpe: Array,
    uses_forecast: bool,
    size: int,
) -> ExpectedReturns:
    """Return the expected returns and covariances of chosen symbols at instant `row`.

    The expected return is 0 for symbols that are not due to trade. The covariances are 0 for
    symbols without a forecast. Covariances between stocks and crypto are scaled by the share of a
    period's news that moves both classes. The matrix stays positive definite.

    chosen: [m] indices of the relevant symbols among the S.
    class_sharpe: [2] yearly Sharpe ratios of stocks and of crypto, as used by the strategy.
    uses_forecast: true if the strategy uses the forecast.
    size: number of rows of the result: m plus the number of positions outside the panel.
    """
    periods = beliefs.mu.shape[1]
    count = len(chosen)
    crypto = beliefs.crypto
    sigma = beliefs.sigma[row]
    matrix = beliefs.correlations[beliefs.correlation_index[row]]
    share_earned = forecast_share(beliefs, row)
    mu = np.zeros((periods, size))
    premium = np.zeros((periods, size))
    covariance = np.zeros((periods, size, size))
    years = np.zeros(size)
    universe = np.zeros(size, dtype=np.bool_)
    for k in range(periods):
        news = beliefs.shared_news_fraction[row, k]
        for a in range(count):
            s = chosen[a]
            kind = 1 if crypto[s] else 0
            symbol_years = beliefs.class_trading_years[row, k, kind]
            if k == 0:
                years[a] = symbol_years
                universe[a] = np.isfinite(sigma[0, s]) and beliefs.exclusion_rule[row, s] == 0
            # A symbol that is not due to trade earns the same for all weights: its return is 0.
            # Its risk counts, because its position is part of the book.
            if beliefs.is_adjustable[row, s]:
                premium[k, a] = (
                    beliefs.premium_per_unit_sharpe[row, s] * class_sharpe[kind] * symbol_years
                )
                forecast = beliefs.mu[row, k, s] * share_earned if uses_forecast else 0.0
                mu[k, a] = forecast + premium[k, a]
            is_crypto = crypto[s]
            deviation = sigma[k, s]
            for b in range(count):
                r = chosen[b]
                # Between the classes the matrix is of returns from 16:00 to 16:00 New York, which
                # include all news of both. The prices of a period share only part of their news.
                share = news if is_crypto != crypto[r] else 1.0
                product = deviation * sigma[k, r]
                if np.isfinite(product):
                    covariance[k, a, b] = matrix[s, r] * share * product
    return ExpectedReturns(mu, premium, covariance, universe, years)


@jit_inline
def forecast_share(beliefs: BeliefTable, row: int) -> float:
    """Return the share of the forecast that counts at instant `row`."""
    return 1.0 if np.isnan(beliefs.earned[row]) else beliefs.earned[row]


@jit_inline
def select_and_pad(values: AnyArray, chosen: Index, size: int) -> AnyArray:
    """Return the values of the chosen symbols, padded with zeros to `size` entries.

    values: [S] one value per symbol.
    chosen: [m] indices of the symbols.
    """
    wide: AnyArray = np.zeros(size, dtype=values.dtype)  # type: ignore[assignment]
    for a in range(len(chosen)):
        wide[a] = values[chosen[a]]
    return wide
