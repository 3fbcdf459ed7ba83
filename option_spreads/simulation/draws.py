"""Which trades the runs of a Monte Carlo take: numbers of trades, drawn by seed."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

CHUNK = 500  # runs that draw from one stream of random numbers
NO_TRADE = -1
LOSING, SPREADING = 1, 2  # what else a stream of random numbers is for

Index = npt.NDArray[np.int32]


def trades_of_a_week(trades_a_day: float) -> int:
    """Trades of five sessions: what happens within a week stays together in a block of so many."""
    return max(round(5 * trades_a_day), 1)


def draw_trades(
    n: int,
    runs: int,
    days: int,
    trades_a_day: float,
    seed: int,
    *,
    block: int = 1,
    uncertainty: bool = False,
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
    uncertainty: each run draws from a history of its own, as many blocks as hold n trades, drawn
        from all blocks of the n.
    """
    most = math.ceil(trades_a_day)
    parts = [
        _draw_chunk(rng, n, count, days * most, block, uncertainty).reshape(count, days, most)
        for rng, count in _streams(seed, runs)
    ]
    if most > trades_a_day:
        chance = trades_a_day - math.floor(trades_a_day)
        for part, (rng, count) in zip(parts, _streams(seed, runs, SPREADING), strict=True):
            has_all = rng.random((CHUNK, days))[:count] < chance
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
    for k in range(0, runs, CHUNK):
        yield np.random.default_rng([seed, k // CHUNK, *purpose]), min(CHUNK, runs - k)


def _draw_chunk(
    rng: np.random.Generator, n: int, runs: int, length: int, block: int, uncertainty: bool
) -> Index:
    """The draws of one chunk of runs, [R, length]."""
    blocks = -(-length // block)
    own = -(-n // block)
    # The whole chunk is drawn and the rest cut off, so that a run does not depend on how many
    # there are.
    starts = rng.integers(own if uncertainty else n, size=(CHUNK, blocks), dtype=np.int32)[:runs]
    if uncertainty:
        # A history of blocks: what follows upon each other in the trades does so in it, too.
        history = rng.integers(n, size=(CHUNK, own), dtype=np.int32)[:runs]
        starts = np.take_along_axis(history, starts, axis=1)
    places = (starts[:, :, None] + np.arange(block, dtype=np.int32)) % np.int32(n)
    return np.ascontiguousarray(places.reshape(runs, -1)[:, :length])


def with_full_losses(draws: Index, n: int, chance: float, seed: int) -> Index:
    """The draws with the chance that a trade loses all it can: its number then lies n higher."""
    worse = draws.copy()
    first = 0
    for rng, count in _streams(seed, len(draws), LOSING):
        part = worse[first : first + count]
        uniform = rng.random((CHUNK, *draws.shape[1:]), dtype=np.float32)[:count]
        part += ((uniform < chance) & (part != NO_TRADE)) * np.int32(n)
        first += count
    return worse
