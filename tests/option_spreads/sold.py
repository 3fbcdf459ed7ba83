"""What one account sells of several strategies, as the backtest reckons it."""

from __future__ import annotations

from collections.abc import Sequence

from option_spreads.autoscaler.rules import AutoscalingSettings
from option_spreads.selling.rules import SpreadCosts, SpreadRules
from option_spreads.simulation.path import IndexDays
from option_spreads.simulation.pricing import Smile
from option_spreads.simulation.selling import SpreadTrade, offered_spreads, spread_account


def sold(
    days: IndexDays,
    rules: Sequence[SpreadRules],
    costs: SpreadCosts,
    smile: Smile,
    sizing: AutoscalingSettings,
) -> list[SpreadTrade]:
    """The trades, in the order in which they closed."""
    return list(spread_account(offered_spreads(days, rules, costs, smile), sizing).trades)
