"""Fields that Kalshi writes under several names, and rows of its lists that cannot be read.

Every field of an answer is declared with the meaning of its absence: `RequiredField` makes its row
unreadable, `OptionalField` has a default, `FirstField` tries the next name. A row that cannot be
read quarantines its market; the other rows of its list count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from foundation.errors import InvalidResponse, one_line
from trainingdata.feed.fields import optional_field

T = TypeVar("T")
JsonEntry = Mapping[str, Any]
TICKER_FIELDS = ("ticker", "market_ticker")  # names of a row's market
ID_FIELDS = ("fill_id", "trade_id", "order_id", "ticker")  # names of a row's own id


class FirstField(Generic[T]):
    """A field under several names; the first name that is present counts.

    names: the names, each with the parser of its value.
    default: the default if none is present; without a default that is an error.
    """

    _NEEDED: Any = object()

    def __init__(self, *names: tuple[str, Callable[[Any], T]], default: T = _NEEDED) -> None:
        self._fields = [optional_field(name, parse) for name, parse in names]
        self._absent = default

    def read(self, entry: JsonEntry) -> T:
        """Return the value of the first field that is present.

        Raises InvalidResponse for a value that cannot be parsed, and if no field is present and
        there is no default.
        """
        for each in self._fields:
            value = each.read(entry)
            if value is not None:
                return value
        if self._absent is self._NEEDED:
            raise InvalidResponse(f"{self._fields[0].name} is missing")
        return self._absent


@dataclass(frozen=True, slots=True)
class UnreadableRow:
    """A row of a list that cannot be read.

    market: market named by the row.
    what: the list that contains the row.
    name: the row's id in that list.
    why: the invalid field, and its error.
    """

    market: str
    what: str
    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.what} {self.name}: {self.why}"


def unreadable_row(what: str, entry: JsonEntry, error: Exception) -> UnreadableRow | None:
    """Return the row that raised an error; None for a row without a market.

    what: the list that contains the row.
    """
    market = _first_text(entry, TICKER_FIELDS)
    if not market:
        return None
    why = error.why if isinstance(error, InvalidResponse) else str(error)
    return UnreadableRow(market, what, _first_text(entry, ID_FIELDS), one_line(why))


def _first_text(entry: JsonEntry, names: tuple[str, ...]) -> str:
    texts = (entry.get(name) for name in names)
    return next((text for text in texts if isinstance(text, str) and text), "")
