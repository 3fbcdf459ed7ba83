"""Closed trades read from trades.csv, and the sample of them for resampling."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from execution.orders.option_orders import SHARES_PER_OPTION
from foundation.decimals import parse_number
from foundation.errors import DataError
from option_spreads.autoscaler.rules import compute_max_risk
from option_spreads.autoscaler.trades import (
    CsvRow,
    is_closed_trade,
    parse_position_size,
    parse_total_profit,
    parse_trade_rows,
)
from option_spreads.simulation.resampling import IntArray, round_to_units
from trainingdata.instants import NEW_YORK, format_utc, new_york_day, parse_instant
from trainingdata.sessions import sessions_between

ENTRY_TIME_COLUMN = "Timestamp_ET"
EXIT_TIME_COLUMN = "Exit_Time"
MAX_ABS_PROFIT_USD = 10**9  # USD of a contract; sums of draws stay within 64-bit integers
_DATE_PATTERN = re.compile(r"\d{4}-\d{2}-\d{2}")
_TIME_PATTERN = re.compile(r"\d{2}:\d{2}(:\d{2})?")
_NEW_YORK_TIME_PATTERN = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?")


@dataclass(frozen=True, eq=False, slots=True)
class TradeSample:
    """Sample of N closed trades for resampling; amounts are ten-thousandths of a dollar.

    profit_units: P/L per contract [N].
    max_loss_units: maximum loss per contract of each trade [N].
    max_gain_units: maximum gain per contract of each trade, its credit [N].
    trades_per_day: mean number of trades per session, from the first session with a trade to the
        last.
    overlapping_trade_counts: number of preceding trades that were still open at each trade's entry
        [N].
    """

    profit_units: IntArray
    max_loss_units: IntArray
    max_gain_units: IntArray
    trades_per_day: float
    overlapping_trade_counts: IntArray

    @property
    def max_loss_count(self) -> int:
        """Return the number of trades that lost their maximum loss or more."""
        return int((self.profit_units <= -self.max_loss_units).sum())


class TradeRow(NamedTuple):
    """A closed trade from trades.csv, with amounts per contract.

    profit: P/L, USD.
    max_loss: maximum loss, USD.
    max_gain: maximum gain, the credit, USD.
    entry_time, exit_time: instants of entry and exit; None if the row does not state them.
    """

    profit: Fraction
    max_loss: Fraction
    max_gain: Fraction
    entry_time: np.datetime64 | None
    exit_time: np.datetime64 | None


def read_sample(path: Path, now: np.datetime64) -> TradeSample:
    """Read the closed trades of a file as a sample for resampling.

    now: the present instant; later entries and exits are refused.

    Raises DataError for an unreadable or invalid file, and without a closed trade.
    """
    return build_sample(read_closed_trades(path, now))


def read_closed_trades(path: Path, now: np.datetime64) -> list[TradeRow]:
    """Read the closed trades of a file, sorted by exit time if every row states one.

    P/L per contract is a row's total divided by its position size. The maximum loss follows from
    strategy, strikes and credit. Deposits and withdrawals are skipped.

    now: the present instant; later entries and exits are refused.

    Raises DataError for an unreadable or invalid file, and without a closed trade.
    """
    trades = []
    try:
        _, rows = parse_trade_rows(path.read_bytes())
        for number, row in enumerate(rows, 1):
            if is_closed_trade(row):
                try:
                    trades.append(_parse_trade(row, now))
                except ValueError as error:
                    raise ValueError(f"row {number}: {error}") from None
    except OSError as error:
        raise DataError(f"trades: {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"trades: {path}: {error}") from None
    if not trades:
        raise DataError(f"trades: {path} contains no closed trade")
    exits = [trade.exit_time for trade in trades]
    # Blocks and overlaps need trades in the order of their closing, however a file is sorted.
    if None not in exits:
        trades = [trades[k] for k in np.argsort(np.array(exits), kind="stable")]
    return trades


def build_sample(trades: Sequence[TradeRow]) -> TradeSample:
    """Build a sample from closed trades, at least one, sorted by exit time."""
    return TradeSample(
        profit_units=_to_units([trade.profit for trade in trades]),
        max_loss_units=_to_units([trade.max_loss for trade in trades]),
        max_gain_units=_to_units([trade.max_gain for trade in trades]),
        overlapping_trade_counts=np.array(
            [_count_still_open(trades, k) for k in range(len(trades))], dtype=np.int64
        ),
        trades_per_day=_trades_per_session(trades),
    )


def _count_still_open(trades: Sequence[TradeRow], number: int) -> int:
    """Return how many trades directly before trade `number` were still open at its entry.

    trades: trades in the order of their closing.
    """
    entered = trades[number].entry_time
    count = 0
    while entered is not None and count < number:
        left = trades[number - count - 1].exit_time
        if left is None or left <= entered:
            break
        count += 1
    return count


def _trades_per_session(trades: Sequence[TradeRow]) -> float:
    """Return the mean number of trades per session, from the first entry to the last.

    Sessions without a trade are included. A trade without an entry time adds one session.
    """
    days = [new_york_day(trade.entry_time) for trade in trades if trade.entry_time is not None]
    sessions = max(len(sessions_between(min(days), max(days))), 1) if days else 0
    return len(trades) / (sessions + len(trades) - len(days))


def _parse_trade(row: CsvRow, now: np.datetime64) -> TradeRow:
    amount, size = Fraction(parse_total_profit(row)), parse_position_size(row)
    if abs(amount) > MAX_ABS_PROFIT_USD * size:
        raise ValueError(
            f"P/L_$ {row['P/L_$']} is beyond {MAX_ABS_PROFIT_USD:,} USD per contract (Position_Size"
            f" {size}); check both columns"
        )
    risk = _max_loss_per_contract(row)
    gain = Fraction(parse_number(row["Entry_Credit"].strip())) * SHARES_PER_OPTION
    return TradeRow(amount / size, risk, gain, *_parse_trade_times(row, now))


def _to_units(values: Sequence[Fraction]) -> IntArray:
    """Convert USD to whole ten-thousandths of a dollar [N], so that balances of runs are exact."""
    return np.array([round_to_units(value) for value in values], dtype=np.int64)


def _max_loss_per_contract(row: CsvRow) -> Fraction:
    """Return the USD that one contract of a trade could lose: its width less its credit.

    The width comes from the row's strikes or, if it has none, from the strategy's default. The
    default alone would understate the loss of a wider spread.
    """
    credit = row.get("Entry_Credit", "").strip()
    words = row.get("Strikes", "").replace("-", "/").split("/")
    strikes = [_parse_cell(word.strip(), "Strikes:") for word in words if word.strip()]
    sides = zip(strikes[::2], strikes[1::2], strict=False)
    widths = [float(abs(long - short)) for short, long in sides]
    if not credit:
        raise ValueError("Entry_Credit is missing")
    # An iron condor has two sides, of which only one can be in the money at the close.
    width = max(widths) if widths else None
    points = _parse_cell(credit, "Entry_Credit")
    return Fraction(str(compute_max_risk(row.get("Strategy", ""), float(points), width)))


def _parse_cell(text: str, column: str) -> Decimal:
    """Parse a number in a row. Raises ValueError that names its column."""
    try:
        return parse_number(text)
    except ValueError as error:
        raise ValueError(f"{column} {error}") from None


def _parse_trade_times(
    row: CsvRow, now: np.datetime64
) -> tuple[np.datetime64 | None, np.datetime64 | None]:
    """Return the instants of a trade's entry and exit; None for one that the row does not state.

    If the entry is in New York time, an exit time without a date is on the same day. Any other exit
    that is not an instant counts as not stated. Raises ValueError for an unreadable entry, an
    instant in the future, and an exit before the entry.
    """
    entered, left = (row.get(name, "").strip() for name in (ENTRY_TIME_COLUMN, EXIT_TIME_COLUMN))
    entry = _parse_instant(entered) if entered else None
    if (
        entry is not None
        and _TIME_PATTERN.fullmatch(left)
        and _NEW_YORK_TIME_PATTERN.fullmatch(entered)
    ):
        left = f"{new_york_day(entry)} {left}"
    exit_at = None
    with suppress(ValueError):
        exit_at = _parse_instant(left, EXIT_TIME_COLUMN)
    for name, word, at in ((ENTRY_TIME_COLUMN, entered, entry), (EXIT_TIME_COLUMN, left, exit_at)):
        if at is not None and at > now:
            raise ValueError(
                f"{name} {word!r} is in the future (now {format_utc(now)}); correct it, or start"
                " a simulated index earlier (start=…)"
            )
    if entry is not None and exit_at is not None:
        # If either is a date only, the days are compared.
        whole_days = _DATE_PATTERN.fullmatch(left) or _DATE_PATTERN.fullmatch(entered)
        is_before = new_york_day(exit_at) < new_york_day(entry)
        if is_before or (not whole_days and exit_at < entry):
            raise ValueError(
                f"{EXIT_TIME_COLUMN} {left!r} is before {ENTRY_TIME_COLUMN} {entered!r}"
            )
    return entry, exit_at


def _parse_instant(word: str, name: str = ENTRY_TIME_COLUMN) -> np.datetime64:
    """Parse a date, a New York date and time, or an instant with a time zone; return the instant.

    name: column of the text, for the message.
    """
    if _NEW_YORK_TIME_PATTERN.fullmatch(word):
        # A time that no clock shows is left unchanged, and is refused with other errors.
        with suppress(ValueError):
            word = datetime.fromisoformat(word).replace(tzinfo=NEW_YORK).isoformat()
    return parse_instant(word, name=name)
