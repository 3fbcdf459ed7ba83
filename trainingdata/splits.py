"""Detection of price moves that resemble unadjusted splits or spin-offs.

The module also finds dividends and splits of an actions file that the prices do not show, and
splits for which the volume is not adjusted like the prices. Three rules classify a stock's moves.
Crypto pairs have no splits and are not checked.

`split`: from one bar to the next, the close changes by about a whole split ratio (2:1 to 1,000:1)
    and so does the open, or the close changes by more than the largest ratio. The bars are
    rejected unless jumps are accepted.
`ratio`: a session opens within `RARE_SPLIT_RTOL` of a ratio below 2:1, or of 5:2, and moves more
    than `MIN_SPLIT_MOVE_MULTIPLE` times the symbol's usual overnight move. Reported as a data
    warning.
`move`: a session opens beyond `MIN_SUSPECT_MOVE_MULTIPLE` times the usual overnight move, as after
    a spin-off. Reported as a data warning.

docs/STUDIES.md has the error rates of the last two rules, from `studies/doubtful_prices.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from foundation.arrays import Array, Index, Instants, Mask
from foundation.errors import DataError
from foundation.formatting import format_rounded_price
from trainingdata.bars import CLOSE, OPEN, VOLUME, Bars, DataWarning
from trainingdata.confirmation import CONFIRMATION_WINDOW_BARS
from trainingdata.corporate_actions import CorporateAction
from trainingdata.instants import format_utc, new_york_date
from trainingdata.instruments import AssetClass

MIN_SPLIT_MOVE = 0.4  # share of its price by which a bar's close differs from the one before it
SPLIT_LOG_TOL = 0.1  # log distance within which a ratio of closes matches a split's
OPEN_LOG_TOL = (
    0.1  # the same for the open over the close before: splits take effect between sessions
)
# Split ratios: new shares for one old share, and the reverse; 3:2 moves a price by less than
# `MIN_SPLIT_MOVE`.
MAX_SPLIT_RATIO = 1000
_WHOLE = range(2, MAX_SPLIT_RATIO + 1)
SPLIT_RATIOS = (*map(Fraction, _WHOLE), *(Fraction(1, k) for k in _WHOLE))
_SPLIT_RATIO_LOGS = np.log([float(ratio) for ratio in SPLIT_RATIOS])

# Splits of rare ratios: stock dividends of 10 to 50 %, five or three for two, five for three.
_RARE = ((3, 2), (4, 3), (5, 4), (6, 5), (5, 2), (5, 3), (11, 10))
RARE_SPLIT_RATIOS = tuple(Fraction(*sides) for pair in _RARE for sides in (pair, pair[::-1]))
_RARE_LOGS = np.log([float(ratio) for ratio in RARE_SPLIT_RATIOS])
RARE_SPLIT_RTOL = 0.005  # relative distance from a ratio within which an open matches it
NEAR_SPLIT_RTOL = 0.03  # the same including an ordinary night's move: the ratio is named
# Multiples of the usual overnight move beyond which an open is suspect: near a rare split ratio,
# and anywhere else.
MIN_SPLIT_MOVE_MULTIPLE = 8.0
MIN_SUSPECT_MOVE_MULTIPLE = 15.0
MIN_OVERNIGHT_MOVES = 20  # minimum number of a symbol's overnight moves for a check
NEARBY_SESSIONS = 20  # sessions before and after a move whose size is usual locally
MIN_USUAL_MOVE = 0.001  # minimum of a symbol's usual overnight move
# Period before and after a split whose median volumes are compared. Their quotient between these
# powers of the split ratio means that volume is unadjusted. Adjusted volume changes as at a 2:1
# split at 5 % of all instants, as at a 4:1 split at 0.4 % (48 large stocks).
VOLUME_WINDOW = np.timedelta64(28, "D")
VOLUME_STEP_POWERS = (2 / 3, 4 / 3)
MIN_VOLUME_SPLIT = 2.0  # minimum ratio of a split or a reverse split that volume can show
_MAD_TO_SIGMA = 1.4826  # median absolute deviations in a normal distribution's standard deviation


def _split_like_warning(
    symbol: str, at: np.datetime64, ratio: Fraction | None, before: float, after: float
) -> DataWarning:
    """Return the data warning about a jump between two closes, which resembles a split.

    at: start of the bar after the jump.
    ratio: ratio of the split that the jump resembles, new shares per old share; None if the jump
        exceeds the largest ratio.
    before, after: the two closes, in USD.
    """
    prices = f"({format_rounded_price(after, 2)} after {format_rounded_price(before, 2)})"
    what = f"by more than a factor of {MAX_SPLIT_RATIO:,} {prices}, beyond any real move"
    if ratio is not None:
        what = f"like an unadjusted {ratio.numerator}:{ratio.denominator} split {prices}"
    return DataWarning(
        symbol,
        at,
        f"the close jumps {what}",
        f"unless the move is real, a position held through it books a false"
        f" {after / before - 1:+.0%}",
        "adjust the bars in the file, or in a backtest set data.adjustment=raw and list the split"
        " in data.actions",
        "split",
    )


def _far_open_warning(
    symbol: str,
    at: np.datetime64,
    before: float,
    after: float,
    multiple: float,
    ratio: Fraction | None,
) -> DataWarning:
    """Return the data warning about a session that opens far from the last close.

    before, after: last close and open, in USD.
    multiple: size of the move in usual overnight moves of the symbol.
    ratio: ratio of the split that the move resembles, or None.
    """
    change = after / before - 1
    prices = f"({format_rounded_price(after, 2)} after {format_rounded_price(before, 2)})"
    usual = f"{prices}, {multiple:.0f} times the usual overnight move"
    what = f"the open is {change:+.1%} from the last close {usual}"
    if near := _rare_ratio(np.log(after / before), NEAR_SPLIT_RTOL):
        what += f" and near a {near.numerator}:{near.denominator} split"
    if ratio is not None:
        what = f"the open jumps like a {ratio.numerator}:{ratio.denominator} split {usual}"
    return DataWarning(
        symbol,
        at,
        what,
        "if a split or spin-off is missing from the prices, a position held through it books a"
        f" false {change:+.0%}",
        "possible causes: an unadjusted split, a spin-off, wrong rows or a real move; check the"
        " company's corporate actions, and list them in data.actions",
        "move" if ratio is None else "ratio",
        multiple,
    )


def _missing_action_warning(
    action: CorporateAction, at: np.datetime64, before: float, after: float
) -> DataWarning:
    """Return the data warning about a listed action that the closes around it do not show.

    at: start of the first bar to which the action applies.
    before, after: close before that bar, and its close, in USD.
    """
    parts = [f"dividend of {format_rounded_price(action.dividend, 2)}"] if action.dividend else []
    parts += [f"split of {action.split_ratio:g}:1"] if action.split_ratio != 1.0 else []
    closes = f"{format_rounded_price(after, 2)} after {format_rounded_price(before, 2)}"
    booked = (after * action.split_ratio + action.dividend) / before - 1
    return DataWarning(
        action.symbol,
        at,
        f"the prices do not show the {' and '.join(parts)} of data.actions ({closes})",
        f"a position held through it books a false {booked:+.0%}",
        "correct or delete the row in data.actions, unless a real move hides the action",
        "action",
    )


def find_unexplained_jumps(
    bars: Bars, actions: Sequence[CorporateAction] = (), *, raw: bool = False
) -> tuple[DataWarning, ...]:
    """Find lasting price jumps that resemble a split, and corporate actions that prices contradict.

    bars: the panel; only stocks are checked for jumps.
    actions: corporate actions of a file, in time order.
    raw: whether prices are not adjusted for splits; a listed split then explains a jump.
    """
    found: list[DataWarning] = []
    for s, item in enumerate(bars.instruments):
        if item.kind is not AssetClass.STOCK:
            continue
        times, values = bars.bars_of_symbol(s)
        starts = bars.clock(item.kind).starts_by_end(times)
        splits = [action for action in actions if raw and action.split_ratio != 1]
        known = [action.effective_open for action in splits if action.symbol == item.symbol]
        found += list(find_symbol_jumps(item.symbol, starts, values, known))
    seen = {(one.symbol, one.bar_start) for one in found}
    against = find_actions_not_in_prices(bars, actions, raw=raw)
    return *found, *(one for one in against if (one.symbol, one.bar_start) not in seen)


def find_suspect_opens(
    bars: Bars, unconfirmed: Mask, actions: Sequence[CorporateAction] = (), *, raw: bool = False
) -> tuple[DataWarning, ...]:
    """Find stock sessions that open near a rare split ratio, or unusually far from the last close.

    bars: the panel.
    unconfirmed: [S, T] mask of unconfirmed bars; such a bar is reported only if prices stay at its
        level, since a price that reverses is not a split.
    actions: corporate actions of a file; moves are corrected for dividends, and for splits if
        prices are raw.
    raw: whether prices are not adjusted for splits.
    """
    found = []
    for s, item in enumerate(bars.instruments):
        if item.kind is not AssetClass.STOCK:
            continue
        times, values = bars.bars_of_symbol(s)
        starts = bars.clock(item.kind).starts_by_end(times)
        alone = unconfirmed[s, bars.mask[s]]
        own = [action for action in actions if action.symbol == item.symbol]
        night = compute_overnight_moves(starts, values, alone, own, raw=raw)
        moves = night.log_returns
        multiples, by_ratio, by_size = classify_moves(moves)
        for k in np.flatnonzero(by_ratio | by_size):
            row = int(night.row_indices[k])
            before, after = float(night.previous_closes[k]), float(night.opens[k])
            if alone[row] and not _stays_near_open(values, row, before):
                continue
            at = np.datetime64(starts[row])
            ratio = _rare_ratio(moves[k]) if by_ratio[k] else None
            found.append(
                _far_open_warning(item.symbol, at, before, after, float(multiples[k]), ratio)
            )
    return tuple(found)


class OvernightMoves(NamedTuple):
    """Overnight moves of a stock into N sessions.

    row_indices: [N] index of each session's first bar among the symbol's bars.
    previous_closes: [N] previous close, USD.
    opens: [N] open, USD, adjusted for the session's corporate actions.
    """

    row_indices: Index
    previous_closes: Array
    opens: Array

    @property
    def log_returns(self) -> Array:
        """Log returns from close to open, [N]."""
        return np.log(self.opens / self.previous_closes)


def find_volume_steps(bars: Bars, actions: Sequence[CorporateAction]) -> list[DataWarning]:
    """Find listed splits at which the volume of adjusted bars changes by about the ratio.

    Prices and volume then have different units, and their product is wrong.

    bars: the panel, adjusted for splits.
    actions: corporate actions of a file.
    """
    found = []
    for action in actions:
        log_ratio = np.log(action.split_ratio)
        if action.symbol not in bars.symbols or abs(log_ratio) < np.log(MIN_VOLUME_SPLIT):
            continue
        times, values = bars.bars_of_symbol(bars.symbols.index(action.symbol))
        starts = bars.clock(AssetClass.STOCK).starts_by_end(times)
        first, split, last = np.searchsorted(
            starts, action.effective_open + VOLUME_WINDOW * np.arange(-1, 2)
        )
        before, after = values[first:split, VOLUME], values[split:last, VOLUME]
        if not (before.any() and after.any()):
            continue
        change = np.median(after[after > 0]) / np.median(before[before > 0])
        power = abs(np.log(change) / log_ratio)
        if VOLUME_STEP_POWERS[0] <= power <= VOLUME_STEP_POWERS[1]:
            doubt = DataWarning(
                action.symbol,
                np.datetime64(starts[split]),
                f"the volume changes by a factor of {change:.2g} at the {action.split_ratio:g}:1"
                " split of data.actions, as if it were not adjusted like the prices",
                "price times volume is wrong by that factor before the split, in universe.top,"
                " fill limits and impact",
                "adjust prices and volume of the file alike, unless trading really changed",
                "action",
            )
            found.append(doubt)
    return found


def compute_overnight_moves(
    starts: Instants,
    values: Array,
    left_out: Mask,
    actions: Sequence[CorporateAction] = (),
    *,
    raw: bool = False,
) -> OvernightMoves:
    """Return a symbol's overnight moves.

    starts: [B] start times of the symbol's bars.
    values: [B, 5] prices and volume of the bars.
    left_out: [B] mask of unconfirmed bars.
    actions: corporate actions of the symbol, for which the opens are adjusted.
    raw: whether prices are not adjusted for splits.
    """
    firsts = np.flatnonzero(np.diff(new_york_date(starts)).astype(np.int64) != 0) + 1
    before = _closes_before(values, left_out)[firsts]
    after = values[firsts, OPEN].copy()
    # Splits come first, because a dividend of the same session is per old share.
    for action in sorted(actions, key=attrgetter("dividend")):
        k = int(np.searchsorted(starts[firsts], action.effective_open))
        if k < len(firsts) and starts[firsts[k] - 1] < action.effective_open:
            after[k] = after[k] * (action.split_ratio if raw else 1.0) + action.dividend
    return OvernightMoves(firsts, before, after)


def classify_moves(moves: Array) -> tuple[Array, Mask, Mask]:
    """Classify overnight moves; return their sizes and two masks of suspect moves, [N] each.

    A size is a multiple of the symbol's usual overnight move. The first mask flags moves near a
    rare split ratio, the second mask other large moves. If there are fewer than
    `MIN_OVERNIGHT_MOVES` moves, none is flagged.

    moves: [N] log overnight moves of a symbol.
    """
    if len(moves) < MIN_OVERNIGHT_MOVES:
        return np.zeros(len(moves)), *np.zeros((2, len(moves)), dtype=bool)
    multiples = np.abs(moves - np.median(moves)) / _usual_move_sizes(moves)
    by_ratio = multiples > MIN_SPLIT_MOVE_MULTIPLE
    by_ratio[by_ratio] = _rare_ratio_distances(moves[by_ratio]).min(axis=1) <= np.log1p(
        RARE_SPLIT_RTOL
    )
    return multiples, by_ratio, (multiples > MIN_SUSPECT_MOVE_MULTIPLE) & ~by_ratio


def _rare_ratio_distances(moves: Array) -> Array:
    """Return the log distance of each move [N] from each rare split ratio, [N, R]."""
    # A price falls as shares become more.
    return np.abs(moves[:, None] + _RARE_LOGS)


def _rare_ratio(move: float, tolerance: float = RARE_SPLIT_RTOL) -> Fraction | None:
    """Return the rare split ratio within a tolerance of a log move, or None.

    The ratio is in new shares per old share.
    """
    apart = _rare_ratio_distances(np.array([move]))[0]
    nearest = int(apart.argmin())
    return RARE_SPLIT_RATIOS[nearest] if apart[nearest] <= np.log1p(tolerance) else None


def _usual_move_sizes(moves: Array) -> Array:
    """Return the usual size of overnight moves around each move, a robust standard deviation, [N].

    The result is the larger of two deviations, that of all moves and that of nearby moves. Thus,
    after a calm year, the moves of a crash are usual among themselves. The deviation of nearby
    moves is computed only for moves that are large relative to all moves.
    """
    apart = np.abs(moves - np.median(moves))
    usual = np.full(len(moves), max(_MAD_TO_SIGMA * np.median(apart), MIN_USUAL_MOVE))
    around = np.pad(
        apart, NEARBY_SESSIONS, mode="reflect" if len(apart) > NEARBY_SESSIONS else "symmetric"
    )
    windows = np.lib.stride_tricks.sliding_window_view(around, 2 * NEARBY_SESSIONS + 1)
    far = apart > MIN_SPLIT_MOVE_MULTIPLE * usual
    usual[far] = np.maximum(usual[far], _MAD_TO_SIGMA * np.median(windows[far], axis=1))
    return usual


def _closes_before(values: Array, left_out: Mask) -> Array:
    """Return the close with which each bar's open is compared, [N].

    It is the previous close or the last accepted close, whichever is nearer to the open in price.
    """
    closes = values[:, CLOSE]
    before = np.concatenate([closes[:1], closes[:-1]])
    accepted = np.maximum.accumulate(np.where(left_out, 0, np.arange(len(closes))))
    for k in (np.flatnonzero(left_out[:-1]) + 1).tolist():
        earlier = closes[accepted[k - 1]]
        opened = values[k, OPEN]
        if abs(np.log(opened / earlier)) < abs(np.log(opened / before[k])):
            before[k] = earlier
    return before


def _stays_near_open(values: Array, row: int, before: float) -> bool:
    """Return whether the closes after a bar stay nearer to its open than to the previous close.

    row: index of the bar.
    before: previous close.
    """
    closes = values[row + 1 : row + 1 + CONFIRMATION_WINDOW_BARS, CLOSE]
    if not len(closes):
        return False
    later = np.median(closes)
    return bool(abs(np.log(later / values[row, OPEN])) < abs(np.log(later / before)))


def count_verifiable_splits(bars: Bars, actions: Sequence[CorporateAction]) -> int:
    """Count the listed splits whose effect would be visible in prices without adjustment."""
    count = 0
    for action in actions:
        if action.symbol in bars.symbols and abs(np.log(action.split_ratio)) > OPEN_LOG_TOL:
            times = bars.times[bars.has_bar[bars.symbols.index(action.symbol)]]
            count += bool(len(times) and times[0] <= action.effective_open < times[-1])
    return count


def refuse_jumps(jumps: Sequence[DataWarning], *, accepted: bool) -> None:
    """Raise `DataError` for the first jump, unless the user accepts jumps."""
    if jumps and not accepted:
        one = jumps[0]
        more = f" (and {len(jumps) - 1} more)" if len(jumps) > 1 else ""
        raise DataError(
            f"{one.symbol}, {format_utc(one.bar_start)}: {one.observation}{more}; {one.remedy}; if"
            " the move is real, set data.accept_jumps=true"
        )


def find_actions_not_in_prices(
    bars: Bars, actions: Sequence[CorporateAction], *, raw: bool
) -> list[DataWarning]:
    """Find listed actions that the prices contradict; return a data warning for each.

    Raw prices must show dividends and splits, adjusted prices must show dividends alone. An effect
    on the price below `OPEN_LOG_TOL` is indistinguishable from a night's news and is not checked.
    Special dividends of a quarter of the price or more are often listed under a wrong date: the
    exchange sets the ex-date to the day after payment (FINRA rule 11140(b)(2)).

    actions: corporate actions of a file, in time order.
    raw: whether the prices are not adjusted for splits.
    """
    places = {symbol: s for s, symbol in enumerate(bars.symbols)}

    @cache
    def starts_and_values(s: int) -> tuple[Instants, Array]:
        times, values = bars.bars_of_symbol(s)
        return bars.clock(bars.instruments[s].kind).starts_by_end(times), values

    found: list[DataWarning] = []
    for (symbol, opens), each in groupby(actions, key=attrgetter("symbol", "effective_open")):
        if symbol not in places:
            continue
        starts, values = starts_and_values(places[symbol])
        row = int(np.searchsorted(starts, opens))
        if 0 < row < len(starts):
            listed = _combine_actions(list(each))
            found += _contradicted_action_warnings(
                listed, np.datetime64(starts[row]), values[row - 1 : row + 1], raw
            )
    return found


def find_symbol_jumps(
    symbol: str, starts: Instants, values: Array, known: Sequence[np.datetime64] = ()
) -> list[DataWarning]:
    """Find a stock's lasting jumps that resemble a split.

    starts: [B] start of each bar.
    values: [B, 5] prices of the bars; opens and closes are read.
    known: session opens of listed splits, which explain a jump.
    """
    closes = values[:, CLOSE]
    found: list[DataWarning] = []
    back = 0
    for k in np.flatnonzero(np.abs(closes[1:] / closes[:-1] - 1) > MIN_SPLIT_MOVE).tolist():
        if k < back or any(starts[k] < opens <= starts[k + 1] for opens in known):
            continue
        place = _find_reversal(closes, k)
        if place is not None:
            back = place
        # A move beyond the largest ratio is an error of the prices.
        elif (ratio := _resembled_split_ratio(values, k)) or (
            abs(np.log(closes[k + 1] / closes[k])) > _SPLIT_RATIO_LOGS.max()
        ):
            at = np.datetime64(starts[k + 1])
            found.append(
                _split_like_warning(symbol, at, ratio, float(closes[k]), float(closes[k + 1]))
            )
    return found


def _combine_actions(actions: Sequence[CorporateAction]) -> CorporateAction:
    """Return all dividends and splits of one symbol and session as one action."""
    ratio = math.prod(action.split_ratio for action in actions)
    return replace(
        actions[0], split_ratio=ratio, dividend=sum(action.dividend for action in actions)
    )


def _contradicted_action_warnings(
    listed: CorporateAction, at: np.datetime64, around: Array, raw: bool
) -> Iterator[DataWarning]:
    """Yield a data warning about a session's actions if the prices contradict them.

    listed: the session's dividends and splits as one action.
    at: start of the session's first bar.
    around: [2, 5] the last bar before the session, and its first bar.
    raw: whether the prices are not adjusted for splits.
    """
    before = float(around[0, CLOSE])
    after = float(around[1, CLOSE])
    unsplit = max(before - listed.dividend, 0.0)
    expected = unsplit / listed.split_ratio if raw else unsplit
    with np.errstate(divide="ignore"):
        size = abs(np.log(expected / before))
        # The nearer price counts: by then news has moved the other price, or it is wrong.
        apart = np.abs(np.log(around[1, [OPEN, CLOSE]] / expected))
        from_split = np.abs(np.log(around[1, [OPEN, CLOSE]] * listed.split_ratio / unsplit))
    if not raw and listed.split_ratio != 1.0 and apart.min() > OPEN_LOG_TOL >= from_split.max():
        ratio = Fraction(listed.split_ratio).limit_denominator(1000)
        yield _split_like_warning(listed.symbol, at, ratio, before, after)
    elif size > OPEN_LOG_TOL and apart.min() > OPEN_LOG_TOL:
        yield _missing_action_warning(
            listed if raw else replace(listed, split_ratio=1.0), at, before, after
        )


def _resembled_split_ratio(values: Array, k: int) -> Fraction | None:
    """Return the split ratio that the jump from bar k to the next bar resembles, or None."""
    change = np.log(values[k + 1, CLOSE] / values[k, CLOSE])
    gap = np.log(values[k + 1, OPEN] / values[k, CLOSE])
    # A price falls as shares become more.
    nearest = int(np.abs(_SPLIT_RATIO_LOGS + change).argmin())
    alike = (
        abs(_SPLIT_RATIO_LOGS[nearest] + change) <= SPLIT_LOG_TOL
        and abs(_SPLIT_RATIO_LOGS[nearest] + gap) <= OPEN_LOG_TOL
    )
    return SPLIT_RATIOS[nearest] if alike else None


def _find_reversal(closes: Array, k: int) -> int | None:
    """Return the index of the bar, soon after a jump, at which prices have returned; else None.

    k: index of the bar before the jump.
    """
    later = closes[k + 2 : k + 2 + CONFIRMATION_WINDOW_BARS]
    alike = np.flatnonzero(np.abs(np.log(later / closes[k])) <= OPEN_LOG_TOL)
    if not len(alike):
        return None
    place = k + 2 + int(alike[0])
    # A wrong row soon after a split shows the price before it once more.
    stays = (
        abs(np.median(closes[place : place + CONFIRMATION_WINDOW_BARS]) / closes[k] - 1)
        <= MIN_SPLIT_MOVE
    )
    return place if stays else None
