"""Bars that are read only once another confirms them: what is not believed is not read.

A bar is left out where one of its prices is far from the last close that is believed. Where the
close after it agrees with its own, the price has moved and goes on from there; where prices are
back, it was a spike that nobody reads. A bar is judged by those before it alone, so that a decision
and a history leave out the same. A true crash that is over within the hour is left out as well,
with the orders and the margin calls that it would have met: its doubt says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from foundation.arrays import Array, Instants, Mask
from foundation.counts import counted
from trainingdata.bars import CLOSE, VOLUME, Bars, Doubt
from trainingdata.instants import utc_text

# Times the last believed close, up or down, beyond which an open, high, low or close of an hour
# waits for another bar. All of 210,000 true hours of ten stocks and eight coins, 2023 to 2025, are
# within: the furthest open and close are 1.26 away (NVDA 2023-05-25), the furthest high 1.37 and
# low 1.40 (XRP 2023-07-13, 2023-08-17). Of 93,000 days of 48 stocks, 2016 to 2023, four are beyond,
# OXY's 2.17 of 2020-03-09 the furthest.
LARGEST_MOVE = 1.5
# The same of a close of a volatility index: 2.16 on 2018-02-05 is the largest of the VIX.
LARGEST_OF_VOLATILITY = 3.0
# Own bars within which the bars that a venue contradicts begin, and a move is back where it began.
RECENT = 7

WAITS = "nothing is decided, filled or marked in the bar, which waits for the next"
CURE = "look at the file's bars there: wrong rows, or a split that is not adjusted"


def unconfirmed(bars: Bars) -> Mask:
    """[S, T] the bars that are left out."""
    mask = np.zeros(bars.mask.shape, dtype=bool)
    for s in range(len(bars.symbols)):
        mask[s, bars.mask[s]] = _left_out(bars.real_bars(s)[1], LARGEST_MOVE)
    return mask


def unconfirmed_volatility(closes: Array) -> Mask:
    """[N] which closes of a volatility index are left out; closes: [N] points, day by day."""
    return _left_out(np.repeat(closes[:, None], 5, axis=1), LARGEST_OF_VOLATILITY)


def confirmed(bars: Bars) -> Bars:
    """The panel without bars that nothing confirms; itself where there are none."""
    return without(bars, unconfirmed(bars))


def without(bars: Bars, mask: Mask) -> Bars:
    """The panel without some of its bars, mask [S, T]; its instants stay."""
    if not mask.any():
        return bars
    values = np.where(mask[:, :, None], np.nan, bars.values)
    return replace(bars, values=values, mask=bars.mask & ~mask)


def contradicted(bars: Bars, prices: Mapping[str, float], gap: float) -> Mask:
    """[S, T] the last bars of symbols whose last close a venue's price is further from than `gap`.

    They begin after the last bar that agrees with the price; where none of the recent ones does, as
    where a whole history is in other units, the last bar alone is meant.

    prices: USD, by symbol. gap: a share of the close.
    """
    mask = np.zeros(bars.mask.shape, dtype=bool)
    for s, symbol in enumerate(bars.symbols):
        rows = np.flatnonzero(bars.mask[s])[-RECENT:]
        price = prices.get(symbol)
        if price is None or not len(rows):
            continue
        agrees = np.abs(price / bars.values[s, rows, CLOSE] - 1.0) < gap
        if not agrees[-1]:
            first = int(np.flatnonzero(agrees)[-1]) + 1 if agrees.any() else len(rows) - 1
            mask[s, rows[first:]] = True
    return mask


def _apart(values: Array, before: Array | float, largest: float) -> Mask:
    """[…] whether a price of bars [… 5] is more than `largest` times away from closes before."""
    moves = values[..., :VOLUME] / np.asarray(before)[..., None]
    return np.asarray((np.maximum(moves, 1.0 / moves) > largest).any(axis=-1))


def _left_out(values: Array, largest: float) -> Mask:
    """[N] which of a symbol's bars [N, 5] are left out.

    largest: times that a price may be away.
    """
    left_out = np.zeros(len(values), dtype=bool)
    # The first bar has its own close alone.
    before = np.concatenate([values[:1, CLOSE], values[:-1, CLOSE]])
    apart = _apart(values, before, largest)
    if not apart.any():
        return left_out
    left_out[0] = apart[0]
    believed = 0
    for k in range(1, len(values)):
        # Most bars follow one that is believed, and are judged by it already.
        beyond = apart[k]
        if believed != k - 1:
            beyond = _apart(values[k], values[believed, CLOSE], largest)
        confirms = left_out[k - 1] and not apart[k]
        left_out[k] = beyond and not confirms
        # Nothing came before a first bar: where the two after it agree, it is the one that is off.
        if beyond and confirms and k - 2 == believed == 0:
            left_out[:2] = True, False
        if not left_out[k]:
            believed = k
    return left_out


def doubts_of(
    symbol: str, starts: Instants, left_out: Mask, jumps: Sequence[Doubt] = ()
) -> tuple[Doubt, ...]:
    """What is doubtful of a symbol's bars: their jumps, and in one doubt those that are left out.

    starts: [N] of its bars; left_out: [N].
    jumps: what is doubtful of some of the bars already.
    """
    waits = starts[left_out]
    doubts = [
        replace(each, effect=f"{WAITS}, and {each.effect}") if each.at in waits else each
        for each in jumps
    ]
    said = np.array([each.at for each in jumps], dtype="datetime64[ns]")
    others = waits[~np.isin(waits, said)]
    if len(others):
        what = (
            f"{counted(len(others), 'bar')} left out up to {utc_text(others[-1])}, a price more"
            f" than {LARGEST_MOVE:g} times up or down from the last close believed"
        )
        effect = (
            "nothing is decided, filled or marked there; where the next bar agrees, prices go on"
            " from it, and of a crash that is over by then no order fills and no margin is called"
        )
        doubts.append(Doubt(symbol, np.datetime64(others[0]), what, effect, CURE))
    return tuple(doubts)
