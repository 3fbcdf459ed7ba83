"""Fields that Kalshi writes under several names, and rows of its lists that cannot be read.

Every field of a response is declared with the effect of its absence: `RequiredField` makes the row
unreadable, `OptionalField` has a default, `FirstPresentField` tries the next name. A row that
cannot be read quarantines its market; the other rows of the list are used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from foundation.errors import InvalidResponse, to_one_line
from trainingdata.feed.fields import optional_field

T = TypeVar("T")
JsonEntry = Mapping[str, Any]
TICKER_FIELDS = ("ticker", "market_ticker")  # names of a row's market
ROW_ID_FIELDS = ("fill_id", "trade_id", "order_id", "ticker")  # names of a row's own id


class FirstPresentField(Generic[T]):
    """A field that responses contain under one of several names.

    names: pairs of a name and the parser of its value, in order of precedence.
    default: value if no name is present; without a default, absence is an error.
    """

    _REQUIRED: Any = object()

    def __init__(self, *names: tuple[str, Callable[[Any], T]], default: T = _REQUIRED) -> None:
        self._fields = [optional_field(name, parse) for name, parse in names]
        self._absent = default

    def read(self, entry: JsonEntry) -> T:
        """Return the value under the first name that is present, or the default.

        Raises `InvalidResponse` for an unparsable value, or if there is neither value nor default.
        """
        for each in self._fields:
            value = each.read(entry)
            if value is not None:
                return value
        if self._absent is self._REQUIRED:
            raise InvalidResponse(f"{self._fields[0].name} is missing")
        return self._absent


@dataclass(frozen=True, slots=True)
class UnreadableRow:
    """A row of the venue's lists that could not be parsed.

    market: ticker of the row's market.
    list_name: name of the list that contains the row.
    row_id: id of the row in the list.
    reason: the invalid field and its error.
    """

    market: str
    list_name: str
    row_id: str
    reason: str

    def __str__(self) -> str:
        return f"the venue's list of {self.list_name}, row {self.row_id}: {self.reason}"


def build_unreadable_row(
    list_name: str, entry: JsonEntry, error: Exception
) -> UnreadableRow | None:
    """Describe an entry that could not be parsed; return None if it does not state its market.

    list_name: name of the list that contains the entry.
    error: error of parsing the entry.
    """
    market = _first_text(entry, TICKER_FIELDS)
    if not market:
        return None
    why = error.why if isinstance(error, InvalidResponse) else str(error)
    return UnreadableRow(market, list_name, _first_text(entry, ROW_ID_FIELDS), to_one_line(why))


def _first_text(entry: JsonEntry, names: tuple[str, ...]) -> str:
    texts = (entry.get(name) for name in names)
    return next((text for text in texts if isinstance(text, str) and text), "")
