"""Jumps between bars that look like a split the prices are not adjusted for.

And the other way round: dividends and splits of a file that the prices do not show.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import groupby
from operator import attrgetter

import numpy as np

from foundation.arrays import Array, Instants
from foundation.errors import DataError
from foundation.figures import rounded_price
from trainingdata.actions import Action
from trainingdata.bars import CLOSE, OPEN, Bars, Doubt
from trainingdata.confirmation import RECENT
from trainingdata.instants import utc_text

BEYOND = 0.4  # share of its price by which a bar's close differs from the one before it
NEAR = 0.1  # of the logarithm: how near a ratio of closes is to one that splits have
GAP = 0.1  # the same, of the open over the close before: a split is made while nobody trades
# New shares for one old share, and the other way round; 3:2 moves a price by less than `BEYOND`.
_WHOLE = (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 16, 20, 25, 30, 40, 50, 100)
RATIOS = (*map(Fraction, _WHOLE), *(Fraction(1, k) for k in _WHOLE))
_LOGS = np.log([float(ratio) for ratio in RATIOS])


def _split_like(
    symbol: str, at: np.datetime64, ratio: Fraction, before: float, after: float
) -> Doubt:
    """A jump between closes, USD, as of a split: new shares for one old share."""
    return Doubt(
        symbol,
        at,
        f"looks like a split of {ratio.numerator}:{ratio.denominator} that the prices are not"
        f" adjusted for ({rounded_price(after, 2)} after {rounded_price(before, 2)})",
        f"what is held over it books {after / before - 1:+.0%} that nobody earned",
        "adjust the file's bars for it, or in a backtest give data.adjustment=raw and the split"
        " in data.actions",
        jump=True,
    )


def _not_shown(action: Action, at: np.datetime64, before: float, after: float) -> Doubt:
    """A dividend, a split or both of a file that the closes around them, USD, do not show."""
    parts = [f"dividend of {rounded_price(action.dividend, 2)}"] if action.dividend else []
    parts += [f"split of {action.ratio:g}:1"] if action.ratio != 1.0 else []
    closes = f"{rounded_price(after, 2)} after {rounded_price(before, 2)}"
    booked = (after * action.ratio + action.dividend) / before - 1
    return Doubt(
        action.symbol,
        at,
        f"the prices do not show the {' and '.join(parts)} of data.actions ({closes})",
        f"what is held over it books {booked:+.0%} that nobody earned",
        "mend its row there or take it out",
    )


def unlike_trading(
    bars: Bars, actions: Sequence[Action] = (), *, raw: bool = False
) -> tuple[Doubt, ...]:
    """Whatever of a symbol's prices, or of a file's actions, the other contradicts.

    Every jump that looks like a split and stays, by symbol and time, and then what a file
    lists and the prices do not show.

    actions: of a file, in time order.
    raw: whether the prices are not adjusted for splits: one of the file is no doubt of theirs then.
    """
    found: list[Doubt] = []
    for s, item in enumerate(bars.instruments):
        times, values = bars.real_bars(s)
        starts = bars.clock(item.kind).started_at(times)
        splits = [action for action in actions if raw and action.ratio != 1]
        known = [action.opens for action in splits if action.symbol == item.symbol]
        found += list(_of_symbol(item.symbol, starts, values, known))
    seen = {(one.symbol, one.at) for one in found}
    against = unconfirmed_actions(bars, actions, raw=raw)
    return *found, *(one for one in against if (one.symbol, one.at) not in seen)


def refuse_jumps(jumps: Sequence[Doubt], *, accepted: bool) -> None:
    """Refuse what was not accepted, naming the first."""
    if jumps and not accepted:
        one = jumps[0]
        more = f" (and {len(jumps) - 1} more)" if len(jumps) > 1 else ""
        raise DataError(
            f"{one.symbol}, {utc_text(one.at)}: {one.what}{more}: {one.cure};"
            " data.accept_jumps=true takes it for a move of the market"
        )


def unconfirmed_actions(bars: Bars, actions: Sequence[Action], *, raw: bool) -> list[Doubt]:
    """What a file lists and the prices do not show, or where they are adjusted for it, show.

    Only what moves a price by more than `GAP` can be told from the news of a night. Special
    dividends of a quarter of the price and more are the ones that are listed under a wrong day: the
    exchange has them ex on the day after they are paid (FINRA rule 11140(b)(2)).

    actions: of a file, in time order.
    raw: whether the prices are not adjusted for splits.
    """
    places = {symbol: s for s, symbol in enumerate(bars.symbols)}

    @cache
    def of_symbol(s: int) -> tuple[Instants, Array]:
        times, values = bars.real_bars(s)
        return bars.clock(bars.instruments[s].kind).started_at(times), values

    found: list[Doubt] = []
    for (symbol, opens), each in groupby(actions, key=attrgetter("symbol", "opens")):
        if symbol not in places:
            continue
        starts, values = of_symbol(places[symbol])
        row = int(np.searchsorted(starts, opens))
        if 0 < row < len(starts):
            listed = _together(list(each))
            found += _unconfirmed(
                listed, np.datetime64(starts[row]), values[row - 1 : row + 1], raw
            )
    return found


def _of_symbol(
    symbol: str, starts: Instants, values: Array, known: Sequence[np.datetime64]
) -> list[Doubt]:
    closes = values[:, CLOSE]
    found: list[Doubt] = []
    back = 0
    for k in np.flatnonzero(np.abs(closes[1:] / closes[:-1] - 1) > BEYOND).tolist():
        if k < back or any(starts[k] < opens <= starts[k + 1] for opens in known):
            continue
        place = _way_back(closes, k)
        if place is not None:
            back = place
        elif ratio := _ratio(values, k):
            at = np.datetime64(starts[k + 1])
            found.append(_split_like(symbol, at, ratio, float(closes[k]), float(closes[k + 1])))
    return found


def _together(actions: Sequence[Action]) -> Action:
    """The dividends and the split of one session."""
    ratio = math.prod(action.ratio for action in actions)
    return replace(actions[0], ratio=ratio, dividend=sum(action.dividend for action in actions))


def _unconfirmed(listed: Action, at: np.datetime64, around: Array, raw: bool) -> Iterator[Doubt]:
    """What of a session's actions the bars [2, 5] before and after it contradict."""
    before = float(around[0, CLOSE])
    after = float(around[1, CLOSE])
    unsplit = max(before - listed.dividend, 0.0)
    expected = unsplit / listed.ratio if raw else unsplit
    with np.errstate(divide="ignore"):
        size = abs(np.log(expected / before))
        # The nearer one counts: news has moved the other by then, or it is wrong.
        apart = np.abs(np.log(around[1, [OPEN, CLOSE]] / expected))
        from_split = np.abs(np.log(around[1, [OPEN, CLOSE]] * listed.ratio / unsplit))
    if not raw and listed.ratio != 1.0 and apart.min() > GAP >= from_split.max():
        ratio = Fraction(listed.ratio).limit_denominator(1000)
        yield _split_like(listed.symbol, at, ratio, before, after)
    elif size > GAP and apart.min() > GAP:
        yield _not_shown(listed if raw else replace(listed, ratio=1.0), at, before, after)


def _ratio(values: Array, k: int) -> Fraction | None:
    """The ratio of a split that the jump from a bar to the next looks like."""
    change = np.log(values[k + 1, CLOSE] / values[k, CLOSE])
    gap = np.log(values[k + 1, OPEN] / values[k, CLOSE])
    # A price falls as shares become more.
    nearest = int(np.abs(_LOGS + change).argmin())
    alike = abs(_LOGS[nearest] + change) <= NEAR and abs(_LOGS[nearest] + gap) <= GAP
    return RATIOS[nearest] if alike else None


def _way_back(closes: Array, k: int) -> int | None:
    """The bar, soon after a jump from this one, in which prices are back and stay."""
    later = closes[k + 2 : k + 2 + RECENT]
    alike = np.flatnonzero(np.abs(np.log(later / closes[k])) <= GAP)
    if not len(alike):
        return None
    place = k + 2 + int(alike[0])
    # A wrong row soon after a split shows the price before it once more.
    stays = abs(np.median(closes[place : place + RECENT]) / closes[k] - 1) <= BEYOND
    return place if stays else None
