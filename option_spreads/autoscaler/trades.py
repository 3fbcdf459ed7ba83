"""Parsing, validation and formatting of trades.csv, the account's file of trades."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from foundation.decimals import has_supported_magnitude, parse_number
from foundation.errors import InputError

CsvRow = dict[str, str]

TRADE_COLUMNS = (
    "Timestamp_ET",
    "Trade_ID",
    "Strategy",
    "Strikes",
    "Entry_Credit",
    "Position_Size",
    "Exit_Time",
    "P/L_$",
    "Exit_Reason",
)
MAX_TRADE_CONTRACTS = 1_000_000  # maximum of one trade
CASH_FLOW_STRATEGIES = (
    "DEPOSIT",
    "WITHDRAWAL",
)  # in the column `Strategy`: rows that are not trades


@dataclass(frozen=True, slots=True)
class ClosedTrade:
    """A closed trade, one row of trades.csv.

    trade_id: unique id, under which the trade is booked only once.
    strategy: value of the column `Strategy`, such as `PUT`.
    position_size: number of contracts, at least 1.
    total_profit: P/L of all contracts, USD.
    exit_time: value of the column `Exit_Time`.
    exit_reason: value of the column `Exit_Reason`.
    extra_columns: values of further columns, by column.
    """

    trade_id: str
    strategy: str
    position_size: int
    total_profit: Decimal
    exit_time: str
    exit_reason: str = ""
    extra_columns: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        for name in ("trade_id", "strategy", "exit_time", "exit_reason"):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"{name}: {getattr(self, name)!r} must be a string")
        if not self.trade_id.strip():
            raise InputError(
                "trade_id: is empty; give each closed trade an id, so that it is booked only once"
            )
        if any(map(_has_line_break, self.to_csv_row().values())):
            raise InputError(
                f"trade {self.trade_id[:50]!r}: a field contains a line break; remove it from all"
                " fields of the trade"
            )
        size = self.position_size
        if (
            isinstance(size, bool)
            or not isinstance(size, int)
            or not 1 <= size <= MAX_TRADE_CONTRACTS
        ):
            raise InputError(
                f"trade {self.trade_id}: position_size {str(size)[:50]} must be a whole number"
                f" from 1 to {MAX_TRADE_CONTRACTS:,}"
            )
        profit = self.total_profit
        if not isinstance(profit, Decimal):
            raise InputError(
                f"trade {self.trade_id}: P/L {str(profit)[:50]} has type {type(profit).__name__};"
                " give a Decimal"
            )
        if not has_supported_magnitude(profit):
            raise InputError(
                f"trade {self.trade_id}: P/L {str(profit)[:50]} is outside the range of amounts in"
                " USD"
            )
        if not self.exit_time.strip():
            raise InputError(f"{self.trade_id}: exit_time is empty; a closed trade needs one")

    def to_csv_row(self) -> dict[str, str]:
        """Return the trade's row of trades.csv, as text by column."""
        columns = {
            "Trade_ID": self.trade_id,
            "Strategy": self.strategy,
            "Position_Size": str(self.position_size),
            "Exit_Time": self.exit_time,
            "P/L_$": f"{self.total_profit:f}",
            "Exit_Reason": self.exit_reason,
        }
        return {**(self.extra_columns or {}), **columns}


def build_entry_columns(entry_time: str, strikes: str, credit: Decimal) -> dict[str, str]:
    """Return the columns of trades.csv that describe the entry into a spread.

    entry_time: New York time of the entry.
    strikes: strikes of the legs, separated by slashes.
    credit: credit of the sale, points.
    """
    return {"Timestamp_ET": entry_time, "Strikes": strikes, "Entry_Credit": f"{credit:.4f}"}


def parse_trade_rows(content: bytes) -> tuple[list[str], list[CsvRow]]:
    """Parse and validate the content of trades.csv; return its columns and its rows.

    Raises ValueError with the number of the invalid row, and the reason.
    """
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        columns = list(reader.fieldnames or ())
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"cannot be read: {error}") from None
    if not columns:
        raise ValueError("the file is empty")
    if missing := [name for name in ("Trade_ID", "P/L_$") if name not in columns]:
        raise ValueError(f"column {missing[0]!r} is missing; separate columns by commas")
    booked: set[str] = set()
    for number, row in enumerate(rows, 1):
        try:
            _check_row(row, booked)
        except ValueError as error:
            raise ValueError(f"row {number}: {error}") from None
    return columns, rows


def format_csv(columns: list[str], rows: list[CsvRow]) -> str:
    """Format rows as the text of a CSV file with these columns."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _check_row(row: Mapping[str, Any], booked: set[str]) -> None:
    """Validate a row, and add its trade id to `booked`. An open trade, without P/L, is not added.

    Raises ValueError for an invalid row, and for a trade id that is already in `booked`.
    """
    # csv.DictReader puts surplus fields under None, and None in place of missing ones.
    if None in row or any(value is None for value in row.values()):
        raise ValueError("the number of fields differs from the number of columns")
    if broken := [name for name, text in row.items() if _has_line_break(text)]:
        raise ValueError(f"{broken[0]} contains a line break; remove it")
    # A row without a result is an open trade, which does not count yet.
    if not row["P/L_$"].strip():
        if row.get("Exit_Time", "").strip():
            raise ValueError("Exit_Time is set but P/L_$ is empty; fill in P/L_$")
        return
    parse_total_profit(row)
    parse_position_size(row)
    name = row["Trade_ID"].strip()
    if name and name in booked:
        raise ValueError(f"Trade_ID {name} is listed twice; remove one row")
    booked.add(name)


def _has_line_break(text: str) -> bool:
    # Python's writer does not quote a carriage return, and its reader takes it for a row's end.
    return "\n" in text or "\r" in text


def parse_total_profit(row: Mapping[str, str]) -> Decimal:
    """Parse a row's P/L of all contracts, USD. Raises ValueError."""
    return parse_dollars(row["P/L_$"].strip(), "P/L_$")


def parse_dollars(text: str, name: str) -> Decimal:
    """Parse an amount of money, USD. Raises ValueError if the text is not an amount in range.

    name: name of the field, for messages.
    """
    try:
        amount = parse_number(text)
    except ValueError:
        raise ValueError(f"{name} is {text[:50]!r}, not a number") from None
    if not has_supported_magnitude(amount):
        raise ValueError(f"{name} is {text[:50]!r}, outside the supported range of amounts in USD")
    return amount


def parse_position_size(row: Mapping[str, str]) -> int:
    """Parse a row's number of contracts; 1 for an old row without `Position_Size`.

    Raises ValueError if it is not a whole number from 1 to MAX_TRADE_CONTRACTS.
    """
    word = row.get("Position_Size", "").strip()
    try:
        size = parse_number(word or "1")
    except ValueError:
        raise ValueError(f"Position_Size is {word[:50]!r}, not a number") from None
    # The exponent is checked first: the integer 1e9999999 has ten million digits.
    bounded = 0 <= size.adjusted() <= 6
    if not bounded or size != size.to_integral_value() or not 1 <= size <= MAX_TRADE_CONTRACTS:
        raise ValueError(
            f"Position_Size is {word[:50]!r}; expected a whole number from 1 to"
            f" {MAX_TRADE_CONTRACTS:,}"
        )
    return int(size)


def is_closed_trade(row: Mapping[str, str]) -> bool:
    """Return whether a row is a closed trade, and no open trade, deposit or withdrawal."""
    return (
        bool(row["P/L_$"].strip())
        and row.get("Strategy", "").strip().upper() not in CASH_FLOW_STRATEGIES
    )
