"""Reader of daily returns: a CSV or Parquet file with a date and a return or equity column."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from foundation.arrays import Array, first_true
from foundation.errors import DataError, InputError, list_choices
from foundation.formatting import percent
from trainingdata.text_rows import text_frame

Unit = Literal["fraction", "percent"]

DATE_NAMES = ("date", "timestamp", "datetime", "time", "at", "day", "index", "unnamed: 0", "")
RETURN_NAMES = ("return", "returns", "ret", "rets", "daily_return", "daily_returns", "strategy")
EQUITY_NAMES = (
    *("equity", "nav", "value", "balance", "portfolio_value", "account_value"),
    *("adj_close", "close", "price"),
)
_DATE = re.compile(r"(\d{4})[-/](\d{2})[-/](\d{2})(?:[T ].*)?|(\d{4})(\d{2})(\d{2})")
# Median size of the moves. Above the first, fractions would make a volatility of 190 % a year;
# below the second, percents would make one of 0.7 %.
MIN_PERCENT_SIZE = 0.08
MAX_FRACTION_SIZE = 0.03


def read_returns(path: Path, column: str | None = None, unit: Unit | None = None) -> pd.Series:
    """Read daily returns as fractions, [D], with the dates as written in the file.

    An equity or price column becomes returns between the last rows of its dates. The name of the
    series is that of the file, and its attribute `source` describes what was read.

    column: name of the column; None: the one with a known name, or the only one.
    unit: unit of returns; None: recognised by percent signs, the heading, or the size of the moves.

    Raises DataError for a file, a row or a unit that cannot be read.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: there is no such file; a CSV or Parquet of daily returns is needed"
        )
    frame = text_frame(path, "daily returns")
    # A file of a program may have one unnamed column of dates, and one named 0.
    names = [str(name) for name in frame.columns]
    date = next((name for name in DATE_NAMES if name in names), None)
    if date is None:
        raise DataError(f"{path}: no column of dates; name it date; it has {list_choices(names)}")
    chosen, is_equity = _value_column(path, [name for name in names if name != date], column)
    if frame.empty:
        raise DataError(f"{path}: there are no rows")
    index = pd.DatetimeIndex(_dates(path, frame[date], date), name="date")
    values, has_signs = _numbers(path, frame[chosen], chosen)
    if is_equity is None:  # no known name: prices and equity are never negative, returns are
        is_equity = bool((values > 0).all())
    if len(index) > 1 and index[0] > index[-1]:  # newest first
        index, values = index[::-1], values[::-1]
    if is_equity:
        if (values <= 0).any():
            row = first_true(values <= 0)
            raise DataError(
                f"{path}: {index[row].date()}: {chosen} is {values[row]:g}; equity must be above 0"
            )
        last = ~index.duplicated(keep="last")
        index, values = index[last][1:], values[last][1:] / values[last][:-1] - 1.0
        text = f"{chosen}, as equity"
    else:
        unit = unit or _unit(path, values, chosen, has_signs=has_signs)
        values = values / 100.0 if unit == "percent" else values
        text = f"{chosen}, in {'percent' if unit == 'percent' else 'fractions'}"
    series = pd.Series(values, index=index, name=path.stem)
    series.attrs["source"] = f"{path.name}: column {text}"
    return series


def _value_column(path: Path, names: list[str], column: str | None) -> tuple[str, bool | None]:
    """Return the column of values, and whether it is equity; None if its name does not show it."""
    if column is not None:
        name = column.strip().casefold()
        if name not in names:
            raise DataError(f"{path}: column: no column {column!r}; it has {list_choices(names)}")
        return name, _is_equity(name)
    known = [name for name in names if _is_equity(name) is not None]
    returns = [name for name in known if not _is_equity(name)]
    if returns or known:
        found = returns or known
        if len(found) > 1 and returns:
            raise DataError(
                f"{path}: {list_choices(found)} are returns; choose one with column=NAME"
            )
        # Adjusted closes come before closes in the list of names.
        return min(found, key=lambda name: _rank(name)), not returns
    if len(names) == 1:
        return names[0], None
    raise DataError(
        f"{path}: which column has the returns or the equity? Choose one with column=NAME of"
        f" {list_choices(names) or 'none'}"
    )


def _key(name: str) -> str:
    """Return a heading without unit and spaces: `daily return (%)` is `daily_return`."""
    return re.sub(r"\W+", "_", re.sub(r"\(?(%|\bpct\b|\bpercent\b)\)?", "", name)).strip("_")


def _rank(name: str) -> int:
    return EQUITY_NAMES.index(_key(name)) if _key(name) in EQUITY_NAMES else 0


def _is_equity(name: str) -> bool | None:
    key = _key(name)
    return key in EQUITY_NAMES if key in (*RETURN_NAMES, *EQUITY_NAMES) else None


def _dates(path: Path, cells: pd.Series, name: str) -> Array:
    """Return the written dates, [N] `datetime64[D]`; a time of day and its zone are not read."""
    found = []
    for row, cell in enumerate(cells):
        match = _DATE.fullmatch(cell)
        try:
            parts = [part for part in match.groups() if part] if match else []
            found.append(np.datetime64("-".join(parts), "D") if parts else None)
        except ValueError:
            found.append(None)
        if found[-1] is None:
            raise DataError(f"{path}: row {row + 1}: {name} {cell!r} is not a date (YYYY-MM-DD)")
    return np.array(found, dtype="datetime64[D]")


def _numbers(path: Path, cells: pd.Series, name: str) -> tuple[Array, bool]:
    """Return the numbers of a column, [N], and whether they have percent signs."""
    text = cells.str.removesuffix("%").str.strip()
    has_signs = cells.str.endswith("%").to_numpy(dtype=bool)
    values = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64)
    # The first return of a series that a library computed is empty.
    wrong = ~np.isfinite(values)
    if len(wrong) > 1 and wrong[0] and text.iloc[0].casefold() in ("", "nan"):
        values[0], wrong[0] = 0.0, False
        has_signs[0] = has_signs[1:].all()
    if wrong.any():
        row = first_true(wrong)
        raise DataError(f"{path}: row {row + 1}: {name} {cells.iloc[row]!r} is not a number")
    if has_signs.any() and not has_signs.all():
        row = first_true(has_signs != has_signs[0])
        raise DataError(
            f"{path}: row {row + 1}: some cells of {name} have a percent sign, some not"
        )
    return values, bool(has_signs.all())


def _unit(path: Path, values: Array, name: str, *, has_signs: bool) -> Unit:
    """Return the unit of returns by percent signs, the heading or the size of the moves."""
    if has_signs or re.search(r"%|\bpct\b|\bpercent\b", name):
        return "percent"
    moves = np.abs(values[values != 0])
    size = float(np.median(moves)) if len(moves) else 0.0
    if size >= MIN_PERCENT_SIZE or (values < -1).any():
        return "percent"
    if size <= MAX_FRACTION_SIZE:
        return "fraction"
    raise DataError(
        f"{path}: {name}: is a usual move of {size:.3g} {percent(size, 1)} or {size:.3g}%? State"
        " unit=fraction or unit=percent"
    )
