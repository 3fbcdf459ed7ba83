"""Which trial a run is: one digest of what was tried, one of the bars it was tried on.

Settings that change no figure of a result are left out, files and code are their content. Whatever
else is written otherwise is another trial: a ratio is rather judged by one too many.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from foundation.files import file_digest
from foundation.plugin import is_own, own_digest
from marketsimulator.results.run_record import flat_settings
from marketsimulator.results.trials import Trial
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import Bars
from trainingdata.instants import utc_text
from trainingdata.market import Market
from trainingdata.stored_correlation import table_and_notes

# Of a run alone: its bars, its draws, where it goes and what orders are called; of a forecast where
# it is computed and how fast.
NO_VARIANT = (
    *("symbols", "timeframe", "fill", "seed", "strategy"),
    *(f"forecaster.{name}" for name in ("batch_size", "cache", "device", "compile")),
)
OF_DATA = ("data.adjustment", "data.ended_after", "data.ended_loss", "data.actions")
FILES = ("data.actions", "universe.members", "limits.groups", "forecaster.path", "correlation.file")
CODE = ("universe.rank", "forecaster.kind", "correlation.kind", "sizing.strategy")


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
    """What of a backtest's settings makes a variant, by dotted key, over these bars.

    How bars are read shows in the bars, which have a digest of their own.
    """
    variant: dict[str, Any] = {"symbols": sorted(bars.symbols)}
    for key, value in flat_settings(asdict(settings)).items():
        group = key.partition(".")[0]
        if {key, group} & {*NO_VARIANT} or (group == "data" and key not in OF_DATA):
            continue
        variant[key] = _content(value) if key in FILES else _code(value) if key in CODE else value
    return variant


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


def _code(name: str | None) -> str | list[str] | None:
    """A name; of code of one's own what it does, whatever its module is called."""
    if name is None or not is_own(name):
        return name
    return [name.rpartition(".")[2], own_digest(name)]


def _content(path: str | None) -> list[str] | None:
    """Digests of a file, or of those of a stored matrix; its path where it cannot be read."""
    if path is None:
        return None
    given = Path(path).expanduser()
    try:
        files = dict.fromkeys((given, *table_and_notes(given)))
        return [file_digest(each) for each in files if each.is_file()] or [path]
    except OSError:
        return [path]


def _alike(value: Any) -> Any:
    """The same with every number a float, and what counts as equal written alike."""
    if isinstance(value, Mapping):
        return {str(key): _alike(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_alike(each) for each in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
