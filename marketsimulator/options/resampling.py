"""Sequences of resampled trades with the autoscaler inside: the rules of `sizing.autoscaler.rules`
at every trade, compiled.

Results and risks are whole ten-thousandths of a dollar, so that balances and the sums of a window
are exact.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from foundation.arrays import Array
from foundation.compiled import compiled, inlined
from sizing.autoscaler.rules import PRIOR_LOSS, PRIOR_WIN, PRIOR_WINS, AutoscalingSettings

UNIT = 10_000  # of a dollar
CHUNK = 500  # runs that draw from one stream of random numbers
EDGE = 1e-9  # of a contract: what division loses of a whole one

Units = npt.NDArray[np.int64]
Index = npt.NDArray[np.int32]


class ResamplingRules(NamedTuple):
    """The autoscaler's settings as numbers; start and floor in units, z 0 where the estimate
    itself sizes, halt 0 for none.
    """

    start: int
    floor: float
    window: int
    bootstrap: int
    prior: float
    most: int
    negative: int
    enabled: bool
    z: float
    halt: float
    resume: float

    @classmethod
    def of(cls, settings: AutoscalingSettings) -> ResamplingRules:
        """The same rules."""
        prior = float(PRIOR_WINS - (1 - PRIOR_WINS) * PRIOR_LOSS / PRIOR_WIN)
        bound = settings.KELLY_CONFIDENCE
        return cls(
            round(settings.STARTING_CAPITAL * UNIT),
            settings.floor * UNIT,
            settings.ROLLING_WINDOW,
            settings.BOOTSTRAP_TRADES,
            prior if settings.BOOTSTRAP_MODE == "prior" else math.nan,
            settings.MAX_CONTRACTS,
            settings.NEGATIVE_KELLY_CONTRACTS,
            settings.AUTOSCALING_ENABLED,
            0.0 if bound is None else NormalDist().inv_cdf(bound),
            settings.DRAWDOWN_HALT_PCT or 0.0,
            settings.resume,
        )


@dataclass(frozen=True, eq=False, slots=True)
class AccountPaths:
    """R runs of D days. balances [R, D]: USD at each day's end. fall [R]: largest from a peak,
    trade by trade. under [R]: days of the longest time below a peak. halted, recovered [R]: whether
    a safety or drawdown halt came; whether the last balance is a peak. contracts [R]: in all."""

    start: float
    balances: Array
    fall: Array
    under: Units
    halted: npt.NDArray[np.bool_]
    recovered: npt.NDArray[np.bool_]
    contracts: Units


def paths(results: Units, risks: Units, draws: Index, rules: ResamplingRules) -> AccountPaths:
    """Runs along draws [R, D, P] of trades [N]: results and risks per contract, in units."""
    runs, days, _ = draws.shape
    balances = np.empty((runs, days), dtype=np.int64)
    figures = np.empty((runs, 5))
    parts = np.array_split(np.arange(runs), os.cpu_count() or 1)
    with ThreadPoolExecutor(len(parts)) as pool:
        jobs = [
            pool.submit(
                _follow,
                results,
                risks,
                draws[p[0] : p[-1] + 1],
                rules,
                balances[p[0] : p[-1] + 1],
                figures[p[0] : p[-1] + 1],
            )
            for p in parts
            if len(p)
        ]
        for job in jobs:
            job.result()
    fall, under, halted, recovered, contracts = figures.T
    whole = np.int64
    return AccountPaths(
        rules.start / UNIT,
        balances / UNIT,
        fall,
        under.astype(whole),
        halted > 0,
        recovered > 0,
        contracts.astype(whole),
    )


def draws_of(
    n: int,
    runs: int,
    days: int,
    a_day: int,
    seed: int,
    *,
    block: int = 1,
    uncertainty: bool = False,
) -> Index:
    """Which trade of n each run takes, [R, D, P]: one by one, or blocks of neighbours (circular).

    uncertainty: each run draws from a history of its own, n trades drawn from the n. Runs have
    their streams by their number: the first thousand of ten thousand runs are those of a thousand.
    """
    parts = [
        _chunk(rng, n, count, days * a_day, block, uncertainty)
        for rng, count in _streams(seed, runs)
    ]
    return np.concatenate(parts).reshape(runs, days, a_day)


def _streams(seed: int, runs: int) -> Iterator[tuple[np.random.Generator, int]]:
    for k in range(0, runs, CHUNK):
        yield np.random.default_rng([seed, k // CHUNK]), min(CHUNK, runs - k)


def _chunk(
    rng: np.random.Generator, n: int, runs: int, length: int, block: int, uncertainty: bool
) -> Index:
    blocks = -(-length // block)
    starts = rng.integers(n, size=(CHUNK, blocks), dtype=np.int32)[:runs]
    places = (starts[:, :, None] + np.arange(block, dtype=np.int32)) % np.int32(n)
    drawn: Index = np.ascontiguousarray(places.reshape(runs, -1)[:, :length])
    if not uncertainty:
        return drawn
    own = rng.integers(n, size=(CHUNK, n), dtype=np.int32)[:runs]
    return np.take_along_axis(own, drawn, axis=1)


def worst_of(draws: Index, n: int, chance: float, seed: int) -> Index:
    """The draws with the chance that a trade loses all it can: its number then lies n higher."""
    hit = np.random.default_rng([seed, 1]).random(draws.shape) < chance
    return (draws + n * hit).astype(np.int32)


@inlined
def _contracts(
    balance: int,
    n: int,
    wins: int,
    won: int,
    lost: int,
    squares_won: float,
    squares_lost: float,
    closed: int,
    risk: int,
    rules: ResamplingRules,
) -> int:
    """`sizing.autoscaler.rules.contracts_for`, but for its halts."""
    if not rules.enabled:
        return 1
    if closed < rules.bootstrap:
        if np.isnan(rules.prior):
            return 1
        kelly = rules.prior
    else:
        if wins == 0 or (rules.z == 0.0 and won < lost):
            return rules.negative
        kelly = wins * float(won - lost) / (n * float(won))
        if rules.z > 0.0:
            p = wins / n
            a = won / n
            b = lost / n
            g0 = 1.0 - b / a
            g1 = p * b / a**2
            g2 = -p / a
            v00 = p - p * p
            v11 = squares_won / n - a * a
            v22 = squares_lost / n - b * b
            v01 = a - p * a
            v02 = -p * b
            v12 = -a * b
            variance = (
                g0 * g0 * v00
                + g1 * g1 * v11
                + g2 * g2 * v22
                + 2.0 * (g0 * g1 * v01 + g0 * g2 * v02 + g1 * g2 * v12)
            )
            kelly -= rules.z * np.sqrt(max(variance, 0.0) / n)
            if kelly < 0.0:
                return rules.negative
    wanted = int(np.floor(balance * kelly / (2.0 * risk) + EDGE))
    return min(max(wanted, 1), rules.most)


@compiled
def _follow(
    results: Units,
    risks: Units,
    draws: Index,
    rules: ResamplingRules,
    balances: Units,
    figures: Array,
) -> None:
    """Every run: balances [R, D] and fall, days under water, halted, recovered, contracts [R,
    5] are written.
    """
    ring = np.zeros(rules.window, dtype=np.int64)
    for r in range(draws.shape[0]):
        balance = peak = rules.start
        closed = n = wins = won = lost = total = 0
        squares_won = squares_lost = fall = 0.0
        halted = stopped = False
        water = longest = 0
        high = rules.start
        for d in range(draws.shape[1]):
            for t in range(draws.shape[2]):
                if balance < rules.floor or stopped:
                    halted = True
                    break
                k = draws[r, d, t]
                size = _contracts(
                    balance, n, wins, won, lost, squares_won, squares_lost, closed, risks[k], rules
                )
                if size == 0:
                    break
                result = results[k]
                if n == rules.window:
                    old = ring[closed % rules.window]
                    if old > 0:
                        wins = wins - 1
                        won = won - old
                        squares_won = squares_won - float(old) * old
                    else:
                        lost = lost + old
                        squares_lost = squares_lost - float(old) * old
                else:
                    n += 1
                ring[closed % rules.window] = result
                if result > 0:
                    wins = wins + 1
                    won = won + result
                    squares_won = squares_won + float(result) * result
                else:
                    lost = lost - result
                    squares_lost = squares_lost + float(result) * result
                closed += 1
                total += size
                balance += size * result
                peak = max(peak, balance)
                drop = 1.0 - balance / peak
                fall = max(fall, drop)
                if rules.halt > 0.0:
                    stopped = drop >= rules.halt or (stopped and drop > rules.resume)
            balances[r, d] = balance
            water = 0 if balance >= high else water + 1
            high = max(high, balance)
            longest = max(longest, water)
        figures[r, 0] = fall
        figures[r, 1] = longest
        figures[r, 2] = 1.0 if halted else 0.0
        figures[r, 3] = 1.0 if balance >= high else 0.0
        figures[r, 4] = total
