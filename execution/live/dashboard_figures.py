"""The dashboard's figures: how the loop is, what was earned, and curves as paths of an SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from execution.live.cycle import next_instant
from execution.live.dashboard_reading import ChoiceRow, CycleRow, History
from execution.live.dashboard_words import both_clocks
from execution.live.losses import Mark, drawdown
from foundation.arrays import Array, Instants
from foundation.charts import WIDTH
from trainingdata.instants import new_york_date
from trainingdata.instruments import instrument, is_symbol

GRACE = np.timedelta64(5, "m")  # in which a pass begins that is due: bars are waited for
LONGEST_PASS = np.timedelta64(15, "m")
LONGEST_PAUSE = np.timedelta64(4, "D")
CENT = 0.01  # USD

LoopWord = Literal["running", "down", "stopped", "not begun"]


@dataclass(frozen=True, slots=True)
class LoopState:
    """Whether the loop runs, as far as its journal says.

    word: in one.
    sentence: what that rests on.
    next_at: the next instant at which something can be decided; none where no symbol was.
    """

    word: LoopWord
    sentence: str
    next_at: np.datetime64 | None = None


@dataclass(frozen=True, slots=True)
class Profit:
    """What was earned between two marks; what was paid in or taken out is no part of it.

    amount: USD.
    share: linked return, a fraction; NaN where the account was worth nothing meanwhile.
    flows: USD that were paid in less taken out.
    """

    amount: float
    share: float
    flows: float


def loop_state(
    now: np.datetime64,
    last: CycleRow | None,
    stop: tuple[np.datetime64, str] | None,
    symbols: Sequence[str],
    interval: np.timedelta64 | None = None,
) -> LoopState:
    """How the loop is.

    now: the clock of the page.
    last: the last pass.
    stop: when the loop was last told to stop, and why.
    symbols: that were decided last.
    interval: between two passes, where they are made at equal steps; none decides by bars.
    """
    next_at = next_instant(now, symbols) if symbols else None
    if last is None:
        return LoopState("not begun", "No pass has been made yet.", next_at)
    begun = both_clocks(last.began_at)
    if stop is not None and stop[0] >= last.began_at:
        text = f"It was told to stop at {both_clocks(stop[0])}: {stop[1]}."
        return LoopState("stopped", text, next_at)
    if last.ended_at is None:
        if now - last.began_at > LONGEST_PASS:
            text = f"The pass of {begun} has not ended: the loop was killed, or it hangs."
            return LoopState("down", text, next_at)
        return LoopState("running", f"A pass is under way since {begun}.", next_at)
    if interval is not None:
        next_at = due = last.ended_at + interval
    elif symbols:
        due = next_instant(last.ended_at, symbols)
    else:
        text = f"The last pass ended at {both_clocks(last.ended_at)}; nothing was decided so far."
        return LoopState("running", text)
    if now > due + GRACE:
        text = f"The pass of {both_clocks(due)} has not been made; the last one was at {begun}."
        return LoopState("down", text, next_at)
    return LoopState("running", f"The last pass was at {begun}.", next_at)


def deciding_symbols(choices: Sequence[ChoiceRow]) -> tuple[str, ...]:
    """Symbols that the loop decides, by what it has decided lately.

    A symbol that is traded no more is one of them for four days: so long is the longest pause of
    stocks in which coins go on.

    choices: of each symbol the last one, the last decision first.
    """
    names = []
    for choice in choices:
        name = str(choice.entry["symbol"])
        if choice.at >= choices[0].at - LONGEST_PAUSE and is_symbol(name):
            names.append(instrument(name).symbol)
    return tuple(names)


def profit_since(history: History, first: int) -> Profit:
    """What was earned from mark number `first` to the last one."""
    equity = history.equity[first:]
    flows = history.flows[first + 1 :]
    amount = float(equity[-1] - equity[0] - flows.sum())
    share = math.nan
    if np.all(equity >= CENT):
        share = float(np.prod((equity[1:] - flows) / equity[:-1]) - 1.0)
    return Profit(amount, share, float(flows.sum()))


def begin_of_day(history: History) -> int:
    """Number of the mark that the last mark's New York day is counted from.

    It is the last one before that day, or the day's first where there is none before.
    """
    dates = new_york_date(history.at)
    return max(int(np.searchsorted(dates, dates[-1])) - 1, 0)


def drawdown_of(history: History) -> float:
    """Share lost since the peak by linked returns, 0 … 1; what `losses.drawdown` says, sooner."""
    equity = history.equity
    before_flows = equity[1:] - history.flows[1:]
    if np.all(equity >= CENT) and np.all(before_flows >= CENT):
        index = np.append(1.0, np.cumprod(before_flows / equity[:-1]))
        return float(1.0 - index[-1] / index.max())
    columns = (history.at, equity.tolist(), history.flows.tolist())
    return float(drawdown([Mark(*row) for row in zip(*columns, strict=True)]))


def invested(history: History) -> Array:
    """[T] the first equity with everything that was paid in or taken out since; USD."""
    flows = history.flows.copy()
    flows[0] = history.equity[0]
    return np.asarray(np.cumsum(flows))


def places_of(at: Instants) -> Array:
    """[T] distance of instants from the left of a plot that they fill, in its units."""
    span = (at[-1] - at[0]) / np.timedelta64(1, "s")
    return np.asarray(WIDTH * ((at - at[0]) / np.timedelta64(1, "s")) / max(span, 1.0))


def shares_of_equity(values: Array, equity: Array) -> Array:
    """[T] values in multiples of equity; NaN where there is none."""
    worth = np.where(equity > 0, equity, np.nan)
    return np.asarray(values / worth)
