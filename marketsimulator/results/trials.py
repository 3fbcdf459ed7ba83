"""The trial ledger: one row per backtest, to deflate Sharpe ratios by the number of trials.

The ledger is a local SQLite file. Repeated runs with the same settings and data are one trial.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from forecasting.forecast import NO_FORECAST, has_look_ahead
from foundation.errors import InputError

# The key makes a repeated run the same trial: counted again, it would deflate its own ratio.
LEDGER_SCHEMA_SQL = """
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
LEDGER_LOCK_TIMEOUT_SECONDS = 30.0  # seconds that a run waits for another one to write
NO_LEDGER_NOTE = "No trial ledger ({}): other variants tried on these data are not counted."
TRIALS_OFF_NOTE = NO_LEDGER_NOTE.format("trials=null")


@dataclass(frozen=True, slots=True)
class Trial:
    """One backtest in the trial ledger; the fields are the ledger's columns.

    config_hash: digest of the settings that distinguish variants.
    data_hash: digest of the bars of the run.
    source: description of the source of the bars.
    symbols: symbols of the bars.
    first: first instant of the run, as text.
    last: last instant of the run, as text.
    days: number of daily returns.
    daily_sharpe: mean over standard deviation of daily returns; None if they are constant.
    total_return: total return, a signed fraction.
    forecaster: name of the forecaster.
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


def record_trials(ledger: str | Path | None, trials: Sequence[Trial]) -> int | None:
    """Record trials in a ledger; return the number of all trials on the same data.

    A trial that is already in the ledger is replaced. Runs whose forecaster reads the future are
    not trials: they are not recorded, and existing rows of such runs are ignored. Without a ledger
    the result is None.

    Two trials have the same data if their bars are equal, or if bars of the same market share a
    symbol and overlap in time. A run that ends a day later, or that uses a copy of the files,
    therefore does not start a new count. Bars from files all belong to one market; a synthetic
    market is identified by its source.

    ledger: path of the ledger; None: no ledger.
    trials: trials on the same data.
    Raises `InputError` for a file that cannot be written or is not a trial ledger.
    """
    if ledger is None:
        return None
    with _open_ledger(ledger) as file:
        _enter(file, trials)
        candidates = _read_same_data(file, trials[0])
    # A variant that was run over two overlapping periods is one variant: the key is its settings.
    return len({config for config, _ in candidates})


def count_forecasters(ledger: str | Path | None, trial: Trial) -> int:
    """Record the trial of a forecaster; return its number among those tried on the same data.

    Forecasters are numbered from 1 in the order in which they were first recorded, so that the
    number of each stays. Without a ledger the number is 1.
    """
    if ledger is None:
        return 1
    with _open_ledger(ledger) as file:
        _enter(file, [trial])
        tried = dict.fromkeys(name for _, name in _read_same_data(file, trial))
    names = [name for name in tried if name != NO_FORECAST]
    return names.index(trial.forecaster) + 1 if trial.forecaster in names else len(names) + 1


def _enter(file: sqlite3.Connection, trials: Sequence[Trial]) -> None:
    """Write trials to an open ledger; a trial that is already there keeps its place."""
    recorded_at = datetime.now(UTC).isoformat(timespec="seconds")
    rows = [
        {
            "recorded_at": recorded_at,
            **{name: getattr(trial, name) for name in trial.__slots__},
            "symbols": json.dumps(trial.symbols),
        }
        for trial in trials
        if not has_look_ahead(trial.forecaster)
    ]
    names = ("recorded_at", *Trial.__slots__)
    values = ", ".join(f":{name}" for name in names)
    changes = ", ".join(f"{name} = excluded.{name}" for name in names)
    file.executemany(
        f"INSERT INTO trials ({', '.join(names)}) VALUES ({values})"
        f" ON CONFLICT (config_hash, data_hash) DO UPDATE SET {changes}",
        rows,
    )


def _read_same_data(file: sqlite3.Connection, trial: Trial) -> list[tuple[str, str]]:
    """Return the settings' digest and the forecaster of each trial on the same data.

    They are in the order in which they were first recorded.
    """
    candidates = file.execute(
        "SELECT config_hash, symbols, forecaster FROM trials"
        " WHERE data_hash = :data_hash OR"
        " ((source = :source OR (source LIKE 'files:%' AND :source LIKE 'files:%'))"
        " AND first <= :last AND last >= :first) ORDER BY rowid",
        {name: getattr(trial, name) for name in ("data_hash", "source", "first", "last")},
    ).fetchall()
    universe = set(trial.symbols)
    return [
        (config, forecaster)
        for config, symbols, forecaster in candidates
        if universe & set(json.loads(symbols)) and not has_look_ahead(forecaster)
    ]


def check_ledger(ledger: str | Path | None, key: str = "trials") -> None:
    """Check before a run that the ledger can be written. Raises `InputError` if it cannot.

    key: name of the setting that holds the path, for the message.
    """
    if ledger is None:
        return
    with _open_ledger(ledger, key) as file:
        # A file that another program made may have a table of this name with other columns.
        file.execute(
            "SELECT config_hash, data_hash, symbols, daily_sharpe, forecaster FROM trials LIMIT 1"
        )
        file.execute("DELETE FROM trials WHERE 0")  # refused for a read-only file


@contextmanager
def _open_ledger(ledger: str | Path, key: str = "trials") -> Iterator[sqlite3.Connection]:
    """Open the ledger, and create it if it does not exist; ~ in the path is the user's home."""
    try:
        path = Path(ledger).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=LEDGER_LOCK_TIMEOUT_SECONDS)) as file, file:
            file.execute(LEDGER_SCHEMA_SQL)
            yield file
    except (OSError, RuntimeError, sqlite3.Error) as error:
        reason = "it is a folder" if Path(ledger).is_dir() else str(error)
        raise InputError(
            f"{key}: cannot open ledger {ledger}: {reason}; choose another file, or set {key}=null"
        ) from error
