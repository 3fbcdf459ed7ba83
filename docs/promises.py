"""Write docs/promises.yaml: commands, names, columns and entries that 1.0.0 will promise to keep.

`make promises` runs this module. The keys of docs/SETTINGS.md are promised as well.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import yaml

from foundation import PACKAGES
from foundation.compose import compose_config
from kelly_chronos import COMMANDS
from marketsimulator import BacktestSettings, run_backtest
from marketsimulator.run_result import DECISION_COLUMNS
from marketsimulator.table_columns import (
    BOOKING_COLUMNS,
    EQUITY_COLUMNS,
    FILL_COLUMNS,
    ORDER_COLUMNS,
)

PROMISES_PATH = Path(__file__).resolve().parent / "promises.yaml"
COLUMNS_BY_FILE = {
    "bookings.parquet": BOOKING_COLUMNS,
    "decisions.parquet": DECISION_COLUMNS,
    "equity.parquet": EQUITY_COLUMNS,
    "fills.parquet": FILL_COLUMNS,
    "orders.parquet": ORDER_COLUMNS,
}
SHORT_RUN_OVERRIDES = (
    "symbols=[SYA,SYB]",
    "forecaster=ewma",
    "data.start=2024-01-02",
    "data.end=2024-03-28",
    "start=2024-03-25",
)
FILE_HEADER = "# Made by `make promises`; CHANGELOG.md says what it means.\n"


def collect_promises() -> dict[str, dict[str, list[str]]]:
    """Collect commands, public names by package, columns by file, and entries of a summary."""
    packages = {name: importlib.import_module(name) for name in PACKAGES}
    return {
        "commands": {"kelly-chronos": sorted(COMMANDS.values())},
        "names": {
            name: sorted(each.__all__) for name, each in packages.items() if "__all__" in vars(each)
        },
        "columns": {name: list(columns) for name, columns in COLUMNS_BY_FILE.items()},
        "entries": {"summary.json": list(run_backtest(_small_run()).summary())},
    }


def _small_run() -> BacktestSettings:
    return BacktestSettings.from_config(compose_config("backtest", list(SHORT_RUN_OVERRIDES)))


if __name__ == "__main__":
    PROMISES_PATH.write_text(
        FILE_HEADER + yaml.safe_dump(collect_promises(), sort_keys=False, width=100)
    )
