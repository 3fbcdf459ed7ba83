"""Reader of daily returns: a CSV or Parquet file with a date and a return or equity column."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pandas as pd

from foundation.arrays import Array, Index, first_true_index
from foundation.errors import DataError, InputError, format_choices
from foundation.formatting import format_percent
from marketsimulator.results.metrics import daily_returns
from marketsimulator.results.run_folder import SUMMARY_FILE
from marketsimulator.results.run_record import EQUITY_TABLE_NAME, read_run_record
from trainingdata.bars import CLOSE, OHLCV_FIELDS, OPEN
from trainingdata.instants import DAY, Dates, new_york_date, parse_instant_column
from trainingdata.sessions import exchange_calendar
from trainingdata.splits import find_symbol_jumps
from trainingdata.text_rows import read_text_frame

ReturnUnit = Literal["fraction", "percent"]

DATE_COLUMN_NAMES = (
    "date",
    "timestamp",
    "datetime",
    "time",
    "at",
    "day",
    "index",
    "unnamed: 0",
    "",
)
RETURN_COLUMN_NAMES = (
    "return",
    "returns",
    "ret",
    "rets",
    "daily_return",
    "daily_returns",
    "strategy",
)
PRICE_COLUMN_NAMES = ("adj_close", "close", "price")
EQUITY_COLUMN_NAMES = (
    *("equity", "nav", "value", "balance", "portfolio_value", "account_value"),
    *PRICE_COLUMN_NAMES,
)
_DATE_PATTERN = re.compile(r"(\d{4})[-/](\d{2})[-/](\d{2})(?:[T ].*)?|(\d{4})(\d{2})(\d{2})")
# A time of day with its zone, other than midnight, which labels a date.
_ZONED_TIME_PATTERN = r"[T ](?!00:00(?::00(?:\.0+)?)?[Z+-])\d{2}:\d{2}.*(?:Z|[+-]\d{2}:?\d{2})$"
# Headings of logarithmic or cumulative returns, and of profits in USD.
_OTHER_QUANTITY_PATTERN = re.compile(r"(?<![a-z])(?:log|cum|cumulative)(?![a-z])|^(?:pnl|profit)$")
# Median absolute return. Above the first, fractions would be a volatility of 190 % a year; below
# the second, percents would be one of 0.7 %; above the third, fractions would be one of 700 %.
MIN_PERCENT_MEDIAN_RETURN = 0.08
MAX_FRACTION_MEDIAN_RETURN = 0.03
MAX_MEDIAN_RETURN = 0.3
RUN_EQUITY_FILE = f"{EQUITY_TABLE_NAME}.parquet"
MIN_RETURN_COUNT = 2  # returns that have a standard deviation
MAX_MEDIAN_GAP_DAYS = 3  # calendar days between daily rows; weekly rows have 7
MIN_SHIFTED_ROWS = 7  # minimum number of rows that reveals shifted dates
# Share of rows after missing sessions above which each return starts at the row before, as in files
# with three or four rows per week. Below it, rows are missing, and a return is that of its day.
MIN_SPARSE_SHARE = 0.2


@dataclass(frozen=True, eq=False, slots=True)
class DailyReturns:
    """Valid daily returns, D of them.

    dates: [D] date of each return, which ends at the end of this date.
    values: [D] returns, fractions of at least -1.
    starts: [D] date at the end of which each return starts.
    """

    dates: Dates
    values: Array
    starts: Dates

    @classmethod
    def from_series(cls, returns: pd.Series, name: str) -> Self:
        """Validate a series of daily returns with a DatetimeIndex.

        The attribute `spans_gaps` of the series states that each return starts at the row before.

        name: name of the returns, for messages.

        Raises InputError for rows that are not daily, and for returns below -1 or not finite.
        """
        index = returns.index
        if not isinstance(index, pd.DatetimeIndex) or index.hasnans:
            raise InputError(f"{name}: the index must be a DatetimeIndex without NaT")
        if index.tz is not None and (index != index.normalize()).any():
            index = index.tz_convert("America/New_York")
        dates = index.tz_localize(None).to_numpy("datetime64[D]")
        try:
            values = returns.to_numpy(dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"{name}: {error}") from error
        _check_dates(dates, name)
        wrong = ~np.isfinite(values) | (values < -1)
        if wrong.any():
            row = first_true_index(wrong)
            raise InputError(
                f"{name}: {dates[row]}: return {values[row]:g} must be a fraction of at least -1"
            )
        if (size := np.median(np.abs(values))) > MAX_MEDIAN_RETURN:
            raise InputError(
                f"{name}: the median daily return {size:g} exceeds {MAX_MEDIAN_RETURN:g}; divide"
                " percents by 100, and convert prices by .pct_change().dropna()"
            )
        sessions = exchange_calendar().dates
        # The session before the first of the calendar is unknown.
        previous_sessions = np.append(sessions[0] - DAY, sessions)[np.searchsorted(sessions, dates)]
        has_weekends = not np.is_busday(dates).all()
        first_start = dates[:1] - DAY if has_weekends else previous_sessions[:1]
        previous_rows = np.append(first_start, dates[:-1])
        # A return starts at the row before, unless a session lies between the two rows.
        starts = np.maximum(previous_rows, previous_sessions)
        is_sparse = (starts > previous_rows).mean() > MIN_SPARSE_SHARE
        spans_gaps = returns.attrs.get("spans_gaps", is_sparse)
        return cls(dates, values, previous_rows if spans_gaps else starts)

    def bounds(self) -> pd.DataFrame:
        """Return a table of the days at the end of which a return starts or ends, in time order.

        Column `row`: number of returns up to the day.
        Column `segment`: number of the unbroken sequence of returns that contains the day.
        """
        opens = np.append(True, self.starts[1:] != self.dates[:-1])
        segment = np.cumsum(opens)
        columns = {
            "row": np.append(np.flatnonzero(opens), np.arange(len(opens)) + 1),
            "segment": np.append(segment[opens], segment),
        }
        return pd.DataFrame(columns, np.append(self.starts[opens], self.dates)).sort_index()

    def compound(self, first: Index, last: Index) -> Array:
        """Return the compounded returns [N] of the rows from `first` up to `last`, exclusive."""
        growth = np.append(1.0 + self.values, 1.0)
        rows = np.column_stack([first, last])
        return np.multiply.reduceat(growth, rows.ravel())[::2] - 1.0


def read_returns(
    path: Path,
    column: str | None = None,
    unit: ReturnUnit | None = None,
    *,
    accepts_jumps: bool = False,
) -> pd.Series:
    """Read daily returns as fractions, [D], by date.

    An equity or price column is converted to returns between the last rows of successive dates. The
    first row is the base; in a run's folder it is the capital, and days end as in the run. Stamps
    with a time of day and a zone are dated in New York. The series has the name of the file; its
    attribute `source` describes the column, and the unit or the base.

    column: name of the column; None: the one with a known name, or the only one.
    unit: unit of returns; None: inferred from percent signs, the heading, or the median return.
    accepts_jumps: whether prices may jump like an unadjusted split.

    Raises DataError for a file, a row, a unit or a price jump that cannot be used.
    """
    is_run = path.name == RUN_EQUITY_FILE and (path.parent / SUMMARY_FILE).is_file()
    frame = _read_run_equity(path) if is_run else read_text_frame(path, "daily returns")
    # pandas writes an unnamed Series as an unnamed column of dates and a column 0.
    names = [str(name) for name in frame.columns]
    date = next((name for name in DATE_COLUMN_NAMES if name in names), None)
    if date is None:
        raise DataError(
            f"{path}: no column of dates among {format_choices(names)}; name one of them date"
        )
    chosen, is_equity = _value_column(path, [name for name in names if name != date], column)
    if _OTHER_QUANTITY_PATTERN.search(chosen):
        raise DataError(
            f"{path}: column {chosen}: logarithmic or cumulative returns and profits in USD are no"
            " daily returns; give simple returns of each day, or equity"
        )
    if frame.empty:
        raise DataError(f"{path}: no rows below the header")
    dates = _parse_dates(path, frame[date], date)
    values, has_signs = _parse_numbers(path, frame[chosen], chosen)
    empty = int(np.isnan(values[0]))  # the first return of `pct_change`: its date is the base
    frame, dates, values = frame[empty:], dates[empty:], values[empty:]
    if dates[0] > dates[-1]:  # newest first
        frame, dates, values = frame[::-1], dates[::-1], values[::-1]
    if is_equity is None:  # unknown name: equity and prices are positive, some returns are not
        is_equity = bool((values > 0).all())
    if is_equity:
        if (values <= 0).any():
            row = first_true_index(values <= 0)
            raise DataError(
                f"{path}: {dates[row]}: {chosen} {values[row]:g} must be above 0: equity and prices"
                " are positive"
            )
        if _normalise_heading(chosen) in PRICE_COLUMN_NAMES and not accepts_jumps:
            _refuse_price_jump(path, dates, frame, chosen)
        text = f"{chosen}, as equity from {values[0]:,.10g} on {dates[0]}"
        # The return of the first date is known if the date has a row before its last one.
        last = np.append(dates[1:] != dates[:-1], True)
        skipped = int(last[0])
        values = daily_returns(np.append(values[:1], values[last])[skipped:])
        dates = dates[last][skipped:]
    else:
        _check_dates(dates, str(path))
        unit = unit or _detect_unit(path, values, chosen, has_signs=has_signs)
        values = values / 100.0 if unit == "percent" else values
        text = f"{chosen}, in {'percent' if unit == 'percent' else 'fractions'}"
    series = pd.Series(values, index=pd.DatetimeIndex(dates, name="date"), name=path.stem)
    series.attrs["source"] = f"{path.name}: column {text}"
    if is_equity:
        series.attrs["spans_gaps"] = True
    return series


def _read_run_equity(path: Path) -> pd.DataFrame:
    """Return the capital of a run's folder, then its equity at the end of each day, as texts."""
    marks, equity = read_run_record(path.parent).daily_equity_curve()
    return pd.DataFrame({"date": new_york_date(marks), EQUITY_TABLE_NAME: equity}).astype(str)


def _refuse_price_jump(path: Path, dates: Dates, frame: pd.DataFrame, column: str) -> None:
    """Raise DataError for a price that jumps like an unadjusted split.

    Prices on weekends are those of crypto, which has no splits.
    """
    if not np.is_busday(dates).all():
        return
    opens = "open" if column == "close" and "open" in frame.columns else column
    prices = np.full((len(dates), len(OHLCV_FIELDS)), np.nan)
    prices[:, [OPEN, CLOSE]] = frame[[opens, column]].apply(pd.to_numeric, errors="coerce")
    prices[prices <= 0] = np.nan
    jumps = find_symbol_jumps(path.stem, dates.astype("datetime64[ns]"), prices)
    if jumps:
        raise DataError(
            f"{path}: {jumps[0].bar_start.astype(dates.dtype)}: {jumps[0].observation}; adjust the"
            " prices in the file, or give daily returns if the move is real"
        )


def _check_dates(dates: Dates, name: str) -> None:
    """Raise InputError for dates that do not increase by days within the exchange calendar."""
    if len(dates) < MIN_RETURN_COUNT:
        raise InputError(
            f"{name}: at least {MIN_RETURN_COUNT} daily returns required, got {len(dates)}"
        )
    steps = np.diff(dates).astype(np.int64)
    if (steps <= 0).any():
        row = first_true_index(steps <= 0) + 1
        order = "appears twice" if steps[row - 1] == 0 else f"follows {dates[row - 1]}"
        raise InputError(f"{name}: {dates[row]} {order}; give one row per day, oldest first")
    first, last = exchange_calendar().dates[[0, -1]]
    for date in dates[[0, -1]]:
        if not first <= date <= last:
            raise InputError(
                f"{name}: {date} is outside the exchange calendar ({first} to {last}); remove it"
            )
    if np.median(steps) > MAX_MEDIAN_GAP_DAYS:
        raise InputError(
            f"{name}: rows are {np.median(steps):g} days apart (median), at most"
            f" {MAX_MEDIAN_GAP_DAYS} allowed; give daily returns"
        )
    # Stamps at midnight after a session, or at 20:00 New York in UTC, lie on Tuesday to Saturday.
    is_late = np.is_busday(dates - DAY).all()
    is_early = np.isin(dates + DAY, exchange_calendar().dates).all()
    weekend = ~np.is_busday(dates)
    if len(dates) >= MIN_SHIFTED_ROWS and weekend.any() and (is_late or is_early):
        raise InputError(
            f"{name}: {dates[weekend][0]} is no session: the dates are one day"
            f" {'after' if is_late else 'before'} the sessions; move each date one day"
            f" {'back' if is_late else 'forward'}"
        )


def _value_column(path: Path, names: list[str], column: str | None) -> tuple[str, bool | None]:
    """Return the column of values, and whether it is equity; None if its name is unknown."""
    if column is not None:
        name = column.strip().casefold()
        if name not in names:
            raise DataError(
                f"{path}: column: {column!r} is not among the columns; choose from"
                f" {format_choices(names)}"
            )
        return name, _is_equity(name)
    known = [name for name in names if _is_equity(name) is not None]
    returns = [name for name in known if not _is_equity(name)]
    if len(returns) > 1:
        raise DataError(
            f"{path}: columns {format_choices(returns)} all contain returns; keep one, or choose"
            " it with column=NAME"
        )
    if returns:
        return returns[0], False
    if known:  # adjusted closes come before closes in the list of names
        return min(
            known, key=lambda name: EQUITY_COLUMN_NAMES.index(_normalise_heading(name))
        ), True
    if len(names) == 1:
        return names[0], None
    raise DataError(
        f"{path}: no known column of returns or equity; name one `return` or `equity`, or choose"
        f" one of {format_choices(names) or 'none'} with column=NAME"
    )


def _normalise_heading(name: str) -> str:
    """Return a heading without unit and spaces: `daily return (%)` becomes `daily_return`."""
    return re.sub(r"\W+", "_", re.sub(r"\(?(%|\bpct\b|\bpercent\b)\)?", "", name)).strip("_")


def _is_equity(name: str) -> bool | None:
    key = _normalise_heading(name)
    return (
        key in EQUITY_COLUMN_NAMES if key in (*RETURN_COLUMN_NAMES, *EQUITY_COLUMN_NAMES) else None
    )


def _parse_dates(path: Path, cells: pd.Series, name: str) -> Dates:
    """Return the dates [N] of cells, `datetime64[D]`.

    Times of day with a zone, other than midnight, are dated in New York; others as written.
    """
    if cells.str.contains(_ZONED_TIME_PATTERN).any():
        return new_york_date(parse_instant_column(cells.str.replace("/", "-"), str(path)))
    dates = []
    for row, cell in enumerate(cells):
        match = _DATE_PATTERN.fullmatch(cell)
        try:
            parts = filter(None, match.groups()) if match else ("invalid",)
            dates.append(np.datetime64("-".join(parts), "D"))
        except ValueError:
            raise DataError(
                f"{path}: row {row + 1}: {name} {cell!r} is not a date; write it as 2024-03-04"
            ) from None
    return np.array(dates, dtype="datetime64[D]")


def _parse_numbers(path: Path, cells: pd.Series, name: str) -> tuple[Array, bool]:
    """Return the numbers of a column, [N], and whether they have percent signs.

    The first number is NaN if its cell is empty.
    """
    text = cells.str.removesuffix("%").str.strip()
    has_signs = cells.str.endswith("%").to_numpy(dtype=bool)
    values = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~np.isfinite(values)
    if len(wrong) > 1 and wrong[0] and text.iloc[0].casefold() in ("", "nan"):
        wrong[0] = False
        has_signs = np.append(has_signs[1], has_signs[1:])
    if wrong.any():
        row = first_true_index(wrong)
        raise DataError(f"{path}: row {row + 1}: {name} {cells.iloc[row]!r} is not a number")
    if has_signs.any() and not has_signs.all():
        row = first_true_index(has_signs != has_signs[0])
        raise DataError(
            f"{path}: row {row + 1}: some cells of {name} have a percent sign, others have none;"
            " write all the same way"
        )
    return values, bool(has_signs.all())


def _detect_unit(path: Path, values: Array, name: str, *, has_signs: bool) -> ReturnUnit:
    """Return the unit of returns by percent signs, the heading or the median absolute return."""
    if has_signs or re.search(r"%|\bpct\b|\bpercent\b", name):
        return "percent"
    moves = np.abs(values[values != 0])
    size = float(np.median(moves)) if len(moves) else 0.0
    if size <= MAX_FRACTION_MEDIAN_RETURN:  # a return below -1 is refused later
        return "fraction"
    if size >= MIN_PERCENT_MEDIAN_RETURN or (values < -1).any():
        return "percent"
    raise DataError(
        f"{path}: {name}: the median return {size:.3g} may be {format_percent(size, 1)} or"
        f" {size:.3g}%;"
        f" set unit=fraction or unit=percent, or head the column '{name} (%)'"
    )
