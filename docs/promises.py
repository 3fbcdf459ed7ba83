"""Write docs/promises.yaml: what a version promises to keep, gathered from the code as it is now.

make promises, when a version is released. Until the next first number, what stands there stays.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path

import yaml

from docs.settings_page import PAGE
from execution.records import (
    BOOKING_COLUMNS,
    DECISION_COLUMNS,
    EQUITY_COLUMNS,
    FILL_COLUMNS,
    ORDER_COLUMNS,
)
from foundation.compose import composed_config
from kelly_chronos import COMMANDS
from marketsimulator import BacktestSettings, run_backtest

PROMISES = Path(__file__).resolve().parent / "promises.yaml"
ROOMS = ("trainingdata", "forecasting", "sizing", "execution", "marketsimulator")
FILES = {
    "bookings.parquet": BOOKING_COLUMNS,
    "decisions.parquet": DECISION_COLUMNS,
    "equity.parquet": EQUITY_COLUMNS,
    "fills.parquet": FILL_COLUMNS,
    "orders.parquet": ORDER_COLUMNS,
}
SMALL = (
    "symbols=[SYA,SYB]",
    "forecaster=ewma",
    "data.start=2024-01-02",
    "data.end=2024-03-28",
    "start=2024-03-25",
)
HEAD = "# Made by `make promises` at a release; CHANGELOG.md says what it means.\n"


def promises() -> dict[str, dict[str, list[str]]]:
    """As they are now: commands, public names a room, keys a configuration, columns a file."""
    return {
        "commands": {"kelly-chronos": sorted(COMMANDS.values())},
        "names": {room: sorted(importlib.import_module(room).__all__) for room in ROOMS},
        "settings": _settings(PAGE.read_text().splitlines()),
        "columns": {name: list(columns) for name, columns in FILES.items()},
        "entries": {"summary.json": list(run_backtest(_small_run()).summary())},
    }


def _small_run() -> BacktestSettings:
    return BacktestSettings.of(composed_config("backtest", list(SMALL)))


def _settings(lines: Iterable[str]) -> dict[str, list[str]]:
    """The keys of every configuration, in the order of the page that has them."""
    keys: dict[str, list[str]] = {}
    place: list[str] = []
    for line in lines:
        if line.startswith("#"):
            place = keys.setdefault(line.lstrip("# "), [])
        elif line.startswith("| `"):
            place.append(line.split("`")[1])
    return {name: found for name, found in keys.items() if found}


if __name__ == "__main__":
    PROMISES.write_text(HEAD + yaml.safe_dump(promises(), sort_keys=False, width=100))
