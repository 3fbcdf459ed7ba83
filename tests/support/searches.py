"""Small searches over the synthetic market."""

from __future__ import annotations

from typing import Any

from forecasting.forecast import no_progress
from foundation.compose import compose_config
from marketsimulator.results.search.walk import SearchResult, run_search
from marketsimulator.search import SearchSettings

MARKET = (
    *("symbols=[SYA,SYB]", "timeframe=1d", "data.start=2023-07-03", "data.end=2024-03-28"),
    *("start=2023-10-02", "forecaster=ewma", "forecaster.calibrated=false", "ledger=null"),
)
SPACE = "space={sizing.fraction: [0.1, 1.0], limits.symbol_cap: [0.1, 1.2]}"
SMALL = (*MARKET, SPACE, "spans=3", "trials=14")


def search_of(*words: str) -> SearchSettings:
    return SearchSettings.from_config(compose_config("search", list(words)))


def searched(*words: str) -> SearchResult:
    settings = search_of(*(words or SMALL))
    return run_search(settings.backtest_settings, settings.plan, no_progress)


def search_content(found: SearchResult) -> list[Any]:
    """The choices, with their daily returns and those of the default settings."""
    return [
        [
            each.params,
            each.objective_value,
            _listed(each.test_returns),
            _listed(each.default_test_returns),
        ]
        for each in found.choices
    ] + [found.trial_count, found.overfitting]


def _listed(returns: Any) -> Any:
    return None if returns is None else returns.tolist()
