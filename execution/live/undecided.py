"""Which symbols a pass did not decide, and why; and what of a history is not there."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from execution.live.cycle import OLDEST_BAR, Cycle
from foundation.counts import counted
from trainingdata.bars import Bars
from trainingdata.instants import DAY, utc_text
from trainingdata.instruments import Kind, instrument
from trainingdata.sessions import holding_end, is_decision, last_known, started_at

LATE = 5 * DAY  # after what was asked; a history may begin on a long weekend


def undecided(cycle: Cycle, symbols: Iterable[str], context: int) -> dict[str, str]:
    """The reason by symbol, of those of some symbols that are no choice of a pass.

    context: own bars that a forecast sees; 0 where nobody says it.
    """
    choices = () if cycle.decision is None else cycle.decision.choices
    chosen = {choice.symbol for choice in choices}
    return {symbol: _why(cycle, symbol, context) for symbol in symbols if symbol not in chosen}


def _why(cycle: Cycle, symbol: str, context: int) -> str:
    bars, account = cycle.bars, cycle.account
    if symbol in cycle.doubted:
        return cycle.doubted[symbol]
    if symbol in account.undetermined:
        return "what is held and open of it is not certain"
    if symbol not in bars.symbols:
        return "there is no bar of it"
    s = bars.symbols.index(symbol)
    times, _ = bars.real_bars(s)
    if not len(times):
        return "there is no bar of it"
    kind = instrument(symbol).kind
    if kind is Kind.CRYPTO and not account.coins:
        return "the account takes no orders for coins"
    if not bars.instruments[s].tradable:
        return "the venue takes no orders for it"
    expected = last_known(kind, account.as_of)
    if times[-1] < expected:
        return f"its last bar is of {utc_text(times[-1])}, and that of {utc_text(expected)} is late"
    now = account.as_of
    if now - bars.now >= OLDEST_BAR or not is_decision(kind, np.array([bars.now]))[0]:
        return f"its market decides again at {utc_text(holding_end(kind, now))}"
    if len(times) < context:
        return (
            f"{counted(len(times), 'bar')} of it, fewer than the {context} that a forecast sees"
            " (forecaster.context_length)"
        )
    return "there is no forecast of its last bar, or one that says no deviation"


def history_lines(bars: Bars, asked: np.datetime64, context: int) -> list[str]:
    """Which symbols' bars begin later than asked, and which are fewer than a forecast sees.

    asked: instant from which on bars were asked for.
    context: own bars that a forecast sees.
    """
    firsts: dict[np.datetime64, list[str]] = {}
    lines = []
    for number, symbol in enumerate(bars.symbols):
        times, _ = bars.real_bars(number)
        if not len(times):
            lines.append(f"{symbol} has no bars: nothing is forecast of it.")
            continue
        first = started_at(instrument(symbol).kind, times[:1])[0]
        if first - asked > LATE:
            firsts.setdefault(first, []).append(symbol)
        if len(times) < context:
            lines.append(
                f"{symbol} has {counted(len(times), 'bar')}, fewer than the {context} that a"
                " forecast sees (forecaster.context_length): nothing is forecast of it before they"
                " are there."
            )
    for first, symbols in sorted(firsts.items()):
        names = ", ".join(symbols)
        lines.append(
            f"The bars of {names} begin at {utc_text(first)}, later than history_days asks for"
            f" ({utc_text(asked)})."
        )
    return lines
