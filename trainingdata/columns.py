"""Find the columns of a bar file: by a vendor's head, else by their names in any case and order.

Names identify the columns. They give no zone, no unit of counts since 1970, no side of a bar for
stamps, and no unit of crypto volume: the file has to state these, or the user (`data.zone`,
`data.epoch`, `data.stamps`, `data.volume_unit`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from foundation.errors import DataError, in_one_line
from trainingdata.bars import FIELDS
from trainingdata.heads import GOOD, HEADS, Head
from trainingdata.instruments import is_symbol

UNNAMED = ""  # pandas writes its index without a heading
# Names that state which side of a bar a stamp is.
_BEGINS = ("timestamp", "begin", "start")
_ENDS = ("end",)
_STAMPS = ("date", "time", "datetime", *_BEGINS, *_ENDS)
_ADJUSTED = {"adjclose", "adjustedclose"}
_SYMBOLS = {"symbol", "ticker"}
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs"}
_NAME = "name"  # of a symbol in some data sets, of a company in others


def head_of(names: Sequence[str], path: str) -> Head:
    """Return the head that describes a file's columns.

    names: its headings, or the cells of its first line.
    path: of the file, for messages.

    Raises DataError if a column is missing or ambiguous.
    """
    found = next((head for head in HEADS if head.fits(names)), None)
    if found is None:
        return _named_columns(names, path)
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None and not found.headless:
        raise DataError(f"{path}: column {doubled!r} appears twice; keep one")
    return found


def _named_columns(names: Sequence[str], path: str) -> Head:
    """Return the head of a file without a known vendor, by its columns' names."""
    columns = _Columns(names, path)
    fields = tuple(columns.field(field) for field in FIELDS)
    missing = [field for field, name in zip(FIELDS, fields, strict=True) if name is None]
    stamp = columns.stamp()
    if not stamp:
        missing.insert(0, f"the time ({', '.join(_STAMPS)} or t)")
    if missing:
        raise _unknown_head(names, path, f"missing: {', '.join(missing)}")
    adjusted = columns.one(_ADJUSTED, "adjusted close") or ""
    symbol = columns.one(_SYMBOLS, "symbol") or columns.one({_NAME}, _NAME) or ""
    used = {*stamp, *fields, adjusted, symbol}
    return Head(
        "general",
        stamp,
        tuple(name for name in fields if name is not None),
        symbol=symbol,
        adjusted=adjusted,
        ends=_side(stamp),
        ignored=tuple(name for name in names if name and name not in used),
    )


class _Columns:
    """The headings of a file, looked up by what they mean."""

    def __init__(self, names: Sequence[str], path: str) -> None:
        self.path = path
        self.by_meaning: dict[str, list[str]] = {}
        for name in names:
            self.by_meaning.setdefault(_meaning(name), []).append(name)

    def one(self, meanings: Collection[str], what: str) -> str | None:
        """Return the heading with one of several meanings, or None."""
        found = [name for meaning in sorted(meanings) for name in self.by_meaning.get(meaning, ())]
        if len(found) > 1:
            raise DataError(
                f"{self.path}: columns {found[0]!r} and {found[1]!r} could both be the {what};"
                " keep one"
            )
        return found[0] if found else None

    def field(self, field: str) -> str | None:
        """Return the heading of a field by its name, else by its first letter."""
        names = {"volume", "vol"} if field == "volume" else {field}
        return self.one(names, field) or self.one({field[0]}, field)

    def stamp(self) -> tuple[str, ...]:
        """Return the headings of the stamp; two if date and time are separate columns."""
        found = {meaning: self.one({meaning}, meaning) for meaning in _STAMPS}
        there = {meaning: name for meaning, name in found.items() if name is not None}
        if {"date", "time"} == there.keys():
            return there["date"], there["time"]
        # With a begin, the end is not needed.
        if len(there) == 2 and "end" in there and there.keys() & {"begin", "start"}:
            del there["end"]
        if len(there) > 1:
            raise DataError(
                f"{self.path}: columns {', '.join(map(repr, there.values()))} could each be the"
                " time of a bar; keep one"
            )
        if there:
            return tuple(there.values())
        letter = self.one({"t"}, "time")
        return (letter,) if letter else tuple(self.by_meaning.get(UNNAMED, ())[:1])


def names_companies(head: Head, cells: Iterable[str]) -> bool:
    """Return True if a column called Name has names of companies instead of symbols."""
    return _meaning(head.symbol) == _NAME and not all(map(is_symbol, cells))


def _meaning(name: str) -> str:
    """Normalize a heading's case, blanks and punctuation: `Adj Close` is `adj_close`."""
    return re.sub(r"[\W_]", "", name.casefold())


def _side(stamp: tuple[str, ...]) -> bool | None:
    """Return True if stamps under a heading are ends; None if it does not state it."""
    meanings = {_meaning(name) for name in stamp}
    if meanings <= {*_ENDS}:
        return True
    return False if meanings <= {*_BEGINS} else None


def _unknown_head(names: Sequence[str], path: str, why: str) -> DataError:
    line = ",".join(names)
    for separator, name in _OTHER_SEPARATORS.items():
        if len(names) == 1 and separator in line:
            why = f"its cells are separated by {name}; save it with commas"
    return DataError(
        f"{path}: unknown head: {in_one_line(line)}; {why}; columns are found by"
        f" name in any case and order; a good file begins with the two lines {GOOD[0]} and"
        f" {GOOD[1]}"
    )
