"""Fields of the venue's answers: what each says, and what it means where it is missing.

A vendor drops fields, empties them, and writes other things into them. What is needed and missing,
or there and not understood, is an error that names it. What can be done without is declared with
what its absence means, which the log says once. Those of prices are declared here, those of
accounts and orders in `execution.alpaca.fields`.
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

from foundation.decimals import MIN_EXPONENT, is_bounded
from foundation.errors import InvalidResponse

log = logging.getLogger(__name__)

T = TypeVar("T")
Word = TypeVar("Word", bound=str)
ZERO = Decimal(0)
# As venues write an instant; pandas reads every other way, at a thousand times the price.
_OUR_DAYS = re.compile(r"(199\d|20\d\d|21\d\d)-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class RequiredField(Generic[T]):
    """A field without which an answer says nothing.

    name: of the field.
    parse: what its value says; it raises `ValueError` for a value that says nothing.
    """

    name: str
    parse: Callable[[Any], T]

    def read(self, entry: Mapping[str, Any]) -> T:
        """What the field says.

        Raises SenselessAnswer for a field that is missing, empty, or not understood.
        """
        value = entry.get(self.name)
        if value is None or value == "":
            raise InvalidResponse(f"{self.name} is missing")
        return _understood(self.name, self.parse, value)


@dataclass(frozen=True, slots=True)
class OptionalField(Generic[T]):
    """A field that may be missing.

    name: of the field.
    parse: what its value says; it raises `ValueError` for a value that says nothing.
    default: what counts where it is missing or empty.
    absence_meaning: what that means, for the log; empty where it is the rule that it is missing.
    """

    name: str
    parse: Callable[[Any], T]
    default: T
    absence_meaning: str = ""

    def read(self, entry: Mapping[str, Any]) -> T:
        """What the field says, or what its absence means.

        Raises SenselessAnswer for a value that is not understood.
        """
        value = entry.get(self.name)
        if value is None or value == "":
            if self.absence_meaning:
                _say_once(f"the venue's answer has no {self.name}: {self.absence_meaning}")
            return self.default
        return _understood(self.name, self.parse, value)


def as_mapping(answer: Any) -> Mapping[str, Any]:
    """An answer that has fields.

    Raises SenselessAnswer for any other.
    """
    if not isinstance(answer, Mapping):
        raise InvalidResponse(f"it is {answer!r}")
    return answer


def _understood(name: str, parse: Callable[[Any], T], value: Any) -> T:
    try:
        return parse(value)
    except (ValueError, TypeError, OverflowError) as error:
        # The value is last: it may be long, and what is too long is cut where it is shown.
        raise InvalidResponse(f"{name} is {error}: {value!r}") from None


@cache
def _say_once(line: str) -> None:
    log.warning("%s", line)


def parse_decimal(value: Any) -> Decimal:
    """A number, as exact as it is written."""
    if isinstance(value, bool):
        raise ValueError("not a number")
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise ValueError("not a number") from None
    if not is_bounded(number):
        raise ValueError("not a number")
    return number


def parse_positive(value: Any) -> Decimal:
    """A number above 0."""
    number = parse_decimal(value)
    if number <= 0:
        raise ValueError("not above 0")
    return number


def parse_non_negative(value: Any) -> Decimal:
    """A number from 0 on."""
    number = parse_decimal(value)
    if number < 0:
        raise ValueError("below 0")
    return number


def parse_truncated(parse: Callable[[Any], Decimal]) -> Callable[[Any], Decimal]:
    """A parser of a quotient: what has more digits than a number here is cut to these."""

    def cut(value: Any) -> Decimal:
        whole, point, digits = str(value).partition(".")
        return parse(f"{whole}{point}{digits[:-MIN_EXPONENT]}" if digits.isdigit() else value)

    return cut


def parse_multiplier(value: Any) -> Decimal:
    """What equity is multiplied by, at least 1."""
    number = parse_decimal(value)
    if number < 1:
        raise ValueError("below 1")
    return number


def parse_bool(value: Any) -> bool:
    """True or false, and nothing that might be either."""
    if not isinstance(value, bool):
        raise ValueError("neither true nor false")
    return value


def parse_text(value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value


def parse_choice(*known: Word) -> Callable[[Any], Word]:
    """One of these words."""

    def parse(value: Any) -> Word:
        for word in known:
            if value == word:
                return word
        raise ValueError(f"not {' or '.join(known)}")

    return parse


def parse_objects(value: Any) -> tuple[Mapping[str, Any], ...]:
    """A list of objects."""
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        raise ValueError("not a list of objects")
    return tuple(value)


def parse_timestamp(value: Any) -> np.datetime64:
    """The instant of a time stamp with a zone."""
    import pandas as pd

    if isinstance(value, str) and _OUR_DAYS.fullmatch(value):
        return np.datetime64(value.removesuffix("Z"), "ns")
    stamp = pd.to_datetime(value) if isinstance(value, str) else pd.NaT
    if pd.isna(stamp) or stamp.tzinfo is None:
        raise ValueError("no time with a zone")
    # A year that nanoseconds cannot count to comes out as another one, without an error.
    if not 1990 <= stamp.year <= 2200:
        raise ValueError("no time of our days")
    return np.datetime64(stamp.tz_convert("UTC").tz_localize(None), "ns")


def optional_field(
    name: str, parse: Callable[[Any], T], absence_meaning: str = ""
) -> OptionalField[T | None]:
    """A field that says something only where it is."""
    return OptionalField(name, parse, None, absence_meaning)


def parse_float(value: Any) -> float:
    """A number as the venue writes prices of bars: not a text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("not a number")
    return float(value)


class Page:
    """A page of an answer; the last one has no token, or an empty one."""

    next_page_token = optional_field("next_page_token", parse_text)


class BarEntry:
    """A bar, of a history or the latest one."""

    start = RequiredField("t", parse_timestamp)
    values = tuple(RequiredField(name, parse_float) for name in "ohlcv")


class TradeEntry:
    """`GET /v2/stocks/trades/latest`."""

    at = RequiredField("t", parse_timestamp)
    price = RequiredField("p", parse_positive)


class QuoteEntry:
    """`GET /v1beta1/options/quotes/latest`; an option without offers has no ask, or 0.

    An option without a bid, an ask or an instant has no quote; other options keep theirs.
    """

    at = optional_field("t", parse_timestamp, "a quote without a time is ignored")
    bid = optional_field("bp", parse_non_negative, "an option without a bid has no quote")
    ask = OptionalField("ap", parse_non_negative, ZERO)
