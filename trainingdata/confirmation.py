"""Bars that are read only once another confirms them: what is not believed is not read.

A bar far from the last one that is believed is left out. Where the bar after it agrees with it, the
price has moved and goes on from there; where prices are back, it was a spike that nobody reads. A
bar is judged by those before it alone, so that a decision and a history leave out the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from foundation.arrays import Array, Instants, Mask
from foundation.counts import counted
from trainingdata.bars import CLOSE, HIGH, LOW, Bars, Doubt
from trainingdata.instruments import Kind
from trainingdata.sessions import started_at

# Times the last believed close, up or down, that a close is away before it needs another to confirm
# it. Half a price, as by a split or a wrong row, is beyond; the largest true moves from close to
# close are within: 1.26 in an hour of ten stocks and eight coins over two years, and in a day of
# 48 stocks over eight years 1.54 but for OXY's 2.08 of 2020-03-09.
LARGEST_MOVE = 1.8
# The same of a high or a low. Coins have traded at a third of their price for a minute.
LARGEST_RANGE = 10.0
# The same of a close of a volatility index: 2.16 on 2018-02-05 is the largest of the VIX.
LARGEST_OF_VOLATILITY = 3.0
# Own bars within which the bars that a venue contradicts begin.
RECENT = 7


def unconfirmed(bars: Bars) -> Mask:
    """[S, T] the bars that are left out."""
    mask = np.zeros(bars.mask.shape, dtype=bool)
    for s in range(len(bars.symbols)):
        values = bars.real_bars(s)[1]
        apart = _apart(values[1:], values[:-1, CLOSE])
        if apart.any():
            mask[s, bars.mask[s]] = _left_out(values, apart)
    return mask


def unconfirmed_volatility(closes: Array) -> Mask:
    """[N] which closes of a volatility index are left out; closes: [N] points, day by day."""
    values = np.repeat(closes[:, None], 5, axis=1)
    apart = _apart(values[1:], values[:-1, CLOSE], LARGEST_OF_VOLATILITY)
    return _left_out(values, apart, LARGEST_OF_VOLATILITY)


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


def _apart(values: Array, before: Array, largest: float = LARGEST_MOVE) -> Mask:
    """[…] whether bars [… 5] are too far from the closes before them to be read on their own.

    largest: times that a close may be away.
    """
    move = values[..., CLOSE] / before
    return np.asarray(
        (np.maximum(move, 1.0 / move) > largest)
        | (values[..., HIGH] > before * LARGEST_RANGE)
        | (values[..., LOW] < before / LARGEST_RANGE)
    )


def _left_out(values: Array, apart: Mask, largest: float = LARGEST_MOVE) -> Mask:
    """[N] which of a symbol's bars [N, 5] are left out.

    apart: [N - 1] whether each bar is too far from the one before it.
    largest: times that a close may be away.
    """
    left_out = np.zeros(len(values), dtype=bool)
    believed = 0
    for k in range(1, len(values)):
        # Most bars follow one that is believed, and are judged by it already.
        beyond = apart[k - 1]
        if believed != k - 1:
            beyond = _apart(values[k], values[believed, CLOSE], largest)
        confirms = left_out[k - 1] and not apart[k - 1]
        left_out[k] = beyond and not confirms
        # Nothing came before a first bar: where the two after it agree, it is the one that is off.
        if beyond and confirms and k - 2 == believed == 0:
            left_out[:2] = True, False
        if not left_out[k]:
            believed = k
    return left_out


def left_out(symbol: str, kind: Kind, times: Instants) -> Doubt:
    """Which bars of a symbol were left out; times: [n] when they became known."""
    return Doubt(
        symbol,
        np.datetime64(started_at(kind, times[:1])[0]),
        f"{counted(len(times), 'bar')} left out, more than {LARGEST_MOVE:g} times up or down from"
        " the last one believed, and none confirms it",
        "nothing is decided, filled or marked there",
        "look at the file's bars there: a wrong row, or a split that is not adjusted",
    )
