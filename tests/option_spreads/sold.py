"""What one account sells of several strategies, as the backtest reckons it; files of trades."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from option_spreads.autoscaler.rules import AutoscalingSettings
from option_spreads.autoscaler.trades import COLUMNS
from option_spreads.selling.rules import SpreadCosts, SpreadRules
from option_spreads.simulation.path import IndexDays
from option_spreads.simulation.pricing import Smile
from option_spreads.simulation.selling import SpreadTrade, offered_spreads, spread_account

HEADER = ",".join(COLUMNS)


def file_of(path: Path, *rows: str) -> Path:
    """A file of trades, at a path or in a folder."""
    path = path / "trades.csv" if path.is_dir() else path
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def sold(
    days: IndexDays,
    rules: Sequence[SpreadRules],
    costs: SpreadCosts,
    smile: Smile,
    sizing: AutoscalingSettings,
) -> list[SpreadTrade]:
    """The trades, in the order in which they closed."""
    return list(spread_account(offered_spreads(days, rules, costs, smile), sizing).trades)
