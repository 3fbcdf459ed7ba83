"""Fields of the venue's responses: their parsers, and the meaning of a missing field.

A venue may drop fields, leave them empty, or fill them with unexpected values. A required field
that is missing, and any field that cannot be parsed, raise an error that names the field. An
optional field declares what its absence means, which is logged once. Price fields are declared
here, fields of accounts and orders in `execution.alpaca.fields`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, Generic, TypeVar

import numpy as np

from foundation.decimals import MIN_EXPONENT, has_supported_magnitude
from foundation.errors import InvalidResponse

log = logging.getLogger(__name__)

T = TypeVar("T")
Word = TypeVar("Word", bound=str)
ZERO_DECIMAL = Decimal(0)
# The usual form of venues' instants; pandas parses all others, at a thousand times the cost.
_USUAL_INSTANT_PATTERN = re.compile(
    r"(199\d|20\d\d|21\d\d)-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", re.ASCII
)


@dataclass(frozen=True, slots=True)
class RequiredField(Generic[T]):
    """A field that every valid response has.

    name: name of the field.
    parse: parser of its value; it raises `ValueError` for an invalid value.
    """

    name: str
    parse: Callable[[Any], T]

    def read(self, entry: Mapping[str, Any]) -> T:
        """Return the parsed value of the field.

        Raises InvalidResponse for a field that is missing, empty, or invalid.
        """
        value = entry.get(self.name)
        if value is None or value == "":
            raise InvalidResponse(f"{self.name} is missing")
        return _parse_value(self.name, self.parse, value)


@dataclass(frozen=True, slots=True)
class OptionalField(Generic[T]):
    """A field that may be missing.

    name: name of the field.
    parse: parser of its value; it raises `ValueError` for an invalid value.
    default: value of a missing or empty field.
    absence_meaning: consequence of a missing field, for the log; empty if absence is usual.
    """

    name: str
    parse: Callable[[Any], T]
    default: T
    absence_meaning: str = ""

    def read(self, entry: Mapping[str, Any]) -> T:
        """Return the parsed value of the field, or its default.

        Raises InvalidResponse for an invalid value.
        """
        value = entry.get(self.name)
        if value is None or value == "":
            if self.absence_meaning:
                _log_once(f"the venue's response has no {self.name}: {self.absence_meaning}")
            return self.default
        return _parse_value(self.name, self.parse, value)


def as_mapping(response: Any) -> Mapping[str, Any]:
    """Return a response as a mapping of its fields.

    Raises InvalidResponse for a response that is not a mapping.
    """
    if not isinstance(response, Mapping):
        raise InvalidResponse(f"expected a JSON object, got {response!r}")
    return response


def _parse_value(name: str, parse: Callable[[Any], T], value: Any) -> T:
    try:
        return parse(value)
    except (ValueError, TypeError, OverflowError) as error:
        # The value is last, because a long message is cut at its end.
        raise InvalidResponse(f"{name} is {error}: {value!r}") from None


@cache
def _log_once(line: str) -> None:
    log.warning("%s", line)


def parse_decimal(value: Any) -> Decimal:
    """Parse a number exactly, with all its digits.

    Raises ValueError for any other value.
    """
    if isinstance(value, bool):
        raise ValueError("not a number")
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise ValueError("not a number") from None
    if not number.is_finite():
        raise ValueError("not a number")
    if not has_supported_magnitude(number):
        raise ValueError("not a number in the supported range")
    return number


def parse_positive_decimal(value: Any) -> Decimal:
    """Parse a number above 0.

    Raises ValueError for any other value.
    """
    number = parse_decimal(value)
    if number <= 0:
        raise ValueError("not above 0")
    return number


def parse_non_negative_decimal(value: Any) -> Decimal:
    """Parse a number of at least 0.

    Raises ValueError for any other value.
    """
    number = parse_decimal(value)
    if number < 0:
        raise ValueError("below 0")
    return number


def truncating_parser(parse: Callable[[Any], Decimal]) -> Callable[[Any], Decimal]:
    """Return a parser that first truncates a number to the supported decimals.

    parse: parser of the truncated number.
    """

    def truncate_and_parse(value: Any) -> Decimal:
        whole, point, digits = str(value).partition(".")
        return parse(f"{whole}{point}{digits[:-MIN_EXPONENT]}" if digits.isdigit() else value)

    return truncate_and_parse


def parse_margin_multiplier(value: Any) -> Decimal:
    """Parse the account's buying-power multiplier of equity, at least 1.

    Raises ValueError for any other value.
    """
    number = parse_decimal(value)
    if number < 1:
        raise ValueError("below 1")
    return number


def parse_bool(value: Any) -> bool:
    """Parse true or false.

    Raises ValueError for any other value.
    """
    if not isinstance(value, bool):
        raise ValueError("neither true nor false")
    return value


def parse_text(value: Any) -> str:
    """Parse a text.

    Raises ValueError for any other value.
    """
    if not isinstance(value, str):
        raise ValueError("not text")
    return value


def choice_parser(*known: Word) -> Callable[[Any], Word]:
    """Return a parser that accepts only these words; it raises `ValueError` for any other value."""

    def parse(value: Any) -> Word:
        for word in known:
            if value == word:
                return word
        raise ValueError(f"{'not' if len(known) == 1 else 'not one of'} {', '.join(known)}")

    return parse


def parse_object_list(value: Any) -> tuple[Mapping[str, Any], ...]:
    """Parse a list of objects as a tuple of mappings.

    Raises ValueError for any other value.
    """
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        raise ValueError("not a list of objects")
    return tuple(value)


def parse_timestamp(value: Any) -> np.datetime64:
    """Parse a timestamp with a time zone as a UTC instant.

    Raises ValueError for any other value, and for years before 1990 or after 2200.
    """
    import pandas as pd

    if isinstance(value, str) and _USUAL_INSTANT_PATTERN.fullmatch(value):
        return np.datetime64(value.removesuffix("Z"), "ns")
    stamp = pd.to_datetime(value, errors="coerce") if isinstance(value, str) else pd.NaT
    if pd.isna(stamp) or stamp.tzinfo is None:
        raise ValueError("not a timestamp with a time zone")
    # A year outside the range of nanoseconds would silently become another one.
    if not 1990 <= stamp.year <= 2200:
        raise ValueError("not between the years 1990 and 2200")
    return np.datetime64(stamp.tz_convert("UTC").tz_localize(None), "ns")


def optional_field(
    name: str, parse: Callable[[Any], T], absence_meaning: str = ""
) -> OptionalField[T | None]:
    """Return an optional field whose default is None.

    absence_meaning: consequence of a missing field, for the log; empty if absence is usual.
    """
    return OptionalField(name, parse, None, absence_meaning)


def parse_float(value: Any) -> float:
    """Parse a JSON number, the type of bar prices.

    Raises ValueError for any other value, including numbers as text.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("not a number")
    return float(value)


class ResponsePage:
    """Fields of one page of a response; the last page has no token, or an empty one."""

    next_page_token = optional_field("next_page_token", parse_text)


class BarEntry:
    """Fields of a bar in the venue's responses, both in histories and as a latest bar."""

    start = RequiredField("t", parse_timestamp)
    values = tuple(RequiredField(name, parse_float) for name in "ohlcv")


class TradeEntry:
    """Fields of a trade in the response of `GET /v2/stocks/trades/latest`."""

    traded_at = RequiredField("t", parse_timestamp)
    price = RequiredField("p", parse_positive_decimal)


class QuoteEntry:
    """Fields of a quote in the response of `GET /v1beta1/options/quotes/latest`.

    An option without offers has no ask, or an ask of 0. An option without a bid, an ask or an
    instant counts as unquoted; other options are not affected.
    """

    quoted_at = optional_field("t", parse_timestamp, "quotes without a timestamp are ignored")
    bid = optional_field(
        "bp", parse_non_negative_decimal, "options without a bid count as unquoted"
    )
    ask = OptionalField("ap", parse_non_negative_decimal, ZERO_DECIMAL)
