"""Identity of a trial: a digest of its settings, and a digest of its bars.

Settings that do not affect results are excluded. Files and plugin code are hashed by content, a
strategy by its name and Kelly fraction. Any other difference in how a setting is written makes a
separate trial.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from foundation.files import file_digest
from foundation.plugin import is_plugin, plugin_digest
from marketsimulator.results.trials import Trial
from marketsimulator.settings import BacktestSettings
from sizing.allocation import Strategy
from sizing.strategies import KellyStrategy, LegacyStrategy, WeightRuleStrategy
from trainingdata.bars import Bars
from trainingdata.instants import format_utc
from trainingdata.market import Market
from trainingdata.stored_correlation import matrix_paths

# Settings that do not distinguish trials: bars (which have a digest), seed, output, order names.
NON_TRIAL_SETTINGS = (
    *("output", "start", "end", "days", "timeframe", "fill", "trials", "seed"),
    *("order_tag", "benchmark"),
)
COMPUTE_SETTINGS = ("batch_size", "cache", "device", "compile")  # device and speed of a forecast
STRATEGY_SETTINGS = (  # inputs of the strategies, which state the result
    *("strategy", "fraction", "drawdown", "enhanced", "risk_multiplier", "fallback", "band"),
)


def config_hash(variant: Mapping[str, Any]) -> str:
    """Return the digest of a variant's settings; 1 and 1.0 have the same digest."""
    text = json.dumps(_integers_to_floats(variant), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def make_trial(
    settings: BacktestSettings, market: Market, data_digest: str, forecaster: str, **figures: Any
) -> Trial:
    """Build the ledger entry of a backtest.

    data_digest: `data_hash` of the market.
    forecaster: name of the forecaster.
    figures: performance fields of `Trial`: days, daily_sharpe, total_return.
    """
    bars = market.run_bars
    return Trial(
        config_hash=config_hash(variant_settings(settings, bars)),
        data_hash=data_digest,
        source=bars.source,
        symbols=bars.symbols,
        first=format_utc(bars.times[0]),
        last=format_utc(bars.last_instant),
        forecaster=forecaster,
        **figures,
    )


def variant_settings(settings: BacktestSettings, bars: Bars) -> dict[str, Any]:
    """Return the settings of a backtest that distinguish variants over these bars.

    Settings of the data source that only affect the bars are left out, as `data_hash` covers the
    bars.
    """
    parts = _omit_keys(asdict(settings), NON_TRIAL_SETTINGS)
    sizing, universe = settings.sizing, settings.universe
    data, forecaster = settings.data, settings.forecaster
    matrix = settings.correlation.file
    return {
        **parts,
        "symbols": sorted(bars.symbols),
        "data": {
            **{
                name: parts["data"][name]
                for name in ("adjustment", "delisted_after", "delisting_loss")
            },
            "actions": _file_identity(data.actions),
        },
        "universe": {
            **parts["universe"],
            "members": _file_identity(universe.members),
            "rank": _code_identity(universe.rank),
        },
        "sizing": {
            **_omit_keys(parts["sizing"], STRATEGY_SETTINGS),
            "holding": sizing.holding_interval(),
            "strategies": [_strategy_identity(each) for each in sizing.build_strategies()],
        },
        "limits": {**parts["limits"], "groups_file": _file_identity(settings.limits.groups_file)},
        "forecaster": {
            **_omit_keys(parts["forecaster"], COMPUTE_SETTINGS),
            "kind": _code_identity(forecaster.kind),
            "path": _file_identity(forecaster.path),
        },
        "correlation": {
            **parts["correlation"],
            "kind": _code_identity(settings.correlation.kind),
            "file": matrix
            and [_file_identity(str(p)) for p in matrix_paths(Path(matrix).expanduser())],
        },
    }


def data_hash(market: Market) -> str:
    """Return the digest of a run's bars, which does not depend on the order of the symbols."""
    digest = hashlib.sha256()
    for part in (market.run_bars, *([] if market.finer_bars is None else [market.finer_bars])):
        order = sorted(range(len(part.symbols)), key=lambda s: part.symbols[s])
        digest.update(json.dumps([part.symbols[s] for s in order]).encode())
        digest.update(np.ascontiguousarray(part.times).tobytes())
        # Values without a bar are meaningless.
        values = np.where(part.mask[:, :, None], part.values, 0.0)
        digest.update(np.ascontiguousarray(values[order]).tobytes())
    return digest.hexdigest()


def _omit_keys(values: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _strategy_identity(strategy: Strategy) -> list[Any]:
    """Return values that identify a strategy; those of `kelly_50` are Kelly and 0.5."""
    if isinstance(strategy, (KellyStrategy, LegacyStrategy)):
        return [type(strategy).__name__, asdict(strategy)]
    assert isinstance(strategy, WeightRuleStrategy)
    return [_code_identity(strategy.name), strategy.rebalance_band]


def _code_identity(name: str | None) -> str | list[str] | None:
    """Return values that identify a class by its code.

    They are a built-in name unchanged, or the last part of a plugin's name and the digest of its
    code.
    """
    if name is None or not is_plugin(name):
        return name
    return [name.rpartition(".")[2], plugin_digest(name)]


def _file_identity(path: str | None) -> str | None:
    """Return the digest of a file, or its path if the file cannot be read."""
    if path is None:
        return None
    try:
        return file_digest(Path(path).expanduser())
    except OSError:
        return path


def _integers_to_floats(value: Any) -> Any:
    """Convert all integers in a nested value to floats, so that 1 and 1.0 have the same digest."""
    if isinstance(value, Mapping):
        return {str(key): _integers_to_floats(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_integers_to_floats(each) for each in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
