"""What a decision believes before it looks at the account.

Who decides, over which periods of time, and their expected returns, deviations and correlation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np

from foundation.arrays import Array, Array32, Index, Instants, Mask
from foundation.compiled import AnyArray, compiled, inlined
from sizing.problem import Returns
from trainingdata.schedule import EVERY_BAR, Schedule
from trainingdata.timeframe import Holding
from trainingdata.universe import Rule

_OF_SYMBOLS = ("deciding", "outside", "leaving", "mu", "sigma", "shrinkage", "signal", "premium")
_OF_NO_INSTANT = ("symbols", "crypto", "correlations")


@dataclass(frozen=True, slots=True)
class Periods:
    """The spans of time that a decision looks at: one interval, or the three of a plan.

    holding: `next` or `session` for one interval, or `plan`, whose first period ends with the next
        decision.
    signal_bars: own bars from now after which a plan's second period ends.
    horizon_days: calendar days from now after which its last period ends.
    schedule: which decisions are made.
    """

    holding: Holding = "plan"
    signal_bars: int = 3
    horizon_days: int = 28
    schedule: Schedule = EVERY_BAR


class BeliefRow(NamedTuple):
    """Inputs of a decision at an instant: a row of `BeliefTable`.

    sharpe: [S] yearly Sharpe ratio of each symbol's class, as used by the strategy.
    years: [K, S] each symbol's own open time in the periods, in years.
    correlation: [K, S, S] of returns over each period.
    financing: [K] price of one USD borrowed in each period, USD.
    """

    mu: Array
    sigma: Array
    premium: Array
    sharpe: Array
    signal: Array
    years: Array
    correlation: Array
    deciding: Mask
    outside: Rule
    leaving: Mask
    financing: Array
    overnight: bool
    cuts: bool


@dataclass(frozen=True, eq=False, slots=True)
class BeliefTable:
    """What is believed of S symbols at T instants, over K periods of time that follow each other.

    Of a history they are those at which anything decides or is cut; of a decision, it alone.

    symbols: of the panel, S.
    at: [T] the instants.
    ends: [T, K] when each period ends.
    overnight: [T] the first period holds the night, or leaves no later decision to cut for it.
    cuts: [T] stocks can still be cut for the night, forecast or not.
    years: [T, K, 2] open time in years, of stocks and of coins.
    nights: [T, K] for which what is borrowed costs.
    shared: [T, K] share of their news that stocks and coins have in common.
    crypto: [S] which symbols are coins.
    deciding: [T, S] whose bar has just closed, whose market is open to fill, and which have a
        forecast of it.
    outside: [T, S] which rule of the universe leaves it out, a number of its RULES; 0 for what is
        in.
    leaving: [T, S] which of those outside can be sold now, forecast or not.
    mu: [T, K, S] expected returns; NaN where there is no forecast.
    sigma: [T, K, S] their standard deviations; NaN where there is no forecast.
    shrinkage: [T, S] what the forecaster's median was multiplied by; NaN where it was not.
    signal: [T, S] root mean square of what such a median is worth over its whole life, a return.
    premium: [T, S] return a year at a Sharpe ratio of one of the symbol's class.
    crypto_correlation: [T] of the diversified crypto class with the stock market.
    matrix: [T] number of the correlation matrix in force.
    correlations: [D, S, S] float32, the matrices.
    """

    symbols: tuple[str, ...]
    at: Instants
    ends: Instants
    overnight: Mask
    cuts: Mask
    years: Array
    nights: Index
    shared: Array
    crypto: Mask
    deciding: Mask
    outside: Rule
    leaving: Mask
    mu: Array
    sigma: Array
    shrinkage: Array
    signal: Array
    premium: Array
    crypto_correlation: Array
    matrix: Index
    correlations: Array32

    @property
    def own_years(self) -> Array:
        """[T, K, S] each symbol's own open time in the periods, in years."""
        return self.years[:, :, self.crypto.astype(np.intp)]

    @property
    def until(self) -> np.datetime64:
        """When the first period of the first instant ends."""
        return np.datetime64(self.ends[0, 0])

    def of(self, now: np.datetime64, held: Mask | None = None) -> BeliefTable | None:
        """The table of an instant and of what counts then; None where nothing decides.

        held: [S] what counts although nothing may hold it; none: everything counts.
        """
        t = int(self.at.searchsorted(now))
        if t >= len(self.at) or self.at[t] != now:
            return None
        held = np.ones(len(self.symbols), dtype=bool) if held is None else held
        chosen = counted(self.sigma[t], self.outside[t], held)
        one = self.rows(np.array([t]))
        return replace(
            one,
            symbols=tuple([self.symbols[s] for s in chosen.tolist()]),
            crypto=self.crypto[chosen],
            matrix=np.zeros(1, dtype=np.int64),
            correlations=self.correlations[self.matrix[t]][np.ix_(chosen, chosen)][None],
            **{name: getattr(one, name).take(chosen, axis=-1) for name in _OF_SYMBOLS},
        )

    def rows(self, rows: Index) -> BeliefTable:
        """The table of some of its instants."""
        names = [field.name for field in fields(self) if field.name not in _OF_NO_INSTANT]
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def row(self, nightly_rate: float, class_sharpe: Array) -> BeliefRow:
        """Return the inputs of a decision at the first instant.

        nightly_rate: of one USD borrowed for a night.
        class_sharpe: [2] Sharpe ratios a year of stocks and of crypto.
        """
        every = np.arange(len(self.symbols))
        matrix = self.correlations[self.matrix[0]]
        years, correlation = years_and_correlations(
            self.years[0], matrix, self.crypto, self.shared[0], every
        )
        return BeliefRow(
            self.mu[0],
            self.sigma[0],
            self.premium[0],
            class_sharpe[self.crypto.astype(np.intp)],
            self.signal[0],
            years,
            correlation,
            self.deciding[0],
            self.outside[0],
            self.leaving[0],
            np.asarray(nightly_rate * self.nights[0], dtype=np.float64),
            bool(self.overnight[0]),
            bool(self.cuts[0]),
        )


def joined_beliefs(parts: Sequence[BeliefTable]) -> BeliefTable:
    """Beliefs of spans of one history that follow each other, as those of the whole."""
    if len(parts) == 1:
        return parts[0]
    # Every part numbers its own matrices from 0. In the whole they lie behind those before them.
    offsets = np.cumsum([0, *(len(part.correlations) for part in parts[:-1])])
    numbers = [part.matrix + offset for part, offset in zip(parts, offsets, strict=True)]
    arrays: dict[str, Any] = {}
    for field in fields(BeliefTable):
        values = [getattr(part, field.name) for part in parts]
        if field.name not in ("symbols", "crypto", "matrix"):
            arrays[field.name] = np.concatenate(values)
    return replace(parts[0], matrix=np.concatenate(numbers), **arrays)


@compiled
def counted(sigma: Array, outside: Rule, held: Mask) -> Index:
    """The symbols [m] that a decision reckons with: what may be held, and what is.

    All others have no weight and get none, whatever is decided.

    sigma [K, S], outside [S]: of one instant, as of `BeliefTable`. held: [S].
    """
    chosen = np.empty(len(outside), dtype=np.int64)
    count = 0
    for s in range(len(outside)):
        if held[s] or (outside[s] == 0 and np.isfinite(sigma[0, s])):
            chosen[count] = s
            count += 1
    return chosen[:count]


@compiled
def years_and_correlations(
    years: Array, correlation: Array32, crypto: Mask, shared: Array, chosen: Index
) -> tuple[Array, Array]:
    """Each symbol's own years [K, m] in the periods, and the correlation [K, m, m] over them.

    chosen: [m] the symbols, of S.

    What is between the classes counts in proportion to the news that they share in a period; the
    matrix stays positive definite.
    """
    periods = len(shared)
    size = len(chosen)
    symbol_years = np.empty((periods, size))
    period_correlation = np.empty((periods, size, size))
    for k in range(periods):
        for a in range(size):
            s = chosen[a]
            symbol_years[k, a] = years[k, 1] if crypto[s] else years[k, 0]
            for b in range(size):
                r = chosen[b]
                # Between the classes the matrix is of returns from 16:00 to 16:00 New York, which
                # hold all the news of both. The prices of a period share only part of theirs.
                share = shared[k] if crypto[s] != crypto[r] else 1.0
                period_correlation[k, a, b] = correlation[s, r] * share
    return symbol_years, period_correlation


@inlined
def returns_of(belief: BeliefRow, forecast: bool, size: int) -> Returns:
    """Return a strategy's expected returns over the periods.

    The return is 0 for symbols that do not decide, the covariance 0 without a forecast.

    belief: of S symbols.
    forecast: whether the strategy uses the forecast.
    size: S plus the positions outside the panel.
    """
    sigma = belief.sigma
    periods, symbols = sigma.shape
    mu = np.zeros((periods, size))
    premium = np.zeros((periods, size))
    covariance = np.zeros((periods, size, size))
    for k in range(periods):
        for s in range(symbols):
            # What does not decide stays as it is and earns the same whatever is chosen. Its risk
            # counts all the same: it is held beside what is chosen.
            if belief.deciding[s]:
                premium[k, s] = belief.premium[s] * belief.sharpe[s] * belief.years[k, s]
                mu[k, s] = (belief.mu[k, s] if forecast else 0.0) + premium[k, s]
            for r in range(symbols):
                product = sigma[k, s] * sigma[k, r]
                covariance[k, s, r] = (
                    belief.correlation[k, s, r] * product if np.isfinite(product) else 0.0
                )
    universe = np.zeros(size, dtype=np.bool_)
    for s in range(symbols):
        universe[s] = np.isfinite(sigma[0, s]) and belief.outside[s] == 0
    return Returns(mu, premium, covariance, universe, padded(belief.years[0], size))


@inlined
def padded(values: AnyArray, size: int) -> AnyArray:
    """Values [S], then as many zeros as are missing from `size`."""
    if len(values) == size:
        return values
    wide: AnyArray = np.zeros(size, dtype=values.dtype)  # type: ignore[assignment]
    for s in range(len(values)):
        wide[s] = values[s]
    return wide
