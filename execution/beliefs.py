"""What a decision believes before it looks at the account: who decides, for how long, mu,
sigma, premium, correlation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from foundation.arrays import Array, Array32, Index, Instants, Mask
from foundation.compiled import compiled
from trainingdata.sessions import Holding


@dataclass(frozen=True, slots=True)
class Blocks:
    """The spans of time that a decision looks at: one (`next`, `session`), or the three of a
    `plan`.

    A plan's first block ends with the next decision, its second `signal_bars` own bars from now,
    its last `horizon_days` calendar days from now.
    """

    holding: Holding = "plan"
    signal_bars: int = 3
    horizon_days: int = 28


@dataclass(frozen=True, eq=False, slots=True)
class Belief:
    """Of one instant, `at`, over K blocks of time that follow each other and end at `ends` [K]; S
    symbols.

    deciding [S]: whose bar has just closed, whose market is open to fill, and which have a forecast
    of it. overnight: the first block holds the night, or leaves no later decision to cut for it.
    cuts: stocks can still be cut for it now, forecast or not. years [K, S]: each symbol's own open
    time, in years; nights [K]: for which what is borrowed costs. mu, sigma [K, S]: NaN where there
    is no forecast. worth [S]: what its centre was multiplied by, NaN where it was not. signal [S]:
    root mean square of what such a centre is worth over its whole life, a return. premium [S]: a
    year, for a class's Sharpe ratio of one. correlation [K, S, S].
    """

    symbols: tuple[str, ...]
    at: np.datetime64
    ends: Instants
    deciding: Mask
    overnight: bool
    cuts: bool
    years: Array
    nights: Index
    mu: Array
    sigma: Array
    worth: Array
    signal: Array
    premium: Array
    correlation: Array

    @property
    def until(self) -> np.datetime64:
        """When the first block ends."""
        return np.datetime64(self.ends[0])


@dataclass(frozen=True, eq=False, slots=True)
class Beliefs:
    """Of every instant [T] of a history at which anything decides, or stocks are cut for the night,
    over K blocks each.

    at, overnight, cuts [T]; ends, nights [T, K]; years [T, K, 2]: of stocks, of coins; shared [T,
    K]: news that stocks and coins have in common; deciding, worth, signal, premium [T, S]; mu,
    sigma [T, K, S]; matrix [T]: number of the correlation matrix, [D, S, S] float32, in force.
    crypto [S].
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
    mu: Array
    sigma: Array
    worth: Array
    signal: Array
    premium: Array
    matrix: Index
    correlations: Array32

    def of(self, now: np.datetime64) -> Belief | None:
        """The belief of an instant; None where nothing decides then."""
        t = int(self.at.searchsorted(now))
        if t >= len(self.at) or self.at[t] != now:
            return None
        matrix = self.correlations[self.matrix[t]]
        years, correlation = over_blocks(self.years[t], matrix, self.crypto, self.shared[t])
        when = bool(self.overnight[t]), bool(self.cuts[t])
        moments = self.mu[t], self.sigma[t], self.worth[t], self.signal[t], self.premium[t]
        return Belief(
            self.symbols,
            now,
            self.ends[t],
            self.deciding[t],
            *when,
            years,
            self.nights[t],
            *moments,
            correlation,
        )


def joined(parts: Sequence[Beliefs]) -> Beliefs:
    """Beliefs of spans of one history that follow each other, as those of the whole."""
    if len(parts) == 1:
        return parts[0]
    offsets = np.cumsum([0, *(len(part.correlations) for part in parts[:-1])])
    matrix = np.concatenate(
        [part.matrix + offset for part, offset in zip(parts, offsets, strict=True)]
    )
    whole = ("symbols", "crypto", "matrix")
    along = [field.name for field in fields(Beliefs) if field.name not in whole]
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in along
    }
    return replace(parts[0], matrix=matrix, **arrays)


@compiled
def over_blocks(
    years: Array, correlation: Array32, crypto: Mask, shared: Array
) -> tuple[Array, Array]:
    """Each symbol's own years [K, S] in the blocks, and the correlation [K, S, S] over them.

    What is between the classes counts in proportion to the news they share; the matrix stays
    positive definite.
    """
    blocks = len(shared)
    size = len(crypto)
    own = np.empty((blocks, size))
    over = np.empty((blocks, size, size))
    for k in range(blocks):
        for s in range(size):
            own[k, s] = years[k, 1] if crypto[s] else years[k, 0]
            for r in range(size):
                over[k, s, r] = correlation[s, r] * (shared[k] if crypto[s] != crypto[r] else 1.0)
    return own, over


@compiled
def block_moments(
    mu: Array,
    sigma: Array,
    premium: Array,
    years: Array,
    correlation: Array,
    deciding: Mask,
    forecast: bool,
    size: int,
) -> tuple[Array, Array, Mask]:
    """Expected return [K, size], 0 for what does not decide; covariance [K, size, size], 0 without
    a forecast; who has one.

    premium [S]: a year, beside the forecast where that counts. size: S, and what is held beside the
    panel.
    """
    blocks, symbols = sigma.shape
    expected = np.zeros((blocks, size))
    covariance = np.zeros((blocks, size, size))
    known = np.zeros(size, dtype=np.bool_)
    for k in range(blocks):
        for s in range(symbols):
            known[s] = np.isfinite(sigma[0, s])
            if deciding[s]:
                expected[k, s] = (mu[k, s] if forecast else 0.0) + premium[s] * years[k, s]
            for r in range(symbols):
                both = sigma[k, s] * sigma[k, r]
                covariance[k, s, r] = correlation[k, s, r] * both if np.isfinite(both) else 0.0
    return expected, covariance, known
