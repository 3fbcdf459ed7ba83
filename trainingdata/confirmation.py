"""A filter of price errors: bars that no other bar confirms are not used.

A bar is pending if one of its prices is far from the last accepted close. The next bar decides. It
confirms the move if it opens nearer to the pending close than to the last accepted close. It also
confirms the move if its open or close lies beyond the limit on the same side as the pending bar.
Otherwise the pending bar counts as an error, unless prices return to its level soon. After a
confirmed move the limit is wider for some bars, so that a short squeeze costs few bars. Each bar is
judged only by data known at the decision, so live trading and a backtest reject the same bars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from foundation.arrays import Array, Instants, Mask
from trainingdata.bars import CLOSE, OPEN, VOLUME, Bars, DataWarning
from trainingdata.instruments import AssetClass, Instrument

# Largest ratio of an open, high, low or close to the last accepted close, up or down; beyond it a
# bar is pending. All of 210,000 true hours of ten stocks and eight coins, 2023 to 2025, are within:
# the furthest open and close are 1.26 away (NVDA 2023-05-25), the furthest high 1.37 and low 1.40
# (XRP 2023-07-13, 2023-08-17). Of 93,000 days of 48 stocks, 2016 to 2023, four are beyond, OXY's
# 2.17 of 2020-03-09 the furthest. Volume decides nothing: docs/STUDIES.md has the table.
MAX_PRICE_RATIO = 1.5
# The same limit for the bars after a confirmed move. The days of GME's squeeze, 2021-01-26 to
# 02-02, are within (the low of 01-28 is a third of the close before); a price ten times off is not.
MAX_PRICE_RATIO_AFTER_MOVE = 5.0
# The same limit for a close of a volatility index: 2.16 on 2018-02-05 is the largest of the VIX.
MAX_VOLATILITY_INDEX_RATIO = 3.0
# Number of a symbol's bars for which the wider limit lasts, in which a bar can be contradicted, and
# in which a move can reverse.
CONFIRMATION_WINDOW_BARS = 7

UNCONFIRMED_BAR_CAUSES = {
    AssetClass.STOCK: (
        "possible causes: wrong rows, an unadjusted split or a real move; compare the file with a"
        " second source"
    ),
    AssetClass.CRYPTO: (
        "possible causes: wrong rows, a coin redenomination or a real move; compare the file with a"
        " second source"
    ),
}
UNCONFIRMED_BAR_EFFECT = (
    "the bar is not used for decisions, fills or valuation until the next bar confirms it"
)


def find_unconfirmed_bars(bars: Bars) -> Mask:
    """Return a mask [S, T] of bars with large price moves that no other bar confirms."""
    mask = np.zeros(bars.mask.shape, dtype=bool)
    for s in range(len(bars.symbols)):
        mask[s, bars.mask[s]] = find_unconfirmed_rows(bars.bars_of_symbol(s)[1])
    return mask


def find_unconfirmed_index_closes(closes: Array) -> Mask:
    """Return a mask [N] of closes of a volatility index with large moves that no close confirms.

    closes: [N] daily closes, points.
    """
    return find_unconfirmed_rows(np.repeat(closes[:, None], 5, axis=1), MAX_VOLATILITY_INDEX_RATIO)


def drop_unconfirmed_bars(bars: Bars) -> Bars:
    """Return the panel without the bars that `find_unconfirmed_bars` marks.

    If it marks none, the same panel is returned.
    """
    return bars.drop_bars(find_unconfirmed_bars(bars))


def restore_confirmed_bars(bars: Bars) -> Bars:
    """Return the panel with those dropped bars restored that the next bar confirms in hindsight.

    Use this only to analyse the past: decisions at the time did not have these bars.
    """
    whole = bars.with_unconfirmed_bars()
    errors = whole.mask & ~bars.mask
    for s in range(len(bars.symbols)):
        rows = np.flatnonzero(whole.mask[s])
        left_out = errors[s, rows]
        accepted = np.maximum.accumulate(np.where(left_out, 0, np.arange(len(rows))))
        for k in np.flatnonzero(left_out[:-1] & ~left_out[1:]).tolist():
            three = whole.values[s, rows[[accepted[k], k, k + 1]]]
            errors[s, rows[k]] = not _confirms_move(three, MAX_PRICE_RATIO)
    return whole.drop_bars(errors)


def find_contradicted_bars(bars: Bars, venue_prices: Mapping[str, float], tolerance: float) -> Mask:
    """Return a mask [S, T] of each symbol's latest bars that contradict the venue's price.

    If the last bar contradicts the price, the bars after the last recent bar that agrees with the
    price are marked. If no recent bar agrees, as for a history in other units, only the last bar is
    marked.

    venue_prices: USD, by symbol.
    tolerance: largest difference of a close from the price that counts as agreement, as a fraction.
    """
    mask = np.zeros(bars.mask.shape, dtype=bool)
    for s, symbol in enumerate(bars.symbols):
        rows = np.flatnonzero(bars.mask[s])[-CONFIRMATION_WINDOW_BARS:]
        price = venue_prices.get(symbol)
        if price is None or not len(rows):
            continue
        agrees = np.abs(price / bars.values[s, rows, CLOSE] - 1.0) < tolerance
        if not agrees[-1]:
            first = int(np.flatnonzero(agrees)[-1]) + 1 if agrees.any() else len(rows) - 1
            mask[s, rows[first:]] = True
    return mask


def _differs_by_factor(values: Array, before: Array | float, largest: float) -> Mask:
    """Return whether any price of each bar differs from a given close by more than a factor, […].

    values: […, 5] prices and volume of the bars.
    before: […] the close with which each bar is compared.
    largest: the factor.
    """
    moves = values[..., :VOLUME] / np.asarray(before)[..., None]
    return np.asarray((np.maximum(moves, 1.0 / moves) > largest).any(axis=-1))


def find_unconfirmed_rows(values: Array, max_ratio: float = MAX_PRICE_RATIO) -> Mask:
    """Return a mask [N] of a symbol's bars with large price moves that no other bar confirms.

    values: [N, 5] prices and volume of the bars.
    max_ratio: ratio to the last accepted close beyond which a bar is pending.
    """
    left_out = np.zeros(len(values), dtype=bool)
    # The first bar can only be compared with its own close.
    before = np.concatenate([values[:1, CLOSE], values[:-1, CLOSE]])
    apart = _differs_by_factor(values, before, max_ratio)
    if not apart.any():
        return left_out
    left_out[0] = apart[0]
    accepted = 0  # the row of the last accepted close
    wild_until = 0  # the row at which the wider limit ends
    for k in range(1, len(values)):
        if accepted == k - 1 and not apart[k]:
            accepted = k
            continue
        moved = bool(_differs_by_factor(values[k], values[accepted, CLOSE], max_ratio))
        confirms = accepted < k - 1 and _confirms_move(values[[accepted, k - 1, k]], max_ratio)
        confirms = confirms or (
            moved and _repeats_rejected_bar(values[: k + 1], accepted, left_out, max_ratio)
        )
        limit = MAX_PRICE_RATIO_AFTER_MOVE if k < wild_until else max_ratio
        left_out[k] = not confirms and bool(
            _differs_by_factor(values[k], values[accepted, CLOSE], limit)
        )
        # No bar came before the first: if the two after it agree, the first one is the error.
        if confirms and moved and k == 2:
            left_out[:2] = True, False
        elif confirms or (moved and not left_out[k]):
            wild_until = k + 1 + CONFIRMATION_WINDOW_BARS
        if not left_out[k]:
            accepted = k
    return left_out


def _repeats_rejected_bar(values: Array, accepted: int, left_out: Mask, largest: float) -> bool:
    """Return whether the last bar is near a recent bar that was rejected.

    A second bar at the same price level confirms the level. A bar that is too far from the last
    accepted close does not: its prices are probably in other units.

    values: [n, 5] bars up to the bar to judge.
    accepted: row of the last accepted close.
    left_out: mask of rejected bars.
    largest: factor within which two bars are near.
    """
    bar = values[-1]
    if _differs_by_factor(bar, values[accepted, CLOSE], MAX_PRICE_RATIO_AFTER_MOVE):
        return False
    begin = max(len(values) - 1 - CONFIRMATION_WINDOW_BARS, 0)
    recent = np.flatnonzero(left_out[begin : len(values) - 1]) + begin
    return any(not _differs_by_factor(bar, values[row, CLOSE], largest) for row in recent.tolist())


def _confirms_move(values: Array, largest: float) -> bool:
    """Return whether a bar confirms the move of the pending bar before it.

    values: [3, 5] the last accepted bar, the pending bar and the next bar.
    largest: ratio to the last accepted close beyond which a price has moved.
    """
    base, waiting, bar = values
    if _differs_by_factor(bar, waiting[CLOSE], MAX_PRICE_RATIO_AFTER_MOVE):
        return False
    ends = np.log(bar[[OPEN, CLOSE]] / base[CLOSE])
    reached = np.log(waiting[:VOLUME] / base[CLOSE])
    limit = np.log(largest)
    same_side = (ends.max() > limit and reached.max() > limit) or (
        ends.min() < -limit and reached.min() < -limit
    )
    to_waiting = abs(np.log(bar[OPEN] / waiting[CLOSE]))
    opens_there = abs(reached[CLOSE]) > limit and to_waiting < abs(ends[0])
    return bool(same_side or opens_there)


def build_unconfirmed_bar_warnings(
    item: Instrument,
    starts: Instants,
    values: Array,
    unconfirmed: Mask,
    other_warnings: Sequence[DataWarning] = (),
) -> tuple[DataWarning, ...]:
    """Return a symbol's data warnings: `other_warnings`, and one per unconfirmed bar.

    item: the instrument.
    starts: [N] start times of the bars.
    values: [N, 5] prices and volume of the bars.
    unconfirmed: [N] mask of unconfirmed bars.
    other_warnings: warnings of other checks; the result states in such a warning about an
        unconfirmed bar that the bar is not used.
    """
    waits = starts[unconfirmed]
    doubts = [
        replace(each, effect=f"{UNCONFIRMED_BAR_EFFECT}, and {each.effect}")
        if each.bar_start in waits
        else each
        for each in other_warnings
    ]
    doubted = np.array([each.bar_start for each in other_warnings], dtype="datetime64[ns]")
    for row in np.flatnonzero(unconfirmed & ~np.isin(starts, doubted)).tolist():
        before, close = values[max(row - 1, 0), CLOSE], values[row, CLOSE]
        what = (
            f"the bar is skipped: a price differs by more than a factor of {MAX_PRICE_RATIO:g} from"
            f" the last accepted close ({close:,.4g} after {before:,.4g})"
        )
        effect = (
            f"{UNCONFIRMED_BAR_EFFECT}; a confirmed move is accepted, and a position held through"
            f" it books {close / before - 1:+.0%}"
        )
        at = np.datetime64(starts[row])
        size = abs(float(np.log(close / before)))
        doubts.append(
            DataWarning(
                item.symbol, at, what, effect, UNCONFIRMED_BAR_CAUSES[item.kind], "left_out", size
            )
        )
    if len(starts) and unconfirmed[-1]:
        payout = (
            "if the symbol is delisted here, the payout is computed from this price,"
            f" {values[-1, CLOSE]:,.4g}"
        )
        doubts = [
            replace(each, effect=f"{each.effect}; {payout}")
            if each.bar_start == starts[-1]
            else each
            for each in doubts
        ]
    return tuple(doubts)
