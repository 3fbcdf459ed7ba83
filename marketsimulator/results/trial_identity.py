"""Which trial a run is: one digest of what was tried, one of the bars it was tried on.

Settings that change no figure of a result are left out, and what can be written in several ways is
brought to one: two runs that decide alike are one trial.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from execution.trader import SizingSettings
from forecasting.settings import ForecasterSettings
from foundation.files import file_digest
from foundation.plugin import is_own, own_digest
from marketsimulator.results.trials import Trial
from marketsimulator.settings import BacktestSettings
from sizing.allocation import Strategy
from sizing.limits import Limits
from sizing.strategies import Kelly, Legacy, WeightPattern
from trainingdata.bars import Bars
from trainingdata.endings import USUAL_LOSS, USUAL_SESSIONS
from trainingdata.instants import utc_text
from trainingdata.market import Market
from trainingdata.source import DataSettings
from trainingdata.stored_correlation import table_and_notes
from trainingdata.universe import UniverseSettings

# Of a run alone: its bars, its draws, where it goes and what orders are called.
NO_VARIANT = (
    *("output", "start", "end", "days", "timeframe", "fill", "trials", "placebo", "seed"),
    "strategy",
)
READ_BY_PATTERN = {"fixed_fraction": "position", "vol_target": "target_volatility"}
NETWORK = ("model", "augmentation", "dtype", "group")  # read by Chronos-2 alone
WITHOUT_CONTEXT = ("garch", "file")


def config_hash(variant: Mapping[str, Any]) -> str:
    """Digest of what makes a variant; 1 and 1.0 are the same."""
    text = json.dumps(_alike(variant), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def trial_of(
    settings: BacktestSettings, market: Market, digest: str, forecaster: str, **figures: Any
) -> Trial:
    """A backtest as the trial ledger keeps it.

    digest: `data_hash` of the market; figures: what `Trial` says of the account.
    """
    bars = market.period
    return Trial(
        config_hash=config_hash(variant_of(settings, bars)),
        data_hash=digest,
        source=bars.source,
        symbols=bars.symbols,
        first=utc_text(bars.times[0]),
        last=utc_text(bars.now),
        forecaster=forecaster,
        **figures,
    )


def variant_of(settings: BacktestSettings, bars: Bars) -> dict[str, Any]:
    """What of a backtest's settings makes a variant, over these bars.

    How bars are read shows in the bars, which have a digest of their own.
    """
    apart = (*NO_VARIANT, "universe")
    variant = {key: value for key, value in asdict(settings).items() if key not in apart}
    return {
        **variant,
        "symbols": sorted(bars.symbols),
        "data": _prices(settings.data),
        **_universe(settings.universe),
        "sizing": _sizing(settings.sizing),
        "limits": _limits(settings.limits),
        "forecaster": _forecaster(settings.forecaster),
        "correlation": {
            **variant["correlation"],
            "kind": _code(settings.correlation.kind),
            "file": _matrix(settings.correlation.file),
        },
    }


def data_hash(market: Market) -> str:
    """Digest of the bars of a run, in whatever order symbols are named."""
    digest = hashlib.sha256()
    for part in (market.period, *([] if market.finer is None else [market.finer])):
        order = sorted(range(len(part.symbols)), key=lambda s: part.symbols[s])
        digest.update(json.dumps([part.symbols[s] for s in order]).encode())
        digest.update(np.ascontiguousarray(part.times).tobytes())
        # What stands where there is no bar says nothing.
        values = np.where(part.mask[:, :, None], part.values, 0.0)
        digest.update(np.ascontiguousarray(values[order]).tobytes())
    return digest.hexdigest()


def _prices(data: DataSettings) -> dict[str, Any]:
    prices = {"adjustment": data.adjustment, "actions": _content(data.actions)}
    if (data.ended_after, data.ended_loss) == (USUAL_SESSIONS, USUAL_LOSS):
        return prices
    return {**prices, "ended": [data.ended_after, data.ended_loss]}


def _universe(universe: UniverseSettings) -> dict[str, Any]:
    """What may be held, by what is read; nothing where that is everything."""
    if universe.everything:
        return {}
    rank = None if universe.rank is None else _code(universe.rank)
    rule = {**asdict(universe), "members": _content(universe.members), "rank": rank}
    return {"universe": rule}


def _limits(limits: Limits) -> dict[str, Any]:
    """How much at most; what limits nothing is left out."""
    values = {key: value for key, value in asdict(limits).items() if value is not None}
    return values | ({} if limits.groups is None else {"groups": _content(limits.groups)})


def _sizing(sizing: SizingSettings) -> dict[str, Any]:
    """How much, by what each strategy reads: `kelly_50` is a fraction of 0.5 in other words."""
    holding = sizing.interval()
    return {
        "strategies": [_strategy(each, sizing) for each in sizing.strategies()],
        "volatility": sizing.volatility,
        "holding": holding,
        "signal_bars": sizing.signal_bars if holding == "plan" else None,
    }


def _strategy(strategy: Strategy, sizing: SizingSettings) -> list[Any]:
    if isinstance(strategy, (Kelly, Legacy)):
        return [type(strategy).__name__, asdict(strategy)]
    assert isinstance(strategy, WeightPattern)
    reads = READ_BY_PATTERN.get(strategy.name)
    return [_code(strategy.name), strategy.band, getattr(sizing, reads) if reads else None]


def _forecaster(forecaster: ForecasterSettings) -> dict[str, Any]:
    """What forecasts, by what its kind reads; where and how fast it computes is left out."""
    kind = forecaster.kind
    variant: dict[str, Any] = {"kind": _code(kind)}
    if is_own(kind):
        variant["arguments"] = dict(forecaster.arguments)
    elif kind not in WITHOUT_CONTEXT:
        variant["context_length"] = forecaster.context_length
    if kind == "chronos2":
        variant |= {name: getattr(forecaster, name) for name in NETWORK}
    if kind == "file":
        variant["file"] = _content(forecaster.path)
    if forecaster.calibrated:
        variant["calibration"] = asdict(forecaster.calibration)
        variant["per_symbol"] = forecaster.per_symbol if kind == "chronos2" else None
    return variant


def _code(name: str) -> str | list[str]:
    """A name; of code of one's own what it does, whatever its module is called."""
    return [name.rpartition(".")[2], own_digest(name)] if is_own(name) else name


def _matrix(path: str | None) -> list[str | None] | None:
    if path is None:
        return None
    return [_content(str(part)) for part in table_and_notes(Path(path).expanduser())]


def _content(path: str | None) -> str | None:
    """Digest of a file; its path where it cannot be read."""
    if path is None:
        return None
    try:
        return file_digest(Path(path).expanduser())
    except OSError:
        return path


def _alike(value: Any) -> Any:
    """The same with every number a float, and what counts as equal written alike."""
    if isinstance(value, Mapping):
        return {str(key): _alike(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_alike(each) for each in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
