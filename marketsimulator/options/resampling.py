"""Sequences of resampled trades with the autoscaler inside, compiled.

The rules of `sizing.autoscaler.rules` decide at every trade. Results and risks are whole
ten-thousandths of a dollar, so that balances and the sums of a window are exact.
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
EDGE = 1e-9  # of a contract; division may lose so much of a whole one

Units = npt.NDArray[np.int64]
Index = npt.NDArray[np.int32]


class ResamplingRules(NamedTuple):
    """The autoscaler's settings as numbers, for compiled code.

    start: balance that a run begins with, units.
    floor: balance below which nothing is traded, units.
    window: trades that the statistics rest on.
    bootstrap: trades before the statistics count.
    prior: Kelly's fraction until then; NaN for one contract.
    most: contracts of a trade at most.
    negative: contracts where Kelly is negative.
    enabled: whether contracts are scaled at all; otherwise one.
    z: deviations of the estimate that its lower bound takes off; 0 where the estimate itself sizes.
    halt: fall from the peak at which trading stops; 0 for no such halt.
    resume: fall from the peak at which trading goes on.
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
        confidence = settings.KELLY_CONFIDENCE
        return cls(
            start=round(settings.STARTING_CAPITAL * UNIT),
            floor=settings.floor * UNIT,
            window=settings.ROLLING_WINDOW,
            bootstrap=settings.BOOTSTRAP_TRADES,
            prior=prior if settings.BOOTSTRAP_MODE == "prior" else math.nan,
            most=settings.MAX_CONTRACTS,
            negative=settings.NEGATIVE_KELLY_CONTRACTS,
            enabled=settings.AUTOSCALING_ENABLED,
            z=0.0 if confidence is None else NormalDist().inv_cdf(confidence),
            halt=settings.DRAWDOWN_HALT_PCT or 0.0,
            resume=settings.resume,
        )


@dataclass(frozen=True, eq=False, slots=True)
class AccountPaths:
    """R runs of D days.

    start: balance that each began with, USD.
    balances: [R, D], USD at each day's end.
    drawdown: [R], largest fall from a peak, trade by trade.
    days_under_water: [R], days of the longest time below a peak.
    halted: [R], whether a safety or drawdown halt came.
    recovered: [R], whether the last balance is a peak.
    contracts: [R], in all.
    """

    start: float
    balances: Array
    drawdown: Array
    days_under_water: Units
    halted: npt.NDArray[np.bool_]
    recovered: npt.NDArray[np.bool_]
    contracts: Units


def account_paths(
    results: Units, risks: Units, draws: Index, rules: ResamplingRules
) -> AccountPaths:
    """Runs along draws [R, D, P] of trades [N]: results and risks per contract, in units."""
    runs, days, _ = draws.shape
    balances = np.empty((runs, days), dtype=np.int64)
    figures = np.empty((runs, 5))
    # Compiled code runs without the interpreter's lock: threads share the arrays they write to.
    shares = [share for share in np.array_split(np.arange(runs), os.cpu_count() or 1) if len(share)]
    with ThreadPoolExecutor(max(len(shares), 1)) as pool:
        jobs = []
        for share in shares:
            rows = slice(share[0], share[-1] + 1)
            jobs.append(
                pool.submit(
                    _follow, results, risks, draws[rows], rules, balances[rows], figures[rows]
                )
            )
        for job in jobs:
            job.result()
    drawdown, days_under_water, halted, recovered, contracts = figures.T
    return AccountPaths(
        start=rules.start / UNIT,
        balances=balances / UNIT,
        drawdown=drawdown,
        days_under_water=days_under_water.astype(np.int64),
        halted=halted > 0,
        recovered=recovered > 0,
        contracts=contracts.astype(np.int64),
    )


def draw_trades(
    n: int,
    runs: int,
    days: int,
    trades_a_day: int,
    seed: int,
    *,
    block: int = 1,
    uncertainty: bool = False,
) -> Index:
    """Which of n trades each run takes, [R, D, P]: one by one, or blocks of neighbours (circular).

    Runs have their streams by their number: the first thousand of ten thousand runs are those of a
    thousand.

    Parameters
    ----------
    n: trades that there are.
    runs, days, trades_a_day: R, D and P.
    seed: of all streams.
    block: neighbours that are drawn together, so that what follows upon each other stays together.
    uncertainty: each run draws from a history of its own, n trades drawn from the n.
    """
    parts = [
        _draw_chunk(rng, n, count, days * trades_a_day, block, uncertainty)
        for rng, count in _streams(seed, runs)
    ]
    return np.concatenate(parts).reshape(runs, days, trades_a_day)


def _streams(seed: int, runs: int) -> Iterator[tuple[np.random.Generator, int]]:
    """A stream of random numbers for each chunk of runs, and how many runs it serves."""
    for k in range(0, runs, CHUNK):
        yield np.random.default_rng([seed, k // CHUNK]), min(CHUNK, runs - k)


def _draw_chunk(
    rng: np.random.Generator, n: int, runs: int, length: int, block: int, uncertainty: bool
) -> Index:
    """The draws of one chunk of runs, [R, length]."""
    blocks = -(-length // block)
    # The whole chunk is drawn and the rest cut off, so that a run does not depend on how many
    # there are.
    starts = rng.integers(n, size=(CHUNK, blocks), dtype=np.int32)[:runs]
    places = (starts[:, :, None] + np.arange(block, dtype=np.int32)) % np.int32(n)
    draws: Index = np.ascontiguousarray(places.reshape(runs, -1)[:, :length])
    if not uncertainty:
        return draws
    histories = rng.integers(n, size=(CHUNK, n), dtype=np.int32)[:runs]
    return np.take_along_axis(histories, draws, axis=1)


def with_full_losses(draws: Index, n: int, chance: float, seed: int) -> Index:
    """The draws with the chance that a trade loses all it can: its number then lies n higher."""
    hit = np.random.default_rng([seed, 1]).random(draws.shape) < chance
    return (draws + n * hit).astype(np.int32)


@inlined
def _next_contracts(
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
    """`sizing.autoscaler.rules.contracts_for`, but for its halts.

    n: trades in the window. won, lost: their sums, units; squares_won, squares_lost: of squares.
    closed: trades so far. risk: of one contract, units.
    """
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
            # The delta method of `Statistics.lower_kelly`: with p the share of wins, a and b the
            # mean gain and loss a trade, Kelly is p (1 - b / a). g is its gradient along p, a and
            # b, v the covariance of one trade's (won or not, gain, loss).
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
    contracts = int(np.floor(balance * kelly / (2.0 * risk) + EDGE))
    return min(max(contracts, 1), rules.most)


@compiled
def _follow(
    results: Units,
    risks: Units,
    draws: Index,
    rules: ResamplingRules,
    balances: Units,
    figures: Array,
) -> None:
    """Follow every run, and write balances [R, D] and figures [R, 5].

    The figures of a run are its drawdown, days under water, halted, recovered and contracts.
    """
    # The last trades lie in a ring. One that leaves the window is taken off the sums; those of
    # gains and losses are whole numbers, so that nothing is lost by it.
    ring = np.zeros(rules.window, dtype=np.int64)
    for r in range(draws.shape[0]):
        balance = peak = rules.start
        closed = n = wins = won = lost = total = 0
        squares_won = squares_lost = drawdown = 0.0
        halted = stopped = False
        below_peak = longest = 0
        high = rules.start
        for d in range(draws.shape[1]):
            for t in range(draws.shape[2]):
                # Without trades the balance stays where it is: a halt lasts to the run's end.
                if balance < rules.floor or stopped:
                    halted = True
                    break
                k = draws[r, d, t]
                size = _next_contracts(
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
                drawdown = max(drawdown, drop)
                if rules.halt > 0.0:
                    stopped = drop >= rules.halt or (stopped and drop > rules.resume)
            balances[r, d] = balance
            below_peak = 0 if balance >= high else below_peak + 1
            high = max(high, balance)
            longest = max(longest, below_peak)
        figures[r, 0] = drawdown
        figures[r, 1] = longest
        figures[r, 2] = 1.0 if halted else 0.0
        figures[r, 3] = 1.0 if balance >= high else 0.0
        figures[r, 4] = total
