"""The trial ledger: every backtest leaves a row, so that a good one is judged by their number.

A local SQLite file. Two runs are the same trial where configuration and data are the same, however
often they are run.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from forecasting.from_file import content_digest
from foundation.errors import InputError
from foundation.plugin import is_plugin, plugin_digest
from trainingdata.bars import Bars

# The key makes a repeated run the same trial: counted again, it would deflate its own ratio.
SCHEMA = """
CREATE TABLE IF NOT EXISTS trials (
    recorded_at TEXT NOT NULL,
    config_hash TEXT NOT NULL,
    data_hash TEXT NOT NULL,
    source TEXT NOT NULL,
    symbols TEXT NOT NULL,
    first TEXT NOT NULL,
    last TEXT NOT NULL,
    days INTEGER NOT NULL,
    daily_sharpe REAL,
    total_return REAL NOT NULL,
    forecaster TEXT NOT NULL,
    PRIMARY KEY (config_hash, data_hash)
)
"""
PATIENCE = 30.0  # seconds that a run waits for another one to write
NO_VARIANT = ("output", "overwrite", "start", "end", "days", "trials", "placebo")  # of a run alone
# What they change shows in the bars, which have a digest of their own.
HOW_READ = ("dir", "zone", "splits")


@dataclass(frozen=True, slots=True)
class Trial:
    """One backtest; its fields are columns of the ledger.

    config_hash: digest of the settings that make a variant.
    data_hash: digest of the bars of the run.
    source: where the bars come from, in words.
    symbols: of the bars.
    first: first instant of the run, in words.
    last: last instant of the run, in words.
    days: number of daily returns.
    daily_sharpe: mean over deviation of daily returns, None where they do not move.
    total_return: a fraction, signed.
    forecaster: its name.
    """

    config_hash: str
    data_hash: str
    source: str
    symbols: tuple[str, ...]
    first: str
    last: str
    days: int
    daily_sharpe: float | None
    total_return: float
    forecaster: str


@dataclass(frozen=True, slots=True)
class TrialStatistics:
    """What has been tried on the same data.

    count: number of variants.
    variance: sample variance of their daily Sharpe ratios, 0 for fewer than two.
    """

    count: int
    variance: float


def record_trials(path: Path, *trials: Trial) -> TrialStatistics:
    """Add trials on the same data, replace those that were there, and count all on these data.

    The same data are the same bars, or bars of the same market that share a symbol and overlap in
    time: neither a run that ends a day later nor a copy of the files elsewhere is a fresh start. A
    synthetic market is known by its source; all files are of one market, in which a symbol has one
    history.

    Raises
    ------
    InputError
        if the file cannot be written, or is no trial ledger.
    """
    recorded_at = datetime.now(UTC).isoformat(timespec="seconds")
    rows = [
        {
            "recorded_at": recorded_at,
            **{name: getattr(trial, name) for name in trial.__slots__},
            "symbols": json.dumps(trial.symbols),
        }
        for trial in trials
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=PATIENCE)) as ledger, ledger:
            ledger.execute(SCHEMA)
            names = ", ".join(rows[0])
            values = ", ".join(":" + name for name in rows[0])
            ledger.executemany(f"INSERT OR REPLACE INTO trials ({names}) VALUES ({values})", rows)
            candidates = ledger.execute(
                "SELECT config_hash, symbols, daily_sharpe FROM trials WHERE data_hash = :data_hash"
                " OR ((source = :source OR (source LIKE 'files:%' AND :source LIKE 'files:%'))"
                " AND first <= :last AND last >= :first)",
                rows[0],
            ).fetchall()
    except (OSError, sqlite3.Error) as error:
        raise InputError(f"trials: {path} cannot be used: {error}") from error
    # A variant that was run over two overlapping periods is one variant: the key is its settings.
    universe = set(trials[0].symbols)
    ratio_by_config = {
        config: ratio
        for config, symbols, ratio in candidates
        if universe & set(json.loads(symbols))
    }
    ratios = [ratio for ratio in ratio_by_config.values() if ratio is not None]
    variance = float(np.var(ratios, ddof=1)) if len(ratios) > 1 else 0.0
    return TrialStatistics(len(ratio_by_config), variance)


def check_ledger(path: Path) -> None:
    """Refuse a ledger that cannot be used, before any work is done that it should record.

    Raises
    ------
    InputError
        if the file cannot be written, or is no trial ledger.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=PATIENCE)) as ledger, ledger:
            ledger.execute(SCHEMA)
            # A file that another program made may have a table of this name with other columns.
            ledger.execute(
                "SELECT config_hash, data_hash, symbols, daily_sharpe FROM trials LIMIT 1"
            )
    except (OSError, sqlite3.Error) as error:
        raise InputError(
            f"trials: {path} cannot be used: {error}; name another, or null for none"
        ) from error


def config_hash(settings: Mapping[str, Any]) -> str:
    """Digest of the settings that make a variant: all but the period and where results go."""
    variant = {key: value for key, value in settings.items() if key not in NO_VARIANT}
    if "data" in variant:
        data = (variant["data"] or {}).items()
        variant["data"] = {key: value for key, value in data if key not in HOW_READ}
    forecaster = dict(variant.get("forecaster") or {})
    sizing = variant.get("sizing") or {}
    # Another file of forecasts, or other code, is another trial under the same name and path. Where
    # neither is used the digest is that of a ledger that was begun before there were any.
    path = forecaster.pop("path", None)
    arguments = forecaster.pop("arguments", None)
    if "forecaster" in variant:
        variant["forecaster"] = forecaster
    named = (forecaster.get("kind"), sizing.get("strategy"))
    code = [plugin_digest(name) for name in named if isinstance(name, str) and is_plugin(name)]
    if path or arguments or code:
        variant["own"] = [_content(path), arguments, code]
    return hashlib.sha256(json.dumps(variant, sort_keys=True, default=str).encode()).hexdigest()


def _content(path: str | None) -> str | None:
    """Digest of a file; its path where it cannot be read."""
    if path is None:
        return None
    try:
        return content_digest(Path(path).expanduser())
    except OSError:
        return path


def data_hash(bars: Bars, first: int) -> str:
    """Digest of the bars from instant number `first` on."""
    digest = hashlib.sha256(json.dumps(bars.symbols).encode())
    part = bars.between(first, len(bars.times))
    digest.update(np.ascontiguousarray(part.times).tobytes())
    # What stands where there is no bar says nothing.
    values = np.where(part.mask[:, :, None], part.values, 0.0)
    digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
