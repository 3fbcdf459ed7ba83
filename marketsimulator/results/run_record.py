"""Runs as inputs of a comparison, from memory or from results folders."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import pandas as pd

from forecasting.forecast import has_look_ahead
from foundation.arrays import Array, Instants, first_true_index
from foundation.errors import DataError, InputError
from marketsimulator.results.metrics import daily_equity_curve
from marketsimulator.results.run_folder import SUMMARY_FILE, RunFolder
from trainingdata.instants import format_utc

EQUITY_TABLE_NAME = "equity"
SUMMARY_KEY_TYPES: Mapping[str, Any] = {  # type by key of the summary
    **dict.fromkeys(
        ("total_return", "costs", "trades", "periods_per_year", "max_leverage"), (int, float)
    ),
    "trials": (int, NoneType),  # null for a run without a ledger
    **dict.fromkeys(("forecaster", "data"), str),
    "symbols": list,
}
LIVE_RUN_TITLE = "Live account"  # title of a live account's summary
# Settings that do not distinguish variants: output, and the period, which the days show.
NON_VARIANT_SETTINGS = ("output", "trials", "benchmark", "start", "end", "days")


@dataclass(frozen=True, eq=False, slots=True)
class RunRecord:
    """A run as input of a comparison.

    summary: content of `summary.json`, or the part of it that is compared.
    settings: settings of the run by dotted key; empty if the folder has no settings.
    instants: [N] instants.
    equity: [N] equity at each instant, USD.
    path: folder of the run; None for a run in memory.
    name: name of a run in memory.
    """

    summary: Mapping[str, Any]
    settings: Mapping[str, Any]
    instants: Instants
    equity: Array
    path: Path | None = None
    name: str = ""

    @property
    def has_crypto(self) -> bool:
        """Return whether the universe contains crypto, so that days are calendar days."""
        return int(self.summary["periods_per_year"]) > 300

    @property
    def is_trial(self) -> bool:
        """Return whether the run counts as a trial in multiple testing.

        Live accounts do not count, nor do runs whose forecaster reads the future.
        """
        is_live = self.summary.get("title") == LIVE_RUN_TITLE
        return not is_live and not has_look_ahead(str(self.summary["forecaster"]))

    def daily_equity_curve(self) -> tuple[Instants, Array]:
        """Return the start and the end of each day [1 + D], and the equity at them, USD."""
        growth = 1.0 + float(self.summary["total_return"])
        capital = float(self.equity[-1]) / growth if growth > 0 else float(self.equity[0])
        return daily_equity_curve(
            self.instants, self.equity, capital=capital, has_crypto=self.has_crypto
        )


def find_run_folders(run_paths: Sequence[Path]) -> list[Path]:
    """Return the run folders at these paths; replace a folder of several runs by its run folders.

    Raises `InputError` if a path has no run or if a run is given twice.
    """
    paths: list[Path] = []
    for word in run_paths:
        folder = word.expanduser()
        if not folder.is_dir():
            raise InputError(f"RUN: {word} is not a folder; give the results folder of a backtest")
        if (folder / SUMMARY_FILE).is_file():
            paths.append(folder)
            continue
        within = [path.parent for path in folder.glob(f"*/{SUMMARY_FILE}")]
        if not within:
            raise InputError(
                f"RUN: {word} contains no {SUMMARY_FILE}; give the results folder of a backtest"
            )
        paths += sorted(within, key=_multirun_sort_key)
    seen: set[Path] = set()
    for path in paths:
        if path.resolve() in seen:
            raise InputError(f"RUN: {path} is given twice; remove one of them")
        seen.add(path.resolve())
    return paths


def _multirun_sort_key(path: Path) -> tuple[int, str]:
    """Return the sort key of a run folder in a multirun: its number, so that 10 comes after 9."""
    return (int(path.name), "") if path.name.isdecimal() else (-1, path.name)


def read_run_record(folder: Path) -> RunRecord:
    """Read a run from its results folder. Raises `DataError` for unreadable files."""
    run = RunFolder(folder)
    summary = run.read_summary()
    _check_summary(summary, folder / SUMMARY_FILE)
    at, equity = _read_equity_curve(run)
    return RunRecord(summary, flatten_settings(run.read_settings()), at, equity, folder)


def _check_summary(content: Mapping[str, Any], path: Path) -> None:
    for name, kind in SUMMARY_KEY_TYPES.items():
        value = content.get(name)
        number = value if isinstance(value, float) else 0.0
        if not isinstance(value, kind) or isinstance(value, bool) or not np.isfinite(number):
            expected = {str: "text", list: "a list"}.get(kind, "a finite number")
            raise DataError(
                f"{path}: not the summary of a backtest: {name} is {value!r}, not {expected}"
            )


def _read_equity_curve(run: RunFolder) -> tuple[Instants, Array]:
    frame = run.read_table(EQUITY_TABLE_NAME, ("at", "equity"))
    instants = frame["at"].to_numpy(dtype="datetime64[ns]")
    equity = pd.to_numeric(frame["equity"], errors="coerce").to_numpy(dtype=np.float64)
    # A missing instant (NaT) does not increase either.
    increases = np.diff(instants) > np.timedelta64(0)
    fault = ""
    if not len(instants):
        fault = "the equity curve is empty"
    elif np.isnat(instants).any():
        fault = f"row {first_true_index(np.isnat(instants)) + 1}: the timestamp is missing"
    elif not increases.all():
        row = first_true_index(~increases) + 1
        fault = f"row {row + 1}: timestamp {format_utc(instants[row])} is not after the row before"
    elif not np.isfinite(equity).all():
        row = first_true_index(~np.isfinite(equity))
        fault = f"row {row + 1}: equity {equity[row]:g} is not a finite number"
    if fault:
        raise DataError(f"{run.path / EQUITY_TABLE_NAME}.parquet: {fault}; repeat the run")
    return instants, equity


def flatten_settings(
    values: Mapping[str, Any], prefix: str = "", left_out: Collection[str] = NON_VARIANT_SETTINGS
) -> dict[str, Any]:
    """Flatten nested settings to dotted keys.

    prefix: text before each key.
    left_out: dotted keys to leave out; by default those that never distinguish variants.
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten_settings(value, f"{prefix}{key}.", left_out)
        elif f"{prefix}{key}" not in left_out:
            flat[f"{prefix}{key}"] = value
    return flat


def varied_settings(runs: Sequence[RunRecord]) -> dict[str, tuple[Any, ...]]:
    """Return the values [V] of each setting that differs between runs, by key.

    A setting is left out if a nested setting with the same last key has the same values.
    """
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    varied = {key: tuple(run.settings.get(key) for run in runs) for key in keys}
    different = {key: values for key, values in varied.items() if len(set(map(repr, values))) > 1}
    return {
        key: values
        for key, values in different.items()
        if not any(k.endswith(f".{key}") and different[k] == values for k in different)
    }


def unique_run_names(runs: Sequence[RunRecord]) -> tuple[str, ...]:
    """Return a unique name for each run.

    It is the run's own name, or for a folder its path below the common parent of all folders.
    """
    paths = [run.path.resolve() for run in runs if run.path is not None]
    above = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    if {str(path.relative_to(above)) for path in paths} & {run.name for run in runs}:
        above = above.parent
    below = (str(path.relative_to(above)) for path in paths)
    return tuple(run.name if run.path is None else next(below) for run in runs)


def format_setting_value(value: Any) -> str:
    """Format a setting's value in command-line notation."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(format_setting_value, value))}]"
    return str(value)


def format_setting(setting: str, value: Any) -> str:
    """Format a setting as `name=value`, where the name is the last part of its dotted key."""
    return f"{setting.rpartition('.')[2]}={format_setting_value(value)}"
