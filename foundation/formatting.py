"""Numbers and instants as people read them: on pages, on terminals, in remarks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction

import numpy as np

_SMALL_PRICE = 1e-3  # USD; four places would show smaller prices as 0.0000
NO_VALUE = "—"  # where there is no number
Number = Fraction | Decimal | float
NumberFormatter = Callable[[Number | None], str]


def number(
    value: Number | None,
    places: int = 2,
    *,
    sign: bool = False,
    before: str = "",
    unit: str = "",
    scale: int = 1,
) -> str:
    """1,234.50; what is written as nothing has no sign.

    sign: also of what is above nothing.
    before, unit: what stands between sign and number, and behind it.
    scale: units in one.
    """
    if value is None or value != value:
        return NO_VALUE
    exact = scale * (float(value) if isinstance(value, Fraction) else value)
    size = f"{abs(exact):,.{places}f}"
    written = size.strip("0.,")
    mark = "" if not written else "-" if exact < 0 else "+" if sign else ""
    return f"{mark}{before}{size}{unit}"


def usd(amount: Number | None, places: int = 2, *, sign: bool = False) -> str:
    """$1,234.50, -$0.10; with `sign` also +$1.00."""
    return number(amount, places, sign=sign, before="$")


def short_usd(amount: Fraction) -> str:
    """$10,000, with cents where there are any."""
    return usd(amount, 0 if amount.denominator == 1 else 2)


def percent(fraction: Number | None, places: int = 2, *, sign: bool = False) -> str:
    """12.50% of 0.125."""
    return number(fraction, places, sign=sign, unit="%", scale=100)


def basis_points(fraction: Number | None, places: int = 2, *, sign: bool = False) -> str:
    """1.25 bp of 0.000125."""
    return number(fraction, places, sign=sign, unit=" bp", scale=10_000)


def multiple(value: Number | None, places: int = 2, *, sign: bool = False) -> str:
    """1.25×, of equity for one."""
    return number(value, places, sign=sign, unit="×")


def quantity(value: Number | None, digits: int = 10, *, sign: bool = False) -> str:
    """1,250.5, without idle zeros; digits: at most, but a Decimal has all of its own."""
    if value is None:
        return NO_VALUE
    exact = value if isinstance(value, Decimal) else Decimal(f"{float(value):.{digits}g}")
    text = f"{exact:{'+' if sign else ''},f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def rounded_price(value: float, places: int = 4, *, before: str = "") -> str:
    """Return a price rounded to `places`; below 0.001 to four significant digits, 0.00001235."""
    if 0 < abs(value) < _SMALL_PRICE:
        places = 3 - math.floor(math.log10(abs(value)))
    return number(value, places, before=before)


def price(value: Decimal | float | str) -> str:
    """A price in USD: $1,250.50, with more places where it has more.

    A float is shown to the eight digits that a price of a bar file is good for.
    """
    exact = Decimal(value if isinstance(value, Decimal | str) else f"{value:.8g}")
    return usd(exact, max(len(quantity(exact).partition(".")[2]), 2))


def interval(ends: Sequence[Number] | None, words: NumberFormatter, between: str = " to ") -> str:
    """The ends of an interval, 1.0% to 2.0%; empty where there is none."""
    return between.join(map(words, ends or ()))


def plus_minus(reach: Number | None, words: NumberFormatter) -> str:
    """How far an interval reaches on either side, as ± 2.0%; empty where there is none."""
    return "" if reach is None else f" ± {words(reach)}"


def minute_text(at: np.datetime64) -> str:
    """An instant in UTC: 2024-10-01 14:30Z."""
    return f"{np.datetime_as_string(at, unit='m')}Z".replace("T", " ")


MINUTE = 60  # seconds


def count_text(number: int, noun: str, plural: str = "") -> str:
    """The number and the noun, as 1 day or 1,000 days.

    plural: of a noun that takes more than an s.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def duration_text(seconds: float) -> str:
    """How long, in the two largest units: 980 days 18 hours, 2 minutes 5 seconds; 5.2 s below one
    minute.
    """
    if seconds < MINUTE:
        return f"{seconds:.1f} s"
    rest = int(seconds)
    parts: list[tuple[int, str]] = []
    for name, size in (("day", 86_400), ("hour", 3_600), ("minute", MINUTE), ("second", 1)):
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append((count, name))
    return " ".join(count_text(count, name) for count, name in parts[:2] if count)


# How much there has to be before a page shows a figure or makes a claim. Figures that are scaled to
# a year take days and fills; an interval, and with it a claim that one is ahead of another beyond
# error, takes days. Forecasts, whose errors go by weeks, take the weeks that 20 sessions make.
MIN_FILLS = 30  # for yearly figures
MIN_DAYS = 60  # the same
MIN_INTERVAL_DAYS = 20  # days, for intervals that say anything
MIN_WEEKS = 4  # the same, where weeks are what is counted


def allows_annual_figures(trades: int, days: int) -> bool:
    return trades >= MIN_FILLS and days >= MIN_DAYS
