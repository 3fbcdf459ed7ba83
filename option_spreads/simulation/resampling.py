"""Resampling of trades by seed, and the autoscaler inside every run, compiled.

The rules of `option_spreads.autoscaler.rules` decide at every trade. Results and risks are whole
ten-thousandths of a dollar, so that balances and the sums of a window are exact.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from foundation.arrays import Array
from foundation.compiled import compiled, jit_inline
from option_spreads.autoscaler.rules import (
    PRIOR_AVERAGE_LOSS,
    PRIOR_AVERAGE_WIN,
    PRIOR_WIN_RATE,
    AutoscalingSettings,
)

UNITS_PER_DOLLAR = 10_000  # units per dollar
CONTRACT_TOL = 1e-9  # of a contract: rounding of the division that must not lose a whole one

RUNS_PER_STREAM = 500  # runs that draw from one stream of random numbers
NO_TRADE = -1
LOSS_STREAM, DAY_STREAM = 1, 2  # further purposes of streams

Units = npt.NDArray[np.int64]
Index = npt.NDArray[np.int32]


def draw_trades(
    n: int, runs: int, days: int, trades_a_day: float, seed: int, *, block: int = 1
) -> Index:
    """Draw trades for each run, [R, D, P]: one by one, or circular blocks of neighbours.

    With 2.4 trades a day each day has 2, and a third with a chance of 0.4; a missing trade is -1.
    Random streams belong to run numbers: the first thousand of ten thousand runs equal those of a
    thousand.

    n: number of trades to draw from.
    runs, days: R and D.
    trades_a_day: mean number of trades per day, above 0; P is the next whole number.
    seed: seed of all streams.
    block: number of neighbours that are drawn together, which keeps sequences.
    """
    most = math.ceil(trades_a_day)
    parts = [
        _draw_chunk(rng, n, count, days * most, block).reshape(count, days, most)
        for rng, count in _streams(seed, runs)
    ]
    if most > trades_a_day:
        chance = trades_a_day - math.floor(trades_a_day)
        for part, (rng, count) in zip(parts, _streams(seed, runs, DAY_STREAM), strict=True):
            has_all = rng.random((RUNS_PER_STREAM, days))[:count] < chance
            part[:] = _over_days(part, has_all)
    return np.concatenate(parts)


def _over_days(draws: Index, has_all: npt.NDArray[np.bool_]) -> Index:
    """Distribute draws [R, D, P] in order over days with P trades or one less.

    has_all: [R, D] true for days with P trades.
    """
    runs, days, most = draws.shape
    counts = np.where(has_all, most, most - 1)
    # Trades that a day does not take move to the next day: blocks continue over it.
    before = np.cumsum(counts, axis=1) - counts
    slots = np.arange(most)
    places = np.minimum(before[:, :, None] + slots, days * most - 1)
    taken = np.take_along_axis(draws.reshape(runs, -1), places.reshape(runs, -1), axis=1)
    there = slots < counts[:, :, None]
    return np.where(there, taken.reshape(draws.shape), np.int32(NO_TRADE)).astype(np.int32)


def _streams(seed: int, runs: int, *purpose: int) -> Iterator[tuple[np.random.Generator, int]]:
    """Yield a stream of random numbers for each chunk of runs, and the number of its runs.

    purpose: number of the stream's purpose; none for the draws.
    """
    for k in range(0, runs, RUNS_PER_STREAM):
        yield (
            np.random.default_rng([seed, k // RUNS_PER_STREAM, *purpose]),
            min(RUNS_PER_STREAM, runs - k),
        )


def _draw_chunk(rng: np.random.Generator, n: int, runs: int, length: int, block: int) -> Index:
    """Return the draws of one chunk of runs, [R, length]."""
    # The whole chunk is drawn and the rest cut off, so that a run does not depend on the number of
    # runs.
    starts = rng.integers(n, size=(RUNS_PER_STREAM, -(-length // block)), dtype=np.int32)[:runs]
    places = (starts[:, :, None] + np.arange(block, dtype=np.int32)) % np.int32(n)
    return np.ascontiguousarray(places.reshape(runs, -1)[:, :length])


def with_full_losses(draws: Index, n: int, chance: float, seed: int) -> Index:
    """Return the draws with a chance of maximum losses; a draw above n - 1 is a maximum loss."""
    worse = draws.copy()
    first = 0
    for rng, count in _streams(seed, len(draws), LOSS_STREAM):
        part = worse[first : first + count]
        uniform = rng.random((RUNS_PER_STREAM, *draws.shape[1:]), dtype=np.float32)[:count]
        part += ((uniform < chance) & (part != NO_TRADE)) * np.int32(n)
        first += count
    return worse


class ResamplingRules(NamedTuple):
    """The autoscaler's settings as numbers, for compiled code.

    start: starting balance of a run, units.
    floor: balance below which no trade is made, units.
    fee: fee per contract that the results do not include, units.
    window: number of trades in the statistics.
    bootstrap: number of trades before the statistics count.
    prior: Kelly's fraction during the bootstrap; NaN for one contract.
    share: share of Kelly's fraction that is used.
    most: maximum contracts of a trade.
    negative: contracts if Kelly is negative.
    enabled: true if contracts are scaled; otherwise one.
    """

    start: int
    floor: int
    fee: int
    window: int
    bootstrap: int
    prior: float
    share: float
    most: int
    negative: int
    enabled: bool

    @classmethod
    def from_settings(cls, settings: AutoscalingSettings) -> ResamplingRules:
        """Return the rules of these settings."""
        prior = float(
            PRIOR_WIN_RATE - (1 - PRIOR_WIN_RATE) * PRIOR_AVERAGE_LOSS / PRIOR_AVERAGE_WIN
        )
        return cls(
            start=whole_units(Fraction(str(settings.STARTING_CAPITAL))),
            # A balance of whole units is below a sum if it is below the next whole unit.
            floor=math.ceil(settings.halt_balance * UNITS_PER_DOLLAR),
            fee=whole_units(Fraction(str(settings.FEE_PER_CONTRACT))),
            window=settings.ROLLING_WINDOW,
            bootstrap=settings.BOOTSTRAP_TRADES,
            prior=prior if settings.BOOTSTRAP_MODE == "prior" else math.nan,
            share=settings.KELLY_FRACTION,
            most=settings.MAX_CONTRACTS,
            negative=settings.NEGATIVE_KELLY_CONTRACTS,
            enabled=settings.AUTOSCALING_ENABLED,
        )


def whole_units(amount: Fraction) -> int:
    """Return USD rounded to whole units."""
    return round(amount * UNITS_PER_DOLLAR)


class AccountPaths(NamedTuple):
    """Results of R runs of D days.

    start: starting balance of each run, USD.
    balances: [R, D], USD at each day's end.
    drawdown: [R], largest relative fall from a peak, trade by trade.
    largest_fall: [R], largest fall in USD, which may be another fall.
    days_under_water: [R], days of the longest time below a peak.
    halted: [R], true if the safety halt came.
    contracts: [R], number of contracts in total.
    trades: [R], number of trades in total.
    wins: [R], number of winning trades.
    at_cap: [R], number of trades with the maximum contracts.
    """

    start: float
    balances: Array
    drawdown: Array
    largest_fall: Array
    days_under_water: Units
    halted: npt.NDArray[np.bool_]
    contracts: Units
    trades: Units
    wins: Units
    at_cap: Units

    @property
    def course(self) -> Array:
        """Return balances from the start on, [R, D + 1], USD."""
        begins = np.full((len(self.balances), 1), self.start)
        return np.concatenate([begins, self.balances], axis=1)

    def of_runs(self, rows: slice) -> AccountPaths:
        arrays = {name: getattr(self, name)[rows] for name in self._fields if name != "start"}
        return self._replace(**arrays)


def account_paths(
    results: Units,
    risks: Units,
    draws: Index,
    rules: ResamplingRules,
    overlaps: Units | None = None,
) -> AccountPaths:
    """Run accounts along draws [R, D, P] of trades [N].

    results, risks: per contract without fees, units.
    draws: a negative draw is not a trade, and ends the day.
    overlaps: [N] number of preceding trades that were still open at each trade's entry. Its size
        excludes their results; at a day's end everything is closed. None: no overlaps.
    """
    if overlaps is None:
        overlaps = np.zeros(len(results), dtype=np.int64)
    net = results - rules.fee
    runs, days, _ = draws.shape
    paths = AccountPaths(
        start=rules.start / UNITS_PER_DOLLAR,
        balances=np.empty((runs, days)),
        drawdown=np.empty(runs),
        largest_fall=np.empty(runs),
        days_under_water=np.empty(runs, dtype=np.int64),
        halted=np.empty(runs, dtype=np.bool_),
        contracts=np.empty(runs, dtype=np.int64),
        trades=np.empty(runs, dtype=np.int64),
        wins=np.empty(runs, dtype=np.int64),
        at_cap=np.empty(runs, dtype=np.int64),
    )

    def follow(rows: slice) -> None:
        _follow(net, risks, overlaps, draws[rows], rules, paths.of_runs(rows))

    # Compiled code releases the interpreter's lock: threads share the arrays they write to.
    threads = min(os.cpu_count() or 1, max(runs, 1))
    ends = [runs * k // threads for k in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(follow, map(slice, ends[:-1], ends[1:])))
    return paths


@jit_inline
def _next_contracts(
    balance: int,
    n: int,
    wins: int,
    won: int,
    lost: int,
    closed: int,
    risk: int,
    rules: ResamplingRules,
) -> int:
    """Return the contracts by `option_spreads.autoscaler.rules.count_contracts`, without its halt.

    n: number of trades in the window.
    won, lost: sums of their gains and losses, units.
    closed: number of trades so far.
    risk: risk of one contract, units.
    """
    if not rules.enabled:
        return 1
    if closed < rules.bootstrap:
        if np.isnan(rules.prior):
            return 1
        kelly = rules.prior
    else:
        if wins == 0 or won < lost:
            return rules.negative
        kelly = wins * float(won - lost) / (n * float(won))
    # The balance comes last: the other factors are known before the previous trade has ended, so
    # the processor divides meanwhile. All are at least 0, so that truncation is the floor.
    contracts = int(balance * (kelly * rules.share / risk) + CONTRACT_TOL)
    return min(max(contracts, 1), rules.most)


@compiled
def _follow(
    results: Units,
    risks: Units,
    overlaps: Units,
    draws: Index,
    rules: ResamplingRules,
    paths: AccountPaths,
) -> None:
    """Follow every run, and write its results into the arrays of its paths."""
    # A ring holds the last trades. A trade that leaves the window is subtracted from the sums,
    # which are exact integers.
    ring = np.zeros(rules.window, dtype=np.int64)
    trades_of_day = np.empty(draws.shape[2], dtype=np.int64)
    sizes = np.empty(draws.shape[2], dtype=np.int64)
    for r in range(draws.shape[0]):
        balance = rules.start
        peak = rules.start
        slot = closed = n = wins = won = lost = total = trades = winners = at_cap = fall = 0
        halted = False
        drawdown = 0.0
        below_peak = longest = 0
        high = rules.start
        for d in range(draws.shape[1]):
            decided = booked = 0
            goes_on = True
            for t in range(draws.shape[2] + 1):
                k = draws[r, d, t] if goes_on and t < draws.shape[2] else NO_TRADE
                # Trades that were open at an entry do not affect its size; at the day's end nothing
                # is open.
                still_open = overlaps[k] if k >= 0 else 0
                while decided - booked > still_open:
                    result = results[trades_of_day[booked]]
                    size = sizes[booked]
                    booked += 1
                    # Without branches, because the processor cannot predict wins. The ring holds 0
                    # until the window is full.
                    old = ring[slot] if n == rules.window else 0
                    old_gain = max(old, 0)
                    gain = max(result, 0)
                    old_loss = old_gain - old
                    loss = gain - result
                    wins += (result > 0) - (old > 0)
                    won += gain - old_gain
                    lost += loss - old_loss
                    n = min(n + 1, rules.window)
                    ring[slot] = result
                    slot = slot + 1 if slot + 1 < rules.window else 0
                    closed += 1
                    total += size
                    balance += size * result
                    peak = max(peak, balance)
                    fall = max(fall, peak - balance)
                    drawdown = max(drawdown, (peak - balance) / peak)
                if k < 0:
                    break
                if balance < rules.floor:
                    halted = True
                    goes_on = False
                    continue
                size = _next_contracts(balance, n, wins, won, lost, closed, risks[k], rules)
                if size == 0:
                    goes_on = False
                    continue
                trades += 1
                winners += results[k] > 0
                at_cap += size == rules.most
                trades_of_day[decided] = k
                sizes[decided] = size
                decided += 1
            paths.balances[r, d] = balance / UNITS_PER_DOLLAR
            below_peak = 0 if balance >= high else below_peak + 1
            high = max(high, balance)
            longest = max(longest, below_peak)
        paths.drawdown[r] = drawdown
        paths.largest_fall[r] = fall / UNITS_PER_DOLLAR
        paths.days_under_water[r] = longest
        # Includes a halt caused by the last trade.
        paths.halted[r] = halted or balance < rules.floor
        paths.contracts[r] = total
        paths.trades[r] = trades
        paths.wins[r] = winners
        paths.at_cap[r] = at_cap
