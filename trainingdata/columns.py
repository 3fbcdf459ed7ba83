"""Detection of a bar file's columns: by a vendor's header, else by column names.

Names in any case and order identify the columns. Most names do not state the time zone, the unit of
epoch timestamps, the side of a bar that a timestamp marks, or the unit of crypto volume. A vendor's
format (`trainingdata.file_formats.VENDORS`) or a name such as `Gmt time`, `unix` or `Volume BTC`
states them. Otherwise the cells must show these conventions, or the user states them (`data.zone`,
`data.epoch`, `data.stamps`, `data.volume_unit`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from foundation.errors import DataError, to_one_line
from trainingdata.bars import OHLCV_FIELDS
from trainingdata.file_formats import (
    EXAMPLE_CSV_LINES,
    FILE_FORMATS,
    VENDORS,
    FileFormat,
    VolumeUnit,
)
from trainingdata.instruments import is_symbol
from trainingdata.text_rows import format_separator_error

UNNAMED_COLUMN = ""  # pandas writes its index without a heading
# Names that state which side of a bar a stamp is.
_BEGINS = ("timestamp", "begin", "start")
_ENDS = ("end",)
# Names that state the side of the bar in files without any of the usual names.
_OPENINGS = ("opentime", "timeopen")
_CLOSINGS = ("closetime", "timeclose")
_STAMPS = ("date", "time", "datetime", *_BEGINS, *_ENDS)
_UTC_NAMES = ("utc", "gmt")
_ADJUSTED_CLOSE_NAMES = {"adjclose", "adjustedclose"}
_SYMBOL_COLUMN_NAMES = {"symbol", "ticker"}
# Headings that name the unit of the volume: Volume BTC, Volume_(BTC), Volume USDT.
_VOLUME_UNIT_PATTERN = re.compile(r"volume[ _]+\(?(\w{2,10})\)?", re.IGNORECASE)
_DOLLARS = {"USD", "USDT", "USDC", "CURRENCY", "QUOTE"}
_QUOTE_VOLUMES = {"quotevolume", "quoteassetvolume", "volumenotional"}
_GENERAL_FORMAT = FileFormat("general", ())
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_NAME_COLUMN = "name"  # a symbol in some data sets, a company in others


def detect_format(names: Sequence[str], path: str) -> FileFormat:
    """Detect the format of a file from its header.

    names: column names, or the cells of the first line.
    path: path of the file, for messages.

    Raises DataError if a column is missing or ambiguous.
    """
    found = next((head for head in FILE_FORMATS if head.matches(names)), None)
    if found is None:
        return _detect_format_by_names(names, path)
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None and not found.is_headerless:
        raise DataError(f"{path}: column {doubled!r} appears twice; keep one")
    return found


def _detect_format_by_names(names: Sequence[str], path: str) -> FileFormat:
    """Detect the format from column names in any case and order.

    The format is that of a vendor who writes these names, else a general format.
    """
    columns = _HeaderColumns(names, path)
    vendor = next(
        (each for markers, each in VENDORS if markers <= columns.by_meaning.keys()), _GENERAL_FORMAT
    )
    volume = columns.volume()
    prices = tuple(
        columns.one({vendor_name}, field) or columns.field(field)
        for field, vendor_name in zip(OHLCV_FIELDS[:-1], vendor.ohlcv_columns, strict=False)
    )
    fields = (*prices, volume.name)
    missing = [field for field, name in zip(OHLCV_FIELDS, fields, strict=True) if name is None]
    vendor_stamp = columns.one(vendor.timestamp_columns, "time of a bar")
    stamp = (vendor_stamp,) if vendor_stamp else columns.stamp()
    if not stamp:
        missing.insert(0, f"a time column ({', '.join(_STAMPS)} or t)")
    if missing:
        raise _unknown_header_error(names, path, f"missing columns: {', '.join(missing)}")
    adjusted = columns.one(_ADJUSTED_CLOSE_NAMES, "adjusted close") or ""
    symbol = (
        columns.one(_SYMBOL_COLUMN_NAMES, "symbol")
        or columns.one({_NAME_COLUMN}, _NAME_COLUMN)
        or ""
    )
    used = {*stamp, *fields, adjusted, symbol, volume.quote}
    return replace(
        vendor,
        timestamp_columns=stamp,
        ohlcv_columns=tuple(name for name in fields if name is not None),
        symbol_column=symbol,
        adjusted_close_column=adjusted,
        time_zone="UTC" if all(map(_states_utc, stamp)) else "",
        stamps_are_ends=vendor.stamps_are_ends if vendor_stamp else _stamps_are_ends(stamp),
        crypto_volume_unit=volume.unit or vendor.crypto_volume_unit,
        quote_volume_column=volume.quote,
        volume_column_coin=volume.coin,
        has_volume_unit_in_name=volume.unit is not None,
        unknown_columns=tuple(name for name in names if name and name not in used),
    )


def refuse_other_separator(names: Sequence[str], path: str) -> None:
    """Raise `DataError` for a header row whose cells are separated by semicolons or tabs."""
    if why := format_separator_error(names):
        raise _unknown_header_error(names, path, why)


def infer_separator(headings: str) -> str:
    """Return a header's separator: a semicolon if its vendor uses semicolons, else a comma."""
    meanings = {_normalise_name(name) for name in headings.split(";")}
    written = any(each.uses_semicolons and markers <= meanings for markers, each in VENDORS)
    return ";" if written else ","


class _VolumeColumns(NamedTuple):
    """The volume columns of a file.

    name: name of the volume column; None if there is none.
    unit: unit that the column name states; None if it states none.
    coin: coin in the column name; empty for none.
    quote: name of the column of dollar volume; empty if there is none.
    """

    name: str | None
    unit: VolumeUnit | None = None
    coin: str = ""
    quote: str = ""


class _HeaderColumns:
    """Column names of a file, grouped by their normalised form (`_normalise_name`)."""

    def __init__(self, names: Sequence[str], path: str) -> None:
        self.path = path
        self.by_meaning: dict[str, list[str]] = {}
        for name in names:
            self.by_meaning.setdefault(_normalise_name(name), []).append(name)

    def one(self, meanings: Collection[str], what: str) -> str | None:
        """Return the name of the column that has one of these meanings; None if there is none.

        meanings: normalised column names (`_normalise_name`).
        what: description of the column, for messages.

        Raises DataError if several column names match.
        """
        found = [name for meaning in sorted(meanings) for name in self.by_meaning.get(meaning, ())]
        if len(found) > 1:
            raise self._ambiguous_error(found, what)
        return found[0] if found else None

    def _ambiguous_error(self, found: Sequence[str], what: str) -> DataError:
        return DataError(
            f"{self.path}: columns {found[0]!r} and {found[1]!r} both match {what}; keep one"
        )

    def field(self, field: str) -> str | None:
        """Return the name of a price's column, which is the price's full name or first letter."""
        return self.one({field}, field) or self.one({field[0]}, field)

    def volume(self) -> _VolumeColumns:
        """Return the volume column: one without a stated unit, else in coins, else in dollars."""
        units = {
            name: match[1].upper()
            for names in self.by_meaning.values()
            for name in names
            if (match := _VOLUME_UNIT_PATTERN.fullmatch(name))
        }
        dollars = [name for name, unit in units.items() if unit in _DOLLARS]
        coins = [name for name in units if name not in dollars]
        plain = self.one({"volume", "vol"}, "volume") or self.one({"v"}, "volume")
        for found in ([*([plain] if plain else ()), *coins], dollars):
            if len(found) > 1:
                raise self._ambiguous_error(found, "volume")
        quote = self.one(_QUOTE_VOLUMES, "quote volume") or (dollars[0] if dollars else "")
        if plain:
            return _VolumeColumns(plain, quote=quote)
        if coins:
            return _VolumeColumns(coins[0], "coins", units[coins[0]], quote)
        return _VolumeColumns(dollars[0], "usd") if dollars else _VolumeColumns(None)

    def stamp(self) -> tuple[str, ...]:
        """Return the column names of the timestamp; two if date and time are separate columns."""
        found = {
            meaning: self.one({meaning, *(f"{meaning}{zone}" for zone in _UTC_NAMES)}, meaning)
            for meaning in _STAMPS
        }
        there = {meaning: name for meaning, name in found.items() if name is not None}
        if {"date", "time"} == there.keys():
            return there["date"], there["time"]
        # With a begin, the end is not needed.
        if len(there) == 2 and "end" in there and there.keys() & {"begin", "start"}:
            del there["end"]
        if len(there) > 1:
            raise DataError(
                f"{self.path}: columns {', '.join(map(repr, there.values()))} all match the time of"
                " a bar; keep one"
            )
        if there:
            return tuple(there.values())
        other = (
            self.one({"t"}, "time")
            or self.one(_OPENINGS, "start of a bar")
            or self.one(_CLOSINGS, "end of a bar")
        )
        return (other,) if other else tuple(self.by_meaning.get(UNNAMED_COLUMN, ())[:1])


def has_company_names(file_format: FileFormat, cells: Iterable[str]) -> bool:
    """Return whether the symbol column is called `Name` and contains company names, not symbols."""
    return _normalise_name(file_format.symbol_column) == _NAME_COLUMN and not all(
        map(is_symbol, cells)
    )


def _normalise_name(name: str) -> str:
    """Return a column name without case, punctuation and number: `adjclose` for `1. Adj Close`."""
    return re.sub(r"[\W_]", "", re.sub(r"^\d+\. ", "", name.casefold()))


def _states_utc(name: str) -> bool:
    """Return whether a timestamp column's name states UTC: `Gmt time`, `Date (UTC)`."""
    meaning = _normalise_name(name)
    return meaning.startswith(_UTC_NAMES) or meaning.endswith(_UTC_NAMES)


def _stamps_are_ends(stamp: tuple[str, ...]) -> bool | None:
    """Return whether names of timestamp columns state the end of a bar, not the start.

    The result is None if they state no side.
    """
    meanings = {re.sub("utc$|gmt$", "", _normalise_name(name)) for name in stamp}
    if meanings <= {*_ENDS, *_CLOSINGS}:
        return True
    return False if meanings <= {*_BEGINS, *_OPENINGS} else None


def _unknown_header_error(names: Sequence[str], path: str, why: str) -> DataError:
    line = ",".join(names)
    if sum(bool(_NUMBER.fullmatch(name)) for name in names) >= len(OHLCV_FIELDS):
        why = "the first line is data; add a header row above it"
    return DataError(
        f"{path}: unknown header {to_one_line(line)!r}: {why}. Columns may have any order and case."
        f" A valid file starts with the lines {EXAMPLE_CSV_LINES[0]} and {EXAMPLE_CSV_LINES[1]}"
    )
