"""The trial ledger: every backtest leaves a row, so that a good one can be judged by how many were
tried.

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

from foundation.errors import InputError
from trainingdata.bars import Bars

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


@dataclass(frozen=True, slots=True)
class Trial:
    """One backtest. daily_sharpe: mean over deviation of daily returns, None where they do not
    move. first, last: instants.
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
class Trials:
    """What has been tried on the same data: number of variants, and the variance of their daily
    Sharpe ratios.
    """

    count: int
    variance: float


def record(path: Path, *trials: Trial) -> Trials:
    """Add trials on the same data (again, those that were there), and count the variants tried on
    them.

    The same data are the same bars, or bars of the same source that share a symbol and overlap in
    time: a run that ends a day later is no fresh start.

    Raises
    ------
    InputError
        if the file cannot be written, or is no trial ledger.
    """
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    rows = [
        {
            "recorded_at": stamp,
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
            others = ledger.execute(
                "SELECT config_hash, symbols, daily_sharpe FROM trials"
                " WHERE data_hash = :data_hash OR (source = :source AND first <= :last AND last >="
                " :first)",
                rows[0],
            ).fetchall()
    except (OSError, sqlite3.Error) as error:
        raise InputError(f"trials: {path} cannot be used: {error}") from error
    mine = set(trials[0].symbols)
    kin = {name: sharpe for name, symbols, sharpe in others if mine & set(json.loads(symbols))}
    ratios = [sharpe for sharpe in kin.values() if sharpe is not None]
    return Trials(len(kin), float(np.var(ratios, ddof=1)) if len(ratios) > 1 else 0.0)


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
            ledger.execute(
                "SELECT config_hash, data_hash, symbols, daily_sharpe FROM trials LIMIT 1"
            )
    except (OSError, sqlite3.Error) as error:
        raise InputError(
            f"trials: {path} cannot be used: {error}; name another, or null for none"
        ) from error


def config_hash(settings: Mapping[str, Any]) -> str:
    """Digest of everything that makes a variant; the period, what is told beside it and where
    are left out.
    """
    kept = {
        key: value
        for key, value in settings.items()
        if key not in ("output", "start", "end", "days", "trials", "placebo")
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()


def data_hash(bars: Bars, first: int) -> str:
    """Digest of the bars from instant number `first` on."""
    digest = hashlib.sha256(json.dumps(bars.symbols).encode())
    part = bars.between(first, len(bars.times))
    digest.update(np.ascontiguousarray(part.times).tobytes())
    digest.update(np.ascontiguousarray(np.where(part.mask[:, :, None], part.values, 0.0)).tobytes())
    return digest.hexdigest()
