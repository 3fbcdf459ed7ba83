"""Parsing of prices and volumes from cells; an invalid cell raises an error with its cause."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from foundation.arrays import Array, first_true_index
from foundation.errors import DataError
from trainingdata.bars import OHLCV_FIELDS, VOLUME, row_error
from trainingdata.file_formats import FileFormat
from trainingdata.instants import format_cell

_THOUSANDS = r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?"
_MULTIPLES = {"K": 1e3, "M": 1e6, "B": 1e9}
_NO_NUMBER = ("NaN", "nan")


def parse_number_columns(frame: pd.DataFrame, file_format: FileFormat, path: str) -> Array:
    """Parse open, high, low, close and volume, [N, 5]; finite except in rows without a trade.

    frame: the rows, with the columns of the header.
    file_format: format of the file.
    path: path of the file, for messages.

    Raises DataError for a cell that is not a number.
    """
    columns: list[Array] = []
    gaps = np.zeros(len(frame), dtype=bool)
    if file_format.has_empty_rows:
        cells = frame[list(file_format.ohlcv_columns)]
        gaps = (cells.isna() | cells.isin(_NO_NUMBER)).all(axis=1).to_numpy(dtype=bool)
    for field, name in zip(OHLCV_FIELDS, file_format.ohlcv_columns, strict=True):
        cells_of = frame[name]
        if file_format.has_formatted_numbers or _has_thousands_commas(cells_of, prices=columns):
            cells_of = _strip_decoration(cells_of, field)
        numbers = pd.to_numeric(cells_of, errors="coerce")
        column = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
        finite = np.isfinite(column) | gaps
        if not finite.all() and cells_of.isna().all():
            raise DataError(
                f"{path}: column {name} ({field}) is empty; download the file again with this"
                " column"
            )
        # True and false would pass for 1 and 0.
        if not finite.all() or pd.api.types.is_bool_dtype(frame[name]):
            row = 0 if finite.all() else first_true_index(~finite)
            raise row_error(
                path,
                row,
                f"{field} is {format_cell(frame[name].iloc[row])}, not a number;"
                f" {_number_advice(str(frame[name].iloc[row]))}",
            )
        columns.append(column)
    values = np.stack(columns, axis=1)
    prices = frame[list(file_format.ohlcv_columns[:VOLUME])]
    if all(map(pd.api.types.is_integer_dtype, prices.dtypes)):
        values[:, :VOLUME] /= file_format.whole_price_units
    return values


def _strip_decoration(column: pd.Series, field: str) -> pd.Series:
    """Return numbers without signs and separators: 1234.5 for $1,234.5, 1500 for a volume 1.5K."""
    if pd.api.types.is_numeric_dtype(column):
        return column
    text = column.astype("string").str.strip().str.removeprefix("$")
    thousands = text.str.fullmatch(_THOUSANDS).fillna(False)
    text = text.where(~thousands, text.str.replace(",", ""))
    if field != OHLCV_FIELDS[VOLUME]:
        return text
    numbers = pd.to_numeric(text.str.replace("[KMB]$", "", regex=True), errors="coerce")
    return numbers * text.str[-1].map(_MULTIPLES).fillna(1).astype(float)


def _has_thousands_commas(column: pd.Series, prices: Sequence[Array]) -> bool:
    """Return whether commas in a column separate thousands, and are not decimal commas.

    This is certain if every number from 1,000 on has such commas, and if a decimal point occurs in
    the column or in the prices.

    prices: previously parsed columns, [N] each.
    """
    if pd.api.types.is_numeric_dtype(column):
        return False
    cells = column.astype("string").str.strip()
    form = rf"{_THOUSANDS}|-?\d{{1,3}}(?:\.\d+)?"
    if (
        not re.fullmatch(form, str(cells.iloc[0]))
        or not cells.str.fullmatch(form).fillna(False).all()
    ):
        return False
    has_decimals = any((price[np.isfinite(price)] % 1 != 0).any() for price in prices)
    return has_decimals or bool(cells.str.contains(".", regex=False).any())


def _number_advice(cell: str) -> str:
    """Return advice on how to write a cell that is not a number."""
    text = cell.strip()
    if text == "nan":
        return "fill in the cell, or remove the row if nothing traded"
    for mark, name in (("$", "dollar signs"), ("%", "percent signs")):
        if mark in text:
            return f"remove the {name}; write plain numbers such as 1234.5"
    if re.fullmatch(_THOUSANDS, text):
        plain = text.replace(",", "")
        if text.count(",") == 1 and "." not in text:
            return (
                f"the comma may separate thousands or decimals; write {plain} or"
                f" {text.replace(',', '.')}"
            )
        return f"remove the thousands separators; write {plain}"
    if re.fullmatch(r"-?[\d.]*,\d+", text):
        return "replace the decimal comma by a point, such as 1234.5"
    return "write plain numbers such as 1234.5, and remove rows without trades"
