"""Resampled trades: which of them a run takes, by seed, and the autoscaler inside it, compiled.

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

UNITS_PER_DOLLAR = 10_000  # of a dollar
CONTRACT_TOL = 1e-9  # of a contract; division may lose so much of a whole one

RUNS_PER_STREAM = 500  # runs that draw from one stream of random numbers
NO_TRADE = -1
LOSS_STREAM, DAY_STREAM = 1, 2  # what else a stream of random numbers is for

Units = npt.NDArray[np.int64]
Index = npt.NDArray[np.int32]


def draw_trades(
    n: int, runs: int, days: int, trades_a_day: float, seed: int, *, block: int = 1
) -> Index:
    """Which of n trades each run takes, [R, D, P]: one by one, or blocks of neighbours (circular).

    Of 2.4 trades a day each day has 2, and one more with a chance of 0.4; what it has not is -1.
    Runs have their streams by their number: the first thousand of ten thousand runs are those of a
    thousand.

    n: trades that there are.
    runs, days: R and D.
    trades_a_day: above 0, on average; P is the next whole number.
    seed: of all streams.
    block: neighbours that are drawn together, so that what follows upon each other stays together.
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
    """Draws [R, D, P] in their order over days, of which some have P trades, the others one less.

    has_all: which have all, [R, D].
    """
    runs, days, most = draws.shape
    counts = np.where(has_all, most, most - 1)
    # Trades that are not taken on a day are the next day's: blocks stay together over it.
    before = np.cumsum(counts, axis=1) - counts
    slots = np.arange(most)
    places = np.minimum(before[:, :, None] + slots, days * most - 1)
    taken = np.take_along_axis(draws.reshape(runs, -1), places.reshape(runs, -1), axis=1)
    there = slots < counts[:, :, None]
    return np.where(there, taken.reshape(draws.shape), np.int32(NO_TRADE)).astype(np.int32)


def _streams(seed: int, runs: int, *purpose: int) -> Iterator[tuple[np.random.Generator, int]]:
    """A stream of random numbers for each chunk of runs, and how many runs it serves.

    purpose: a number of what they are for; none for the draws.
    """
    for k in range(0, runs, RUNS_PER_STREAM):
        yield (
            np.random.default_rng([seed, k // RUNS_PER_STREAM, *purpose]),
            min(RUNS_PER_STREAM, runs - k),
        )


def _draw_chunk(rng: np.random.Generator, n: int, runs: int, length: int, block: int) -> Index:
    """The draws of one chunk of runs, [R, length]."""
    # The whole chunk is drawn and the rest cut off, so that a run does not depend on how many
    # there are.
    starts = rng.integers(n, size=(RUNS_PER_STREAM, -(-length // block)), dtype=np.int32)[:runs]
    places = (starts[:, :, None] + np.arange(block, dtype=np.int32)) % np.int32(n)
    return np.ascontiguousarray(places.reshape(runs, -1)[:, :length])


def with_full_losses(draws: Index, n: int, chance: float, seed: int) -> Index:
    """The draws with the chance that a trade loses all it can: its number then lies n higher."""
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

    start: balance that a run begins with, units.
    floor: balance below which nothing is traded, units.
    fee: of a contract, which no result holds yet, units.
    window: trades that the statistics rest on.
    bootstrap: trades before the statistics count.
    prior: Kelly's fraction until then; NaN for one contract.
    share: of Kelly's fraction that is sized.
    most: contracts of a trade at most.
    negative: contracts where Kelly is negative.
    enabled: whether contracts are scaled at all; otherwise one.
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
        """The same rules."""
        prior = float(
            PRIOR_WIN_RATE - (1 - PRIOR_WIN_RATE) * PRIOR_AVERAGE_LOSS / PRIOR_AVERAGE_WIN
        )
        return cls(
            start=whole_units(Fraction(str(settings.STARTING_CAPITAL))),
            # A balance of whole units lies below a sum where it lies below the next whole unit.
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
    """USD in units, rounded to whole ones."""
    return round(amount * UNITS_PER_DOLLAR)


class AccountPaths(NamedTuple):
    """R runs of D days.

    start: balance that each began with, USD.
    balances: [R, D], USD at each day's end.
    drawdown: [R], largest fall from a peak, trade by trade.
    largest_fall: [R], the same in USD, which may be another fall.
    days_under_water: [R], days of the longest time below a peak.
    halted: [R], whether the safety halt came.
    contracts: [R], in all.
    trades: [R], in all.
    wins: [R], trades that won.
    at_cap: [R], trades that had as many contracts as any may have.
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
        """Balances from the beginning on, [R, D + 1], USD."""
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
    """Runs along draws [R, D, P] of trades [N]: results without fees and risks a contract, units.

    A draw below 0 is no trade, and the day is over.

    overlaps: [N] trades in front of each that were still open when it was entered. It is sized
        without their results, as it was; at a day's end everything is closed. None: none were.
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

    # Compiled code runs without the interpreter's lock: threads share the arrays they write to.
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
    """`option_spreads.autoscaler.rules.count_contracts`, but for its halt.

    n: trades in the window. won, lost: their sums, units.
    closed: trades so far. risk: of one contract, units.
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
    # The balance comes last: everything else is known before the trade in front has ended, and the
    # processor divides meanwhile. Nothing here is below 0, so that the floor is the whole part.
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
    """Follow every run, and write what became of it into the arrays of its paths."""
    # The last trades lie in a ring. One that leaves the window is taken off the sums; those of
    # gains and losses are whole numbers, so that nothing is lost by it.
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
                # What was open when a trade was entered says nothing to its size; at the day's end
                # nothing is open.
                still_open = overlaps[k] if k >= 0 else 0
                while decided - booked > still_open:
                    result = results[trades_of_day[booked]]
                    size = sizes[booked]
                    booked += 1
                    # Whether a trade won is a coin to the processor, which guesses branches: there
                    # are none. What has left the window is 0 while it is not full.
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
        # Also one that the last trade of all brought.
        paths.halted[r] = halted or balance < rules.floor
        paths.contracts[r] = total
        paths.trades[r] = trades
        paths.wins[r] = winners
        paths.at_cap[r] = at_cap
