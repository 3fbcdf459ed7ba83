"""What one account sells of several strategies, as the backtest reckons it; files of trades."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from foundation.console import Terminal
from option_spreads.autoscaler.rules import AutoscalingSettings
from option_spreads.autoscaler.trades import TRADE_COLUMNS
from option_spreads.selling.rules import SpreadCosts, SpreadRules
from option_spreads.simulation.path import IndexPaths
from option_spreads.simulation.pricing import Smile
from option_spreads.simulation.selling import (
    SpreadTrade,
    list_candidate_trades,
    simulate_spread_account,
)

HEADER = ",".join(TRADE_COLUMNS)


def file_of(path: Path, *rows: str) -> Path:
    """A file of trades, at a path or in a folder."""
    path = path / "trades.csv" if path.is_dir() else path
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def printed(parts: Iterable[Any]) -> str:
    """What a command prints of its tables and sentences."""
    stream = io.StringIO()
    terminal = Terminal(120, file=stream, color_system=None, highlight=False)
    for part in parts:
        terminal.print(part, soft_wrap=isinstance(part, str))
    return stream.getvalue()


def sold(
    days: IndexPaths,
    rules: Sequence[SpreadRules],
    costs: SpreadCosts,
    smile: Smile,
    sizing: AutoscalingSettings,
) -> list[SpreadTrade]:
    """The trades, in the order in which they closed."""
    return list(
        simulate_spread_account(list_candidate_trades(days, rules, costs, smile), sizing).trades
    )
