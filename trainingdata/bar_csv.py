"""Text files of bars: their encoding, comments, headings and decimal commas.

No row of a file is lost in silence: where it is unclear what a row holds, the file is refused.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from foundation.arrays import first_row
from foundation.errors import DataError
from trainingdata.bar_tables import STAMPS, heading, stamp_column
from trainingdata.bars import FIELDS
from trainingdata.instants import cell_text

DELIMITERS = ",;\t|"

TICKER = "ticker"  # of the second line of yfinance's headings
_LONGEST_LINE = 65_536
_GZIP = b"\x1f\x8b"
_OTHERS = {
    b"PK\x03\x04": "an Excel workbook or another zip archive",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"PAR1": "a Parquet file; call it so, .parquet,",
}
# The mark of UTF-32 begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_COMMENT = re.compile(r"^[ \t]*#.*$", re.MULTILINE)
_SEPARATOR_LINE = re.compile(r"\s*sep=.[ \t]*(\n|$)", re.IGNORECASE)  # of Excel
_WITH_COMMA = re.compile(r"[+-]?\d+(,\d+)?")
_THREE_DECIMALS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_SURPLUS = "\0surplus"


@dataclass(frozen=True, eq=False, slots=True)
class FileTable:
    """A table as its text has it.

    frame: a column for each heading, the headings as `heading` gives them.
    notes: what of the text is left out or taken for something else.
    """

    frame: pd.DataFrame
    notes: tuple[str, ...]


def read_csv(path: Path) -> FileTable:
    """The table of a CSV file, gzipped or not.

    Raises
    ------
    DataError
        naming the line, for a text in which it is unclear what a row holds.
    OSError
        for a file that cannot be opened or decompressed.
    """
    text, notes = _text_of(path)
    # A stream of bytes takes a quarter of the memory of one of characters.
    stream = io.BytesIO(text.encode())
    headings, delimiter, number, ticker = _headings(stream, str(path))
    stamp = stamp_column(headings, str(path))
    # What is not read may be called as it likes, twice the same, too.
    names = [
        name if headings.count(name) == 1 else f"{name} {place}"
        for place, name in enumerate(headings)
    ]
    body = _Body(str(path), stream.read(), number, delimiter, tuple(names))
    frame = body.frame({stamp: str})
    if any(_has_comma(frame[name]) for name in FIELDS):
        # Read as numbers, 1.000 would be one in a text where it means a thousand.
        words = body.frame(dict.fromkeys((stamp, *FIELDS), str))
        if _has_decimal_commas(words, str(path)):
            frame = words
            for name in FIELDS:
                frame[name] = words[name].str.replace(",", ".")
            notes.append("decimal commas are read as points")
    if ticker and TICKER not in frame.columns:
        frame[TICKER] = ticker
    return FileTable(frame, tuple(notes))


def _text_of(path: Path) -> tuple[str, list[str]]:
    """The text of a file with line feeds alone and without comments, and notes about it."""
    raw = path.read_bytes()
    if raw.startswith(_GZIP) or path.name.lower().endswith(".gz"):
        raw = gzip.decompress(raw)
    for mark, what in _OTHERS.items():
        if raw.startswith(mark):
            raise DataError(f"{path}: the file is {what} and no text; save it as CSV")
    notes = []
    try:
        text = raw.decode(_encoding(raw))
    except UnicodeDecodeError:
        # Stamps and numbers are the same in it as in UTF-8; no other text is read.
        text = raw.decode("latin-1")
        notes.append("the text is no UTF-8 and is read as Latin-1")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(
            f"{path}: line {line} holds zero bytes, as of a file that was cut off while it was"
            " written; write the file again, or take out what is damaged"
        )
    text = _SEPARATOR_LINE.sub("\n", text, count=1) if _SEPARATOR_LINE.match(text) else text
    text, comments = _COMMENT.subn("", text)
    if comments:
        lines = "a comment line (#) is" if comments == 1 else f"{comments} comment lines (#) are"
        notes.append(f"{lines} left out")
    return text, notes


def _encoding(raw: bytes) -> str:
    """The encoding that a text's mark names, or its zero bytes show; UTF-8 otherwise."""
    for mark, name in _MARKS.items():
        if raw.startswith(mark):
            return name
    start = raw[:40]
    if len(start) == 40 and start.count(0) == 20:
        if not any(start[1::2]):
            return "utf-16-le"
        if not any(start[::2]):
            return "utf-16-be"
    return "utf-8"


def _headings(text: io.BytesIO, path: str) -> tuple[list[str], str, int, str]:
    """The headings of a text, what is between them, the number of lines up to its rows, and whose.

    It is read that far. Whose the rows are, most texts do not say: it is empty then.
    """
    filled = ((k, line.decode()) for k, line in enumerate(text, 1) if line.strip())
    number, line = next(filled, (0, ""))
    if not number:
        raise DataError(f"{path}: the file is empty")
    delimiter = max(DELIMITERS, key=line.count)
    names = _cells(line, delimiter)
    # yfinance heads a table in three lines: fields, tickers, and the name of the stamps alone.
    if names[0] == "price" and not set(STAMPS) & set(names):
        tickers = _cells(next(filled, (0, ""))[1], delimiter)
        number, line = next(filled, (number, ""))
        stamps = _cells(line, delimiter)
        if tickers[0] == TICKER and stamps[0] in STAMPS and not any(stamps[1:]):
            names[0] = stamps[0]
            return names, delimiter, number, max(tickers[1:], default="").upper()
    return names, delimiter, number, ""


def _cells(line: str, delimiter: str) -> list[str]:
    cells = next(csv.reader([line[:_LONGEST_LINE]], delimiter=delimiter), [""])
    return [heading(cell) for cell in cells]


@dataclass(frozen=True, slots=True)
class _Body:
    """What follows the headings of a text.

    path: of its file, for messages.
    text: its lines, in UTF-8.
    before: number of lines before them.
    delimiter: of cells.
    names: of the columns.
    """

    path: str
    text: bytes
    before: int
    delimiter: str
    names: tuple[str, ...]

    def frame(self, types: Mapping[str, Any]) -> pd.DataFrame:
        """The rows; types: of the columns whose type must not be guessed.

        Raises
        ------
        DataError
            for a row with more cells than headings, and one that reaches over several lines.
        """
        count = sum(1 for line in io.BytesIO(self.text) if line.strip())
        if not count:
            return pd.DataFrame(columns=pd.Index(self.names))
        try:
            frame = pd.read_csv(
                io.BytesIO(self.text),
                sep=self.delimiter,
                header=None,
                names=[*self.names, _SURPLUS],
                index_col=False,
                dtype=dict(types),
                keep_default_na=False,
                na_values=[""],
                low_memory=False,
            )
        except pd.errors.ParserError as error:
            raise self._unreadable(str(error)) from error
        if frame[_SURPLUS].notna().any() or len(frame) < count:
            raise self._unreadable("its rows cannot be told apart")
        return frame.drop(columns=_SURPLUS)

    def _rows(self) -> Iterator[tuple[int, int, Sequence[str]]]:
        """The first and the last line of each row, from 1, and its cells.

        It ends with a row that has the whole rest, and no cells, where a quotation mark is opened
        that is not closed for very long.
        """
        lines = io.StringIO(self.text.decode())
        reader = csv.reader(lines, delimiter=self.delimiter)
        last = 0
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield self.before + last + 1, self.before + reader.line_num, cells
                last = reader.line_num
        except csv.Error:  # a cell of more than 131,072 characters
            yield self.before + last + 1, self.before + reader.line_num, ()

    def _unreadable(self, reason: str) -> DataError:
        """What is wrong with rows that cannot be read; reason: where nothing else is found."""
        width = len(self.names)
        for row, (first, last, cells) in enumerate(self._rows(), 1):
            place = f"{self.path}: cannot be read: row {row} (line {first})"
            if last > first:
                return DataError(
                    f"{place}: a quotation mark is opened there and not closed in its line; close"
                    " it or take it out"
                )
            if len(cells) > width and any(cells[width:]):
                surplus = next(cell for cell in cells[width:] if cell)
                return DataError(
                    f"{place} has {len(cells)} cells under {width} headings, {cell_text(surplus)}"
                    " is one too many; give every column a heading, and put text with a"
                    f" {self.delimiter!r} into quotation marks"
                )
        return DataError(f"{self.path}: cannot be read: {reason.splitlines()[0]}")


def _has_comma(column: pd.Series) -> bool:
    return not pd.api.types.is_numeric_dtype(column) and bool(
        column.astype(str).str.contains(",", regex=False).any()
    )


def _has_decimal_commas(words: pd.DataFrame, path: str) -> bool:
    """Whether the commas in cells of numbers are decimal ones.

    Raises
    ------
    DataError
        where they may as well stand between thousands.
    """
    cells = pd.concat([words[name].str.strip() for name in FIELDS]).dropna()
    if not cells.str.fullmatch(_WITH_COMMA).all():
        return False
    with_comma = cells[cells.str.contains(",", regex=False)]
    if with_comma.str.fullmatch(_THREE_DECIMALS).all():
        name = next(name for name in FIELDS if _has_comma(words[name]))
        row = first_row(words[name].str.contains(",", regex=False).fillna(False).to_numpy(bool))
        raise DataError(
            f"{path}: row {row + 1}: {name} {cell_text(words[name].iloc[row])} may be a decimal"
            " comma or one between thousands; write numbers with a decimal point"
        )
    return True
