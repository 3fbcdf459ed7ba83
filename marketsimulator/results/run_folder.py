"""Reader of the results folder of a run: its summary, settings and tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from execution.orders.lending import short_proceeds_after_trade
from foundation.errors import DataError, InputError
from foundation.files import SUMMARY_FILES, check_file_digests
from foundation.settings import read_plain_yaml
from marketsimulator.run_result import (
    BOOKING_COLUMNS,
    EQUITY_COLUMNS,
    FILL_COLUMNS,
    INSTANT_COLUMNS,
    TEXT_COLUMNS,
    InitialPosition,
)
from trainingdata.instants import format_utc, parse_instant

SUMMARY_FILE, CONFIG_FILE = "summary.json", "config.yaml"
_RUN_FOLDER_HINT = "give the results folder of a backtest (for a live account, use its status page)"


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """Positions, cash and equity of a run at an instant.

    instant: instant of the equity row.
    cash, equity: cash and equity at that instant, USD.
    positions: signed quantities by symbol, without zeros.
    short_proceeds: USD from the sale of open shorts, by symbol.
    other_holdings: symbols with a position of the live account that do not belong to the run; their
        value is part of cash.
    """

    instant: np.datetime64
    cash: float
    equity: float
    positions: Mapping[str, Decimal]
    short_proceeds: Mapping[str, float]
    other_holdings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Results folder of a backtest or of a replay; a replay has no summary.

    path: path of the folder.
    """

    path: Path

    def __post_init__(self) -> None:
        if not self.path.is_dir():
            what = "a file" if self.path.exists() else "not found"
            raise InputError(f"RUN: {self.path} is {what}; give the results folder of a backtest")
        check_file_digests(self.path, "RUN")
        if not any((self.path / mark).is_file() for mark in SUMMARY_FILES):
            raise InputError(
                f"RUN: {self.path} contains no {SUMMARY_FILE}; give the results folder"
                " of a backtest"
            )

    def read_summary(self) -> dict[str, Any]:
        path = self.path / SUMMARY_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise DataError(f"{path}: not valid JSON: {error}; repeat the run") from None
        if not isinstance(content, dict):
            raise DataError(f"{path}: not the summary of a backtest: expected a JSON object")
        return content

    def read_settings(self) -> dict[str, Any]:
        """Read the settings in `config.yaml`; return an empty dict if there is no such file."""
        path = self.path / CONFIG_FILE
        if not path.is_file():
            return {}
        try:
            content: Any = read_plain_yaml(path)
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise DataError(f"{path}: cannot be read: {_first_line(error)}") from None
        if not isinstance(content, dict):
            raise DataError(f"{path}: not a settings file: expected lines of key: value")
        return content

    def read_table(
        self, name: str, columns: Sequence[str], optional_columns: Sequence[str] = ()
    ) -> pd.DataFrame:
        """Read columns of the file `NAME.parquet`; instants are UTC without a time zone.

        name: name of the table, such as `fills`.
        optional_columns: those of `columns` that older run folders lack; read as NaN or empty text.
        """
        path = self.path / f"{name}.parquet"
        try:
            frame = pd.read_parquet(path)
            missing = set(optional_columns).difference(frame.columns)
            frame = frame.assign(
                **{each: "" if each in TEXT_COLUMNS else np.nan for each in missing}
            )
            for column in set(columns).difference(frame.columns):
                raise ValueError(f"column {column} is missing")
            frame = frame[list(columns)]
            for column in set(columns).difference(INSTANT_COLUMNS, TEXT_COLUMNS):
                frame[column] = pd.to_numeric(frame[column])
            for column in set(columns).intersection(INSTANT_COLUMNS):
                instants = pd.DatetimeIndex(pd.to_datetime(frame[column], utc=True))
                frame[column] = instants.tz_localize(None).as_unit("ns")
        except FileNotFoundError:
            raise DataError(f"RUN: {path} does not exist; {_RUN_FOLDER_HINT}") from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            reason = _first_line(error)
            raise DataError(f"RUN: {path}: cannot be read: {reason}; {_RUN_FOLDER_HINT}") from None
        return frame

    def snapshot_at(self, at: str) -> RunSnapshot:
        """Return positions, cash and equity at an instant.

        at: `end`, `worst` for the highest leverage, a New York date or a timestamp with a time
            zone.
        Raises `InputError` if there is no position at that instant.
        """
        rows = self.read_table("equity", EQUITY_COLUMNS)
        if rows.empty:
            raise DataError(f"RUN: {self.path / 'equity.parquet'} has no rows")
        row = rows.iloc[_find_equity_row(rows, at)]
        now = np.datetime64(row["at"], "ns")
        fills = self.read_table("fills", FILL_COLUMNS)
        told = self.read_summary() if (self.path / SUMMARY_FILE).is_file() else {}
        positions, short_proceeds = _positions_and_proceeds(
            self._initial_positions(told), fills[fills["booked_at"] <= now]
        )
        if not positions:
            held = rows["at"][_gross(rows) > 0]
            if held.empty:
                raise InputError(f"at: {self.path} has no position at any time; choose another run")
            last = format_utc(np.datetime64(held.iloc[-1], "ns"))
            raise InputError(
                f"at: {self.path} has no position at {format_utc(now)}; use at={last} for the"
                " last positions, or at=worst for the highest leverage"
            )
        # The rows of a live account exclude net deposits, which are part of its cash.
        paid_in = self._net_deposits(now)
        cash, equity = float(row["cash"]) + paid_in, float(row["equity"]) + paid_in
        other_holdings = tuple(map(str, told.get("other_holdings", ())))
        return RunSnapshot(now, cash, equity, positions, short_proceeds, other_holdings)

    def _net_deposits(self, now: np.datetime64) -> float:
        """Return deposits less withdrawals of a live account up to an instant, USD."""
        if not (self.path / "bookings.parquet").is_file():
            return 0.0
        bookings = self.read_table("bookings", BOOKING_COLUMNS)
        own = (bookings["kind"] == "transfer") & (bookings["at"] <= now)
        return float(bookings["usd"][own].sum())

    def _initial_positions(self, summary: Mapping[str, Any]) -> Mapping[str, InitialPosition]:
        """Return the positions before a run's first equity row; empty for a backtest."""
        try:
            return {
                symbol: InitialPosition(Decimal(held["quantity"]), float(held["price"]))
                for symbol, held in summary.get("initial_positions", {}).items()
            }
        except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
            raise DataError(
                f"RUN: {self.path / SUMMARY_FILE}: invalid initial_positions: {_first_line(error)}"
            ) from None


def _gross(rows: pd.DataFrame) -> pd.Series:
    return rows["gross_stock"] + rows["gross_crypto"]


def _find_equity_row(rows: pd.DataFrame, at: str) -> int:
    """Return the number of the last equity row up to the time that `at` specifies.

    at: as in `RunFolder.book_at`.
    """
    if at == "end":
        return len(rows) - 1
    if at == "worst":
        # An account without equity is worst; otherwise the highest leverage is.
        solvent = rows["equity"].where(rows["equity"] > 0)
        return int(np.argmax((_gross(rows) / solvent).fillna(np.inf)))
    try:
        first, last = parse_instant(at, name="at"), parse_instant(at, name="at", end_of_day=True)
    except InputError as error:
        raise InputError(f"{error}; or use end or worst") from None
    times = rows["at"].to_numpy(dtype="datetime64[ns]")
    if last < times[0] or first > times[-1]:
        ends = f"{format_utc(times[0])} to {format_utc(times[-1])}"
        raise InputError(f"at: {at} is outside the run, which covers {ends}")
    return int(np.searchsorted(times, last, side="right")) - 1


def _positions_and_proceeds(
    initial_positions: Mapping[str, InitialPosition], fills: pd.DataFrame
) -> tuple[dict[str, Decimal], dict[str, float]]:
    """Return the positions after these fills, and the proceeds of open shorts (USD), by symbol.

    Initial short positions count as sold at their initial price.
    """
    held = {symbol: met.quantity for symbol, met in initial_positions.items()}
    sold = {
        s: -float(met.quantity) * met.price
        for s, met in initial_positions.items()
        if met.quantity < 0
    }
    columns = (fills[name].tolist() for name in ("symbol", "qty", "price"))
    for symbol, quantity, price in zip(*columns, strict=True):
        before = held.get(symbol, Decimal(0))
        held[symbol] = before + Decimal(repr(quantity))
        # Fills at price 0 are splits and crypto fees, which do not change the proceeds.
        if price:
            had = sold.get(symbol, 0.0)
            after = short_proceeds_after_trade(had, float(before), quantity, quantity * price)
            sold[symbol] = round(after, 6)
    positions = {symbol: quantity for symbol, quantity in held.items() if quantity}
    shorts = [symbol for symbol, quantity in positions.items() if quantity < 0]
    return positions, {symbol: sold.get(symbol, 0.0) for symbol in shorts}


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
