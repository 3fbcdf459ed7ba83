"""Reader of daily returns: a CSV or Parquet file with a date and a return or equity column."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from foundation.arrays import Array, first_true_index
from foundation.errors import DataError, InputError, format_choices
from foundation.formatting import format_percent
from trainingdata.instants import Dates
from trainingdata.sessions import exchange_calendar
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
EQUITY_COLUMN_NAMES = (
    *("equity", "nav", "value", "balance", "portfolio_value", "account_value"),
    *("adj_close", "close", "price"),
)
_DATE_PATTERN = re.compile(r"(\d{4})[-/](\d{2})[-/](\d{2})(?:[T ].*)?|(\d{4})(\d{2})(\d{2})")
# Median absolute return. Above the first, fractions would be a volatility of 190 % a year; below
# the second, percents would be one of 0.7 %.
MIN_PERCENT_MEDIAN_RETURN = 0.08
MAX_FRACTION_MEDIAN_RETURN = 0.03
MIN_RETURN_COUNT = 2  # returns that have a standard deviation
MAX_MEDIAN_GAP_DAYS = 3  # calendar days between daily rows; weekly rows have 7


def read_returns(
    path: Path, column: str | None = None, unit: ReturnUnit | None = None
) -> pd.Series:
    """Read daily returns as fractions, [D], by the dates written in the file.

    An equity or price column is converted to returns between the last rows of successive dates. The
    series has the name of the file; its attribute `source` describes the column and the unit.

    column: name of the column; None: the one with a known name, or the only one.
    unit: unit of returns; None: inferred from percent signs, the heading, or the median return.

    Raises DataError for a file, a row or a unit that cannot be read.
    """
    frame = read_text_frame(path, "daily returns")
    # pandas writes an unnamed Series as an unnamed column of dates and a column 0.
    names = [str(name) for name in frame.columns]
    date = next((name for name in DATE_COLUMN_NAMES if name in names), None)
    if date is None:
        raise DataError(
            f"{path}: no column of dates among {format_choices(names)}; name one of them date"
        )
    chosen, is_equity = _value_column(path, [name for name in names if name != date], column)
    if frame.empty:
        raise DataError(f"{path}: no rows below the header")
    index = pd.DatetimeIndex(_parse_dates(path, frame[date], date), name="date")
    values, has_signs = _parse_numbers(path, frame[chosen], chosen)
    if is_equity is None:  # unknown name: equity and prices are positive, some returns are not
        is_equity = bool((values > 0).all())
    if len(index) > 1 and index[0] > index[-1]:  # newest first
        index, values = index[::-1], values[::-1]
    if is_equity:
        if (values <= 0).any():
            row = first_true_index(values <= 0)
            raise DataError(
                f"{path}: {index[row].date()}: {chosen} {values[row]:g} must be above 0: equity"
                " and prices are positive"
            )
        last = ~index.duplicated(keep="last")
        index, values = index[last][1:], values[last][1:] / values[last][:-1] - 1.0
        text = f"{chosen}, as equity"
    else:
        _check_dates(index.to_numpy("datetime64[D]"), str(path))
        unit = unit or _detect_unit(path, values, chosen, has_signs=has_signs)
        values = values / 100.0 if unit == "percent" else values
        text = f"{chosen}, in {'percent' if unit == 'percent' else 'fractions'}"
    series = pd.Series(values, index=index, name=path.stem)
    series.attrs["source"] = f"{path.name}: column {text}"
    return series


def check_daily_returns(returns: pd.Series, name: str) -> tuple[Dates, Array]:
    """Return the dates [D] and the values [D] of valid daily returns.

    name: name of the returns, for messages.

    Raises InputError for rows that are not daily, and for returns below -1 or not finite.
    """
    index = returns.index
    if not isinstance(index, pd.DatetimeIndex) or index.hasnans:
        raise InputError(f"{name}: the index must be a DatetimeIndex without NaT")
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
    return dates, values


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


def _parse_dates(path: Path, cells: pd.Series, name: str) -> Array:
    """Return the dates [N] of cells, `datetime64[D]`; time of day and time zone are ignored."""
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
    """Return the numbers of a column, [N], and whether they have percent signs."""
    text = cells.str.removesuffix("%").str.strip()
    has_signs = cells.str.endswith("%").to_numpy(dtype=bool)
    values = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64)
    # The first return of `pct_change` is empty.
    wrong = ~np.isfinite(values)
    if len(wrong) > 1 and wrong[0] and text.iloc[0].casefold() in ("", "nan"):
        values[0], wrong[0] = 0.0, False
        has_signs[0] = has_signs[1:].all()
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
    if size >= MIN_PERCENT_MEDIAN_RETURN or (values < -1).any():
        return "percent"
    if size <= MAX_FRACTION_MEDIAN_RETURN:
        return "fraction"
    raise DataError(
        f"{path}: {name}: the median return {size:.3g} may be {format_percent(size, 1)} or"
        f" {size:.3g}%;"
        f" set unit=fraction or unit=percent, or head the column '{name} (%)'"
    )
