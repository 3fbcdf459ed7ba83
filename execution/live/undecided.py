"""Reasons why a cycle made no decision on a symbol that it could have traded."""

from __future__ import annotations

import numpy as np

from execution.live.cycle import Cycle, decision_deadline
from execution.live.settings import LiveSettings
from foundation.errors import format_suggestion
from trainingdata.bars import Bars
from trainingdata.instants import format_utc
from trainingdata.instruments import AssetClass, closest_symbols, instrument
from trainingdata.universe import EXCLUSION_RULES


def undecided_reasons(cycle: Cycle, settings: LiveSettings) -> dict[str, str]:
    """Return the reason for each symbol on which a cycle made no decision, by symbol.

    Covers the configured symbols and all symbols with bars. The result is empty for a blocked
    account, because the cycle itself reports the block.
    """
    if cycle.account.block_reason:
        return {}
    choices = () if cycle.decision is None else cycle.decision.choices
    bars = cycle.bars
    asked = settings.tradable_symbols | set(bars.symbols)
    rules = (
        settings.universe.build_universe().exclusion_rule_codes(bars, bars.times[-1:])[0].tolist()
    )
    left_out = {symbol: rule for symbol, rule in zip(bars.symbols, rules, strict=True) if rule}
    reasons = {}
    for symbol in sorted(asked - {choice.symbol for choice in choices}):
        if symbol in left_out:
            reasons[symbol] = (
                f"the symbol is not in the universe (universe.{EXCLUSION_RULES[left_out[symbol]]})"
            )
        else:
            besides = ", or it is not in universe.keep" if settings.universe.ranks_by_growth else ""
            reasons[symbol] = _undecided_reason(cycle, symbol, settings) + besides
    return reasons


def _undecided_reason(cycle: Cycle, symbol: str, settings: LiveSettings) -> str:
    """Return the reason why a cycle made no decision on a symbol of the universe."""
    bars, account = cycle.bars, cycle.account
    if symbol in cycle.rejected_bars:
        return cycle.rejected_bars[symbol]
    if symbol in account.uncertain_symbols:
        return "position or open orders are uncertain until they are reconciled"
    if symbol in account.cooling_symbols:
        return "its stop has filled; it is not opened again yet (protect.cooldown)"
    if short := short_history_reason(bars, symbol, settings):
        return short
    s = bars.symbols.index(symbol)
    kind = instrument(symbol).kind
    if (kind is AssetClass.CRYPTO and not account.is_crypto_enabled) or not bars.instruments[
        s
    ].is_tradable:
        return "the venue accepts no orders for it"
    now, last = account.as_of, bars.bars_of_symbol(s)[0][-1]
    expected = bars.timeframe.last_bar_end(kind, now)
    if last < expected:
        return f"the bar of {format_utc(expected)} is late; the latest is of {format_utc(last)}"
    clock, schedule = bars.timeframe.clock(kind), settings.decision_schedule
    if (
        now >= decision_deadline(bars, bars.last_instant)
        or not schedule.is_scheduled(clock, np.array([bars.last_instant]))[0]
    ):
        return f"the next decision is due at {format_utc(schedule.holding_end(clock, now))}"
    return "the latest bar has no forecast with a standard deviation above 0"


def short_history_reason(bars: Bars, symbol: str, settings: LiveSettings) -> str:
    """Return why a symbol has too few bars for a forecast, or an empty string."""
    least = settings.forecaster.context_bars
    count = len(bars.bars_of_symbol(bars.symbols.index(symbol))[0]) if symbol in bars.symbols else 0
    if not count:
        return f"it has no bars{format_suggestion(closest_symbols(symbol, bars.symbols))}"
    if count >= least:
        return ""
    return f"it has {count} bars but a forecast needs {least} (forecaster.context_length)"
