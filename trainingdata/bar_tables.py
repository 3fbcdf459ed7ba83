"""Reading of bar files as tables: CSV (UTF-8, commas) or Parquet, with a known header.

No row of a file is dropped silently: a file with an ambiguous row is rejected.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from foundation.arrays import Index, first_true_index
from foundation.errors import DataError, InputError, to_one_line
from foundation.formatting import format_count
from trainingdata.bars import row_error
from trainingdata.columns import (
    UNNAMED_COLUMN,
    detect_format,
    has_company_names,
    infer_separator,
    refuse_other_separator,
)
from trainingdata.file_formats import FileFormat
from trainingdata.instruments import normalize_data_symbol

_PRICE, _TICKER = "Price", "Ticker"  # first cells of yfinance's first two lines
_PANDAS_INDEX_COLUMN = "__index_level_0__"  # pandas' name in Parquet for an unnamed index
_SURPLUS_COLUMN = "\0surplus"
_READ_CSV_OPTIONS: dict[str, Any] = {
    "keep_default_na": False,
    "na_values": [""],
    "low_memory": False,
}
# A quoted cell on one line (RFC 4180); a mark inside is doubled.
_QUOTED = re.compile(rb'(?<![^,\r\n])"(?:[^"\r\n]|"")*"(?=[,\r\n]|\Z)')
_ADDRESS = re.compile(rb'"?(?:https?://|www\.)[^\s,]+"?,*', re.IGNORECASE)
_FOOTER = re.compile(rb'"?Downloaded from Barchart[^\r\n]*\s*\Z')
_SCIENTIFIC = re.compile(r"\d(?:\.(\d+))?e\+?(\d+)", re.IGNORECASE)
_MIN_SCIENTIFIC_EXPONENT = 16
_OTHER_FORMATS = re.compile(rb"\s*(?:([{\[])|<(?:!|html))", re.IGNORECASE)


@dataclass(frozen=True, eq=False, slots=True)
class BarTable:
    """The rows of a bar file, and the format that its header identifies.

    path: path of the file, for messages.
    file_format: the format.
    frame: the columns; columns that the format declares as text are text.
    """

    path: str
    file_format: FileFormat
    frame: pd.DataFrame

    def spelling_by_symbol(self) -> dict[str, str]:
        """Return the file's spelling of each symbol; empty if the file has no symbol column.

        Raises DataError for an empty cell, and for two spellings of one symbol.
        """
        if (
            not self.file_format.symbol_column
            or self.file_format.symbol_column not in self.frame.columns
        ):
            return {}
        column = self.frame[self.file_format.symbol_column]
        if column.isna().any():
            row = first_true_index(column.isna().to_numpy(bool))
            raise row_error(
                self.path, row, f"{self.file_format.symbol_column} is empty; fill in the symbol"
            )
        spelled: dict[str, str] = {}
        for cell in sorted(column.astype(str).unique()):
            symbol = _symbol_in_cell(cell)
            if symbol in spelled:
                raise DataError(
                    f"{self.path}: {spelled[symbol]!r} and {cell!r} are the same symbol; use one"
                    " spelling"
                )
            spelled[symbol] = cell
        return spelled

    def rows_by_symbol(self) -> SymbolRows:
        """Return the rows grouped by symbol, or as one group if no column names symbols."""
        spellings = self.spelling_by_symbol()
        if not spellings:
            return SymbolRows(self, {}, {})
        rows = self.frame.groupby(self.file_format.symbol_column).indices
        return SymbolRows(
            self, spellings, {str(cell): np.asarray(found) for cell, found in rows.items()}
        )


class SymbolRows(NamedTuple):
    """The rows of a table, grouped by symbol.

    table: table of one file.
    spelling_by_symbol: spelling of each symbol in the file; empty if no column names symbols.
    row_indices_by_symbol: row indices of each spelling.
    """

    table: BarTable
    spelling_by_symbol: dict[str, str]
    row_indices_by_symbol: dict[str, Index]

    def select(self, symbol: str) -> pd.DataFrame:
        """Return the rows of a symbol in the order of the file."""
        if len(self.spelling_by_symbol) < 2:
            return self.table.frame
        return self.table.frame.iloc[self.row_indices_by_symbol[self.spelling_by_symbol[symbol]]]


def gather_symbol_rows(
    tables: Sequence[SymbolRows], symbol: str
) -> tuple[list[pd.DataFrame], FileFormat, str]:
    """Collect a symbol's rows from all files of a series.

    Returns the rows in each file, the format of the files, and their path for messages.

    tables: the table of each file; several if each file has a day or a month of many symbols.

    Raises DataError for files with different headers.
    """
    first = tables[0]
    head = first.table.file_format
    spelling = first.spelling_by_symbol.get(symbol, symbol)
    if len(tables) == 1:
        several = len(first.spelling_by_symbol) > 1
        place = first.table.path + f", rows of {spelling}" * several
        return [first.select(symbol)], head, place
    for other in tables[1:]:
        if _series_format(other.table.file_format) != _series_format(head):
            raise DataError(
                f"{symbol}: files {first.table.path} and {other.table.path} have different headers;"
                " keep the files of each vendor in a separate folder"
            )
    parts = [part for part in (table.select(symbol) for table in tables) if len(part)]
    others = format_count(len(tables) - 1, "more file")
    place = f"{first.table.path} and {others}, joined rows of {spelling}"
    return parts, head, place


def _series_format(head: FileFormat) -> FileFormat:
    """Return a format without the fields that may differ between months of one series.

    For example, Binance's archive has a header row in some months and none in others.
    """
    return replace(head, is_headerless=False, unknown_columns=())


@cache
def _symbol_in_cell(cell: str) -> str:
    """Return the symbol in a cell of the symbol column, or the cell's text if it contains none."""
    try:
        return normalize_data_symbol(cell)
    except InputError:
        return cell


def symbols_in_column(path: Path) -> tuple[str, ...]:
    """Return the distinct symbols in a file's symbol column; empty without such a column.

    Raises DataError if the file's format or its symbol column cannot be read.
    """
    # The whole file is read only if it has a symbol column, or to report the cause of an error.
    with suppress(OSError, ValueError, csv.Error):
        names = _read_column_names(path)
        is_wide = names[0] == _PRICE
        if not is_wide and detect_format(names, str(path)).symbol_column not in filter(None, names):
            return ()
    return tuple(read_bar_table(path).spelling_by_symbol())


def _read_column_names(path: Path) -> list[str]:
    """Return the column names of a Parquet file, or the cells of a CSV file's first line."""
    with path.open("rb") as file:
        if path.suffix.lower() != ".parquet":
            first = file.readline()
            return _split_cells(
                _semicolons_to_commas(file.readline() if _is_web_address(first) else first)
            )
        import pyarrow.parquet as pq

        return _parquet_column_names(pq.read_schema(file).names)


def read_bar_table(path: Path) -> BarTable:
    """Read a bar file as a table.

    Raises DataError for a file that cannot be read.
    """
    try:
        if path.suffix.lower() != ".parquet":
            return _parse_csv(path.read_bytes(), str(path))
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            # pandas' index is read as a column like any other.
            frame = file.read().to_pandas(ignore_metadata=True)
        frame.columns = pd.Index(_parquet_column_names(frame.columns))
    except DataError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
    return _build_table(str(path), detect_format(list(frame.columns), str(path)), frame)


def _parse_csv(raw: bytes, path: str) -> BarTable:
    _refuse_undecodable_bytes(raw, path)
    text = _semicolons_to_commas(raw.removeprefix(codecs.BOM_UTF8))
    _refuse_other_formats(text, path)
    first, _, rest = text.partition(b"\n")
    if _is_web_address(first):
        text = rest
        first, _, rest = text.partition(b"\n")
    names = _split_cells(first)
    refuse_other_separator(names, path)
    _refuse_open_quotes(text, path)
    if not any(names):
        empty = "its first line" if text.strip() else "the file"
        raise DataError(f"{path}: {empty} is empty; the first line must be the header")
    rest = _FOOTER.sub(b"", rest)
    _refuse_second_header(first, rest, path)
    if names[0] == _PRICE:
        return _parse_yfinance_csv(text, path)
    head = detect_format(names, path)
    body, columns = (
        (first + b"\n" + rest, head.columns)
        if head.is_headerless
        else (rest, _make_names_distinct(names))
    )
    _refuse_rounded_epochs(head, columns, body, path)
    # A date may not be parsed as a number.
    words = () if head.epoch_formats else head.timestamp_columns
    return _build_table(
        path, head, _parse_csv_body(body, columns, (*words, head.symbol_column), path)
    )


def _refuse_rounded_epochs(head: FileFormat, names: Sequence[str], body: bytes, path: str) -> None:
    """Reject an epoch timestamp in the first row that a spreadsheet rounded, such as 1.70E+12."""
    first = dict(zip(names, _split_cells(io.BytesIO(body).readline()), strict=False))
    cell = first.get(head.timestamp_columns[0], "")
    found = _SCIENTIFIC.fullmatch(cell)
    # Programs write floats below 1e16 in full.
    if found and len(found[1] or "") < int(found[2]) < _MIN_SCIENTIFIC_EXPONENT:
        raise row_error(
            path,
            0,
            f"{head.timestamp_columns[0]} {cell!r} is rounded: a spreadsheet has shortened the"
            " number; save the column as whole numbers, or download the file again",
        )


def _refuse_second_header(first: bytes, rest: bytes, path: str) -> None:
    """Reject a file that repeats its header row, as concatenated files do."""
    head = first.strip()
    at = rest.find(b"\n" + head)
    if at >= 0 and not head[:1].isdigit():
        line = rest.count(b"\n", 0, at) + 3
        raise DataError(
            f"{path}: line {line} repeats the header row; remove the line, and check that the rows"
            " of concatenated files do not overlap"
        )


def _is_web_address(line: bytes) -> bool:
    """Return whether a line is only a web address, as CryptoDataDownload's first line is."""
    return bool(_ADDRESS.fullmatch(line.removeprefix(codecs.BOM_UTF8).strip()))


def _build_table(path: str, head: FileFormat, frame: pd.DataFrame) -> BarTable:
    """Return the table of a file. A symbol column with company names is ignored."""
    if head.symbol_column in frame.columns and has_company_names(
        head, frame[head.symbol_column].astype(str)
    ):
        head = replace(
            head, symbol_column="", unknown_columns=(*head.unknown_columns, head.symbol_column)
        )
    return BarTable(path, head, frame)


def _refuse_other_formats(text: bytes, path: str) -> None:
    """Reject JSON and HTML, such as a server's error message that was saved as CSV."""
    if found := _OTHER_FORMATS.match(text):
        name = "JSON" if found[1] else "HTML"
        line = to_one_line(text.strip().partition(b"\n")[0].decode()[:80])
        raise DataError(
            f"{path}: the file contains {name}, not CSV: {line}; download the bars again as CSV"
        )


def _refuse_open_quotes(text: bytes, path: str) -> None:
    """Reject quotation marks that do not enclose a whole cell on one line.

    An open quotation mark would join all rows up to the next quotation mark.
    """
    if b'"' not in text:
        return
    rest = _QUOTED.sub(b"", text)
    if b'"' in rest:
        line = rest.count(b"\n", 0, rest.index(b'"')) + 1
        raise DataError(
            f"{path}: line {line} has an unmatched quotation mark; remove it, or double quotation"
            " marks inside quoted cells"
        )


def _parquet_column_names(names: Iterable[str]) -> list[str]:
    """Return the column names of a Parquet file, normalised like those of a CSV file."""
    return [UNNAMED_COLUMN if name == _PANDAS_INDEX_COLUMN else str(name).strip() for name in names]


def _make_names_distinct(names: Sequence[str]) -> list[str]:
    """Make column names distinct: repeated names, which are never read, get a suffix."""
    seen: dict[str, int] = {}
    distinct = []
    for name in names:
        count = seen[name] = seen.get(name, 0) + 1
        distinct.append(name if count == 1 else f"{name}\0{count}")
    return distinct


def _refuse_undecodable_bytes(text: bytes, path: str) -> None:
    """Reject bytes that are not UTF-8 text: another encoding, or a truncated file."""
    if b"\0" in text:
        if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise DataError(f"{path}: line 1 is encoded as UTF-16; save the file as UTF-8")
        line = text.count(b"\n", 0, text.index(b"\0")) + 1
        raise DataError(
            f"{path}: line {line} contains zero bytes, so the file is damaged; download it again"
        )
    try:
        text.decode()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}: line {line} is not UTF-8; save the file as UTF-8") from None


def _split_cells(line: bytes) -> list[str]:
    text = line.decode(errors="replace").removeprefix("\ufeff").rstrip("\r\n")
    return [name.strip() for name in next(csv.reader([text]), []) or [""]]


def _semicolons_to_commas(text: bytes) -> bytes:
    """Replace semicolons by commas if the header is that of a vendor who separates by semicolons.

    Text that also has commas is unchanged, and its header is rejected later.
    """
    head = text.partition(b"\n")[0]
    if b";" not in head or b"," in text:
        return text
    separator = infer_separator(head.decode()).encode()
    return text.replace(separator, b",")


def _parse_yfinance_csv(text: bytes, path: str) -> BarTable:
    """Return the table of a file of `yfinance.download`, converted from wide to long.

    The file has header rows of fields and tickers, and one column per field and ticker. The result
    has one row per timestamp and ticker.
    """
    try:
        wide = pd.read_csv(io.BytesIO(text), header=[0, 1], index_col=0, **_READ_CSV_OPTIONS)
    except (ValueError, pd.errors.ParserError) as error:
        raise DataError(f"{path}: cannot be read: {error}".rstrip()) from error
    if list(wide.columns.names) != [_PRICE, _TICKER]:
        raise DataError(
            f"{path}: line 2 does not start with {_TICKER}, but line 1 with {_PRICE}, as in files"
            " of yfinance; download the file again"
        )
    # Every ticker has a row, also where only another one traded.
    frame = wide.stack(_TICKER, future_stack=True).dropna(how="all").reset_index()
    # Only Yahoo writes this form: no column has to show it.
    head = replace(detect_format(list(frame.columns), path), marker_columns=())
    return BarTable(path, head, frame)


def _parse_csv_body(
    body: bytes, names: Sequence[str], text: Sequence[str], path: str
) -> pd.DataFrame:
    """Parse CSV text without its header, one row per line.

    names: column names.
    text: columns that are kept as text.
    path: path of the file, for messages.
    """
    if not body.strip():
        return pd.DataFrame(columns=pd.Index(names))
    try:
        # pandas warns of several surplus cells in the first row, which is refused below.
        with warnings.catch_warnings(action="ignore", category=pd.errors.ParserWarning):
            frame: pd.DataFrame = pd.read_csv(
                io.BytesIO(body),
                header=None,
                names=[*names, _SURPLUS_COLUMN],
                index_col=False,
                dtype=dict.fromkeys(text, str),
                **_READ_CSV_OPTIONS,
            )
    except pd.errors.ParserError as error:
        reason = str(error).rstrip()
        raise DataError(
            f"{path}: the rows do not match the header of {len(names)} columns: {reason}"
        ) from error
    surplus = frame.pop(_SURPLUS_COLUMN).notna().to_numpy()
    if surplus.any():
        row = first_true_index(surplus) + 1
        raise DataError(
            f"{path}: row {row} has {len(names) + 1} cells, but the header has"
            f" {len(names)} columns; correct the row"
        )
    return frame
