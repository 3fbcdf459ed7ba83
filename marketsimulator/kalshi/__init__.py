"""Markets of event contracts: the sessions that are played over, synthetic and recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foundation.lazy import public

if TYPE_CHECKING:
    from marketsimulator.kalshi.env import MarketAgnosticKalshiEnv as MarketAgnosticKalshiEnv
    from marketsimulator.kalshi.manager import SimulatedOrderManager as SimulatedOrderManager
    from marketsimulator.kalshi.recorded import RecordedMarket as RecordedMarket
    from marketsimulator.kalshi.recorded import recorded_markets as recorded_markets
    from marketsimulator.kalshi.recorded import recorded_sessions as recorded_sessions
    from marketsimulator.kalshi.sessions import COLUMNS as COLUMNS
    from marketsimulator.kalshi.sessions import checked_session as checked_session
    from marketsimulator.kalshi.sessions import outcome_of as outcome_of
    from marketsimulator.kalshi.synthetic import SyntheticMarket as SyntheticMarket
    from marketsimulator.kalshi.synthetic import synthetic_session as synthetic_session
    from marketsimulator.kalshi.synthetic import synthetic_sessions as synthetic_sessions

__getattr__, __dir__, __all__ = public(
    __name__,
    {
        "COLUMNS": "sessions",
        "MarketAgnosticKalshiEnv": "env",
        "RecordedMarket": "recorded",
        "SimulatedOrderManager": "manager",
        "SyntheticMarket": "synthetic",
        "checked_session": "sessions",
        "outcome_of": "sessions",
        "recorded_markets": "recorded",
        "recorded_sessions": "recorded",
        "synthetic_session": "synthetic",
        "synthetic_sessions": "synthetic",
    },
)
