"""Event contracts: sized actions, live trading, simulated sessions, training and comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foundation import lazy_exports
from foundation.cli import Command

if TYPE_CHECKING:
    from event_contracts.simulation.exchange import SimulatedOrderManager as SimulatedOrderManager
    from event_contracts.simulation.recorded import RecordedMarket as RecordedMarket
    from event_contracts.simulation.recorded import recorded_markets as recorded_markets
    from event_contracts.simulation.recorded import recorded_sessions as recorded_sessions
    from event_contracts.simulation.sessions import session_outcome as session_outcome
    from event_contracts.simulation.sessions import validate_session as validate_session
    from event_contracts.simulation.settings import SyntheticSessionModel as SyntheticSessionModel
    from event_contracts.simulation.synthetic import synthetic_session as synthetic_session
    from event_contracts.simulation.synthetic import synthetic_sessions as synthetic_sessions
    from event_contracts.simulation.vector import MarketAgnosticKalshiEnv as MarketAgnosticKalshiEnv
    from event_contracts.trading.actions import PositionLimits as PositionLimits

COMMANDS = {
    "trade_kalshi": Command(
        "event_contracts.trade",
        config="trade_kalshi",
        interruption_text="positions stay open and resting orders expire; start again to resume",
        log_name="trade_kalshi",
        is_private=True,
    ),
    "kalshi_train": Command(
        "event_contracts.train",
        config="kalshi_train",
        marker_file="updates.jsonl",
        interruption_text="the last checkpoint is kept; continue from it with resume=…",
        log_name="kalshi_train",
        takes_hydra_flags=True,
        extra_by_library={"gymnasium": "rl"},
    ),
    "kalshi_compare": Command(
        "event_contracts.compare",
        config="kalshi_compare",
        marker_file="comparison.json",
        marker_keys=("runs", "answers"),
        log_name="kalshi_compare",
        takes_hydra_flags=True,
        is_private=True,
        extra_by_library={"gymnasium": "rl"},
    ),
}
SETTINGS = {
    "trade_kalshi": "event_contracts.settings:KalshiTradingSettings",
    "kalshi_train": "event_contracts.settings:TrainingSettings",
    "kalshi_compare": "event_contracts.settings:ComparisonSettings",
}

__getattr__, __dir__, __all__ = lazy_exports(__name__)
