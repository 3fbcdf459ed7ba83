"""Market simulator: simulated broker, backtests, weight replays, audits, stress tests, reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foundation import lazy_exports
from foundation.cli import Command

if TYPE_CHECKING:
    from marketsimulator.account.broker import SimulatedBroker as SimulatedBroker
    from marketsimulator.backtest import run_backtest as run_backtest
    from marketsimulator.results.summary import BacktestResults as BacktestResults
    from marketsimulator.results.track_record import TrackRecord as TrackRecord
    from marketsimulator.settings import BacktestSettings as BacktestSettings
    from marketsimulator.weight_replay import ReplayResult as ReplayResult
    from marketsimulator.weight_replay import replay as replay

FLAGS = {
    "symbols": "--symbols",
    "start": "--start",
    "end": "--end",
    "capital": "--capital",
    "data.dir": "--data-dir",
}
COMMANDS = {
    "backtest": Command(
        "marketsimulator.backtest",
        config="backtest",
        marker_file="summary.json",
        marker_keys=("total_return", "comparisons"),
        log_name="backtest",
        takes_hydra_flags=True,
    ),
    "backtest_kelly_chronos2": Command(
        "marketsimulator.backtest_kelly_chronos2",
        config="backtest",
        marker_file="summary.json",
        marker_keys=("total_return", "comparisons"),
        log_name="backtest",
        override_parser_path="marketsimulator.original_flags:overrides_from_flags",
        flag_by_setting={**FLAGS, "days": "--days", "output": "--output"},
        is_listed=False,
    ),
    "compare": Command(
        "marketsimulator.compare",
        config="compare",
        marker_file="comparison.json",
        marker_keys=("verdict", "runs"),
        log_name="compare",
        override_parser_path="marketsimulator.run_arguments:overrides_from_arguments",
        takes_hydra_flags=True,
        json_argument="",
    ),
    "search": Command(
        "marketsimulator.search",
        config="search",
        marker_file="search.json",
        marker_keys=("found", "failed_criteria"),
        log_name="search",
        extra_by_library={"optuna": "search"},
    ),
    "tearsheet": Command(
        "marketsimulator.tearsheet",
        config="tearsheet",
        marker_file="tearsheet.json",
        marker_keys=("verdict", "sharpe"),
        override_parser_path="marketsimulator.run_arguments:overrides_from_returns_file",
    ),
    "prove": Command(
        "marketsimulator.prove",
        config="prove",
        marker_file="proof.json",
        marker_keys=("sentence", "forecasts"),
        log_name="prove",
        override_parser_path="marketsimulator.run_arguments:overrides_from_forecasts",
        json_argument="",
    ),
    "audit": Command(
        "marketsimulator.audit",
        config="backtest",
        interruption_text="the audit was interrupted before it finished",
        log_name="audit",
    ),
    "drift": Command("marketsimulator.drift", config="drift", log_name="drift", is_private=True),
    "stress": Command(
        "marketsimulator.stress", config="stress", log_name="stress", is_private=True
    ),
    "explain": Command("marketsimulator.explain", json_argument=""),
    "init": Command("marketsimulator.init", log_name="init", is_private=True),
    "list": Command("marketsimulator.catalogue"),
}
SETTINGS = {
    "backtest": "marketsimulator.settings:BacktestSettings",
    "compare": "marketsimulator.compare:ComparisonOptions",
    "drift": "marketsimulator.drift:DriftOptions",
    "prove": "marketsimulator.results.proof:ProofSettings",
    "search": "marketsimulator.results.search.options:SearchOptions",
    "tearsheet": "marketsimulator.tearsheet:TearsheetSettings",
    "stress": "marketsimulator.stress:StressSettings",
}
MODES = {"replay": "marketsimulator.live_replay:run_replay"}

__getattr__, __dir__, __all__ = lazy_exports(__name__)
