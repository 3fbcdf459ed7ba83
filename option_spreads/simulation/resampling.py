"""Seeded resampling of trades, and compiled simulation of accounts on the resampled trades.

Every trade is sized by the rules of `option_spreads.autoscaler.rules`. Amounts are whole
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
    PRIOR_AVERAGE_LOSS_USD,
    PRIOR_AVERAGE_WIN_USD,
    PRIOR_WIN_RATE,
    AutoscalingSettings,
)

UNITS_PER_DOLLAR = 10_000  # units per dollar
CONTRACT_COUNT_TOL = 1e-9  # of a contract: rounding of the division that must not lose a whole one

RUNS_PER_RANDOM_STREAM = 500  # runs that draw from one stream of random numbers
NO_TRADE = -1
LOSS_STREAM, DAY_STREAM = 1, 2  # further purposes of streams

IntArray = npt.NDArray[np.int64]
DrawArray = npt.NDArray[np.int32]


def draw_trades(
    trade_count: int,
    runs: int,
    days: int,
    trades_per_day: float,
    seed: int,
    *,
    block_length: int = 1,
) -> DrawArray:
    """Draw the trades of each run by iid or circular block bootstrap; return indices [R, D, P].

    With a mean of 2.4 trades per day, each day has 2 trades, and a third one with probability 0.4.
    A missing trade has the index -1. The draws of a run depend on its number only: the first
    thousand of ten thousand runs are the same as a thousand runs.

    trade_count: number of trades in the sample.
    runs, days: number of runs R, and of days D in a run.
    trades_per_day: mean number of trades per day, above 0; P is this number rounded up.
    seed: seed of all random streams.
    block_length: number of consecutive trades that are drawn together; 1 for an iid bootstrap.
    """
    most = math.ceil(trades_per_day)
    parts = [
        _draw_chunk(rng, trade_count, count, days * most, block_length).reshape(count, days, most)
        for rng, count in _iterate_generators(seed, runs)
    ]
    if most > trades_per_day:
        chance = trades_per_day - math.floor(trades_per_day)
        for part, (rng, count) in zip(
            parts, _iterate_generators(seed, runs, DAY_STREAM), strict=True
        ):
            has_all = rng.random((RUNS_PER_RANDOM_STREAM, days))[:count] < chance
            part[:] = _distribute_over_days(part, has_all)
    return np.concatenate(parts)


def _distribute_over_days(draws: DrawArray, has_all: npt.NDArray[np.bool_]) -> DrawArray:
    """Distribute draws [R, D, P] over days with P or P - 1 trades; their sequence is unchanged.

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


def _iterate_generators(
    seed: int, runs: int, *purpose: int
) -> Iterator[tuple[np.random.Generator, int]]:
    """Yield a random generator for each chunk of runs, and the number of runs in the chunk.

    purpose: key that separates the generators of different uses; left out for the resampling draws.
    """
    for k in range(0, runs, RUNS_PER_RANDOM_STREAM):
        yield (
            np.random.default_rng([seed, k // RUNS_PER_RANDOM_STREAM, *purpose]),
            min(RUNS_PER_RANDOM_STREAM, runs - k),
        )


def _draw_chunk(rng: np.random.Generator, n: int, runs: int, length: int, block: int) -> DrawArray:
    """Return the indices of the trades that one chunk of runs draws, [runs, length].

    n: number of trades in the sample.
    block: number of consecutive trades that are drawn together.
    """
    # The whole chunk is drawn and the rest cut off, so that a run does not depend on the number of
    # runs.
    starts = rng.integers(n, size=(RUNS_PER_RANDOM_STREAM, -(-length // block)), dtype=np.int32)[
        :runs
    ]
    places = (starts[:, :, None] + np.arange(block, dtype=np.int32)) % np.int32(n)
    return np.ascontiguousarray(places.reshape(runs, -1)[:, :length])


def insert_random_max_losses(
    draws: DrawArray, trade_count: int, probability: float, seed: int
) -> DrawArray:
    """Return a copy of the draws in which trades become maximum losses at random.

    If index k is trade k, index k + trade_count is the same trade with its maximum loss.

    trade_count: number of trades in the sample.
    probability: probability that a trade becomes a maximum loss.
    """
    worse = draws.copy()
    first = 0
    for rng, count in _iterate_generators(seed, len(draws), LOSS_STREAM):
        part = worse[first : first + count]
        uniform = rng.random((RUNS_PER_RANDOM_STREAM, *draws.shape[1:]), dtype=np.float32)[:count]
        part += ((uniform < probability) & (part != NO_TRADE)) * np.int32(trade_count)
        first += count
    return worse


class ScaledSizingRules(NamedTuple):
    """Sizing settings as numbers, for compiled code. A unit is a ten-thousandth of a dollar.

    starting_balance_units: starting balance of a run, units.
    halt_balance_units: halt balance, below which nothing is sold, units.
    fee_units_per_contract: fee per contract that is not included in the sample's P/L, units.
    rolling_window: number of trades in the rolling window of the statistics.
    bootstrap_trades: number of closed trades before statistics are used.
    prior_kelly_fraction: full Kelly fraction during the bootstrap; NaN to sell one contract then.
    kelly_multiple: multiple of full Kelly that is used, such as 0.5.
    max_contracts: maximum number of contracts of a trade.
    negative_kelly_contracts: number of contracts if the Kelly fraction is negative.
    is_autoscaling_enabled: true to size by Kelly; false for one contract per trade.
    """

    starting_balance_units: int
    halt_balance_units: int
    fee_units_per_contract: int
    rolling_window: int
    bootstrap_trades: int
    prior_kelly_fraction: float
    kelly_multiple: float
    max_contracts: int
    negative_kelly_contracts: int
    is_autoscaling_enabled: bool

    @classmethod
    def from_settings(cls, settings: AutoscalingSettings) -> ScaledSizingRules:
        """Convert the settings of the autoscaler to numbers."""
        prior = float(
            PRIOR_WIN_RATE - (1 - PRIOR_WIN_RATE) * PRIOR_AVERAGE_LOSS_USD / PRIOR_AVERAGE_WIN_USD
        )
        return cls(
            starting_balance_units=round_to_units(Fraction(str(settings.STARTING_CAPITAL))),
            # A balance of whole units is below a sum if it is below the next whole unit.
            halt_balance_units=math.ceil(settings.halt_balance * UNITS_PER_DOLLAR),
            fee_units_per_contract=round_to_units(Fraction(str(settings.FEE_PER_CONTRACT))),
            rolling_window=settings.ROLLING_WINDOW,
            bootstrap_trades=settings.BOOTSTRAP_TRADES,
            prior_kelly_fraction=prior if settings.BOOTSTRAP_MODE == "prior" else math.nan,
            kelly_multiple=settings.KELLY_FRACTION,
            max_contracts=settings.MAX_CONTRACTS,
            negative_kelly_contracts=settings.NEGATIVE_KELLY_CONTRACTS,
            is_autoscaling_enabled=settings.AUTOSCALING_ENABLED,
        )


def round_to_units(amount: Fraction) -> int:
    """Round an amount in USD to whole units, ten-thousandths of a dollar."""
    return round(amount * UNITS_PER_DOLLAR)


class AccountPaths(NamedTuple):
    """Simulated balances and statistics of an account in R runs of D days.

    starting_balance: starting balance of each run, USD.
    balances: [R, D], balance at the end of each day, USD.
    max_drawdown_share: [R], maximum drawdown as a share of the peak, trade by trade.
    max_drawdown_usd: [R], maximum drawdown in USD, which may have occurred at another time.
    longest_days_under_water: [R], longest number of days below the previous peak.
    has_halted: [R], true if the safety halt applied at any time.
    contract_counts: [R], total number of contracts.
    trade_counts: [R], total number of trades.
    win_counts: [R], number of winning trades.
    capped_trade_counts: [R], number of trades with the maximum number of contracts.
    """

    starting_balance: float
    balances: Array
    max_drawdown_share: Array
    max_drawdown_usd: Array
    longest_days_under_water: IntArray
    has_halted: npt.NDArray[np.bool_]
    contract_counts: IntArray
    trade_counts: IntArray
    win_counts: IntArray
    capped_trade_counts: IntArray

    @property
    def balances_from_start(self) -> Array:
        """Return the starting balance followed by the daily balances, [R, D + 1], USD."""
        begins = np.full((len(self.balances), 1), self.starting_balance)
        return np.concatenate([begins, self.balances], axis=1)

    def select_runs(self, rows: slice) -> AccountPaths:
        """Return the paths of the runs in `rows`; the arrays are views that share memory."""
        arrays = {
            name: getattr(self, name)[rows] for name in self._fields if name != "starting_balance"
        }
        return self._replace(**arrays)


def simulate_account_paths(
    profits: IntArray,
    max_losses: IntArray,
    draws: DrawArray,
    rules: ScaledSizingRules,
    overlapping_trade_counts: IntArray | None = None,
) -> AccountPaths:
    """Simulate an account for each run of draws [R, D, P] from a sample of N trades.

    profits: P/L per contract before fees [N], units.
    max_losses: maximum loss per contract [N], units.
    draws: indices of trades; a negative index is not a trade, and ends the day.
    rules: sizing rules.
    overlapping_trade_counts: [N], number of preceding trades that were still open at each trade's
        entry. A trade is sized without their P/L. At the end of a day all trades are closed. None:
        no overlaps.
    """
    if overlapping_trade_counts is None:
        overlapping_trade_counts = np.zeros(len(profits), dtype=np.int64)
    net = profits - rules.fee_units_per_contract
    runs, days, _ = draws.shape
    paths = AccountPaths(
        starting_balance=rules.starting_balance_units / UNITS_PER_DOLLAR,
        balances=np.empty((runs, days)),
        max_drawdown_share=np.empty(runs),
        max_drawdown_usd=np.empty(runs),
        longest_days_under_water=np.empty(runs, dtype=np.int64),
        has_halted=np.empty(runs, dtype=np.bool_),
        contract_counts=np.empty(runs, dtype=np.int64),
        trade_counts=np.empty(runs, dtype=np.int64),
        win_counts=np.empty(runs, dtype=np.int64),
        capped_trade_counts=np.empty(runs, dtype=np.int64),
    )

    def simulate_runs(rows: slice) -> None:
        _simulate_runs(
            net, max_losses, overlapping_trade_counts, draws[rows], rules, paths.select_runs(rows)
        )

    # Compiled code releases the interpreter's lock: threads share the arrays they write to.
    threads = min(os.cpu_count() or 1, max(runs, 1))
    ends = [runs * k // threads for k in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(simulate_runs, map(slice, ends[:-1], ends[1:])))
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
    rules: ScaledSizingRules,
) -> int:
    """Return the number of contracts as `count_contracts` does, without the safety halt.

    n, wins: number of trades in the rolling window, and of those that won.
    won, lost: sums of the gains and of the losses in the window, units.
    closed: number of closed trades so far.
    risk: maximum loss of one contract, units.
    """
    if not rules.is_autoscaling_enabled:
        return 1
    if closed < rules.bootstrap_trades:
        if np.isnan(rules.prior_kelly_fraction):
            return 1
        kelly = rules.prior_kelly_fraction
    else:
        if wins == 0 or won < lost:
            return rules.negative_kelly_contracts
        kelly = wins * float(won - lost) / (n * float(won))
    # The balance comes last: the other factors are known before the previous trade has ended, so
    # the processor divides meanwhile. All are at least 0, so that truncation is the floor.
    contracts = int(balance * (kelly * rules.kelly_multiple / risk) + CONTRACT_COUNT_TOL)
    return min(max(contracts, 1), rules.max_contracts)


@compiled
def _simulate_runs(
    results: IntArray,
    risks: IntArray,
    overlaps: IntArray,
    draws: DrawArray,
    rules: ScaledSizingRules,
    paths: AccountPaths,
) -> None:
    """Simulate every run trade by trade, and write the results into the arrays of `paths`."""
    # A ring holds the last trades. A trade that leaves the window is subtracted from the sums,
    # which are exact integers.
    ring = np.zeros(rules.rolling_window, dtype=np.int64)
    trades_of_day = np.empty(draws.shape[2], dtype=np.int64)
    sizes = np.empty(draws.shape[2], dtype=np.int64)
    for r in range(draws.shape[0]):
        balance = rules.starting_balance_units
        peak = rules.starting_balance_units
        slot = closed = n = wins = won = lost = total = trades = winners = at_cap = fall = 0
        halted = False
        drawdown = 0.0
        below_peak = longest = 0
        high = rules.starting_balance_units
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
                    old = ring[slot] if n == rules.rolling_window else 0
                    old_gain = max(old, 0)
                    gain = max(result, 0)
                    old_loss = old_gain - old
                    loss = gain - result
                    wins += (result > 0) - (old > 0)
                    won += gain - old_gain
                    lost += loss - old_loss
                    n = min(n + 1, rules.rolling_window)
                    ring[slot] = result
                    slot = slot + 1 if slot + 1 < rules.rolling_window else 0
                    closed += 1
                    total += size
                    balance += size * result
                    peak = max(peak, balance)
                    fall = max(fall, peak - balance)
                    drawdown = max(drawdown, (peak - balance) / peak)
                if k < 0:
                    break
                if balance < rules.halt_balance_units:
                    halted = True
                    goes_on = False
                    continue
                size = _next_contracts(balance, n, wins, won, lost, closed, risks[k], rules)
                if size == 0:
                    goes_on = False
                    continue
                trades += 1
                winners += results[k] > 0
                at_cap += size == rules.max_contracts
                trades_of_day[decided] = k
                sizes[decided] = size
                decided += 1
            paths.balances[r, d] = balance / UNITS_PER_DOLLAR
            below_peak = 0 if balance >= high else below_peak + 1
            high = max(high, balance)
            longest = max(longest, below_peak)
        paths.max_drawdown_share[r] = drawdown
        paths.max_drawdown_usd[r] = fall / UNITS_PER_DOLLAR
        paths.longest_days_under_water[r] = longest
        # Includes a halt caused by the last trade.
        paths.has_halted[r] = halted or balance < rules.halt_balance_units
        paths.contract_counts[r] = total
        paths.trade_counts[r] = trades
        paths.win_counts[r] = winners
        paths.capped_trade_counts[r] = at_cap
