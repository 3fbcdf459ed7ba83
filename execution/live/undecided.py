"""Why symbols that an account may trade are not decided by a cycle."""

from __future__ import annotations

import numpy as np

from execution.live.cycle import Cycle, decision_end
from execution.live.settings import LiveSettings
from trainingdata.bars import Bars
from trainingdata.instants import utc_text
from trainingdata.instruments import Kind, instrument
from trainingdata.universe import RULES


def undecided(cycle: Cycle, settings: LiveSettings) -> dict[str, str]:
    """Why a cycle did not decide symbols that were asked for or have bars, by symbol.

    Nothing is said of a blocked account, of which the cycle says that.
    """
    if cycle.account.blocked:
        return {}
    choices = () if cycle.decision is None else cycle.decision.choices
    bars = cycle.bars
    asked = settings.tradable_symbols | set(bars.symbols)
    rules = settings.universe.rule().left_out(bars, bars.times[-1:])[0].tolist()
    left_out = {symbol: rule for symbol, rule in zip(bars.symbols, rules, strict=True) if rule}
    whys = {}
    for symbol in sorted(asked - {choice.symbol for choice in choices}):
        if symbol in left_out:
            whys[symbol] = f"it is not in the universe (universe.{RULES[left_out[symbol]]})"
        else:
            besides = " or it is none of universe.keep" if settings.universe.by_growth else ""
            whys[symbol] = _why_undecided(cycle, symbol, settings) + besides
    return whys


def _why_undecided(cycle: Cycle, symbol: str, settings: LiveSettings) -> str:
    """Why a symbol is no choice of a cycle."""
    bars, account = cycle.bars, cycle.account
    if symbol in cycle.doubted:
        return cycle.doubted[symbol]
    if symbol in account.undetermined:
        return "what is held and open of it is not certain"
    if short := short_history(bars, symbol, settings):
        return short
    s = bars.symbols.index(symbol)
    kind = instrument(symbol).kind
    if (kind is Kind.CRYPTO and not account.coins) or not bars.instruments[s].tradable:
        return "the venue takes no orders for it"
    now, last = account.as_of, bars.real_bars(s)[0][-1]
    expected = bars.timeframe.last_known(kind, now)
    if last < expected:
        return f"its last bar is of {utc_text(last)}, and that of {utc_text(expected)} is late"
    clock, schedule = bars.timeframe.clock(kind), settings.decisions
    if now >= decision_end(bars, bars.now) or not schedule.decides(clock, np.array([bars.now]))[0]:
        return f"its market decides again at {utc_text(schedule.holding_end(clock, now))}"
    return "there is no forecast of its last bar, or one that says no deviation"


def short_history(bars: Bars, symbol: str, settings: LiveSettings) -> str:
    """Why a symbol's bars are too few to forecast from; empty where they are not."""
    least = settings.forecaster.own_bars
    count = len(bars.real_bars(bars.symbols.index(symbol))[0]) if symbol in bars.symbols else 0
    if not count:
        return "there is no bar of it"
    if count >= least:
        return ""
    return f"a forecast sees {least} bars (forecaster.context_length), and it has {count}"
