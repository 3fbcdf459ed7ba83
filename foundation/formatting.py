"""Numbers and instants as text for pages, terminals and messages."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction

import numpy as np

_SMALL_PRICE = 1e-3  # USD; four places would show smaller prices as 0.0000
NO_VALUE = "—"  # text for a missing number
Number = Fraction | Decimal | float
NumberFormatter = Callable[[Number | None], str]


def format_number(
    value: Number | None,
    places: int = 2,
    *,
    sign: bool = False,
    prefix: str = "",
    unit: str = "",
    scale: int = 1,
) -> str:
    """Return a number as text such as 1,234.50; a value that rounds to zero has no sign.

    sign: whether positive values have a sign, too.
    prefix, unit: text between sign and number, and text after the number.
    scale: factor on the value, 100 for percent.
    """
    if value is None or value != value:
        return NO_VALUE
    exact = scale * (float(value) if isinstance(value, Fraction) else value)
    size = f"{abs(exact):,.{places}f}"
    written = size.strip("0.,")
    mark = "" if not written else "-" if exact < 0 else "+" if sign else ""
    return f"{mark}{prefix}{size}{unit}"


def format_usd(amount: Number | None, places: int = 2, *, sign: bool = False) -> str:
    """Return a USD amount as text such as $1,234.50 or -$0.10; with `sign` also +$1.00."""
    return format_number(amount, places, sign=sign, prefix="$")


def format_short_usd(amount: Fraction) -> str:
    """Return a USD amount as text such as $10,000, with cents only if it has some."""
    return format_usd(amount, 0 if amount.denominator == 1 else 2)


def format_percent(fraction: Number | None, places: int = 2, *, sign: bool = False) -> str:
    """Return a fraction as text in percent: 12.50% for 0.125."""
    return format_number(fraction, places, sign=sign, unit="%", scale=100)


def format_basis_points(fraction: Number | None, places: int = 2, *, sign: bool = False) -> str:
    """Return a fraction as text in basis points: 1.25 bp for 0.000125."""
    return format_number(fraction, places, sign=sign, unit=" bp", scale=10_000)


def format_multiple(value: Number | None, places: int = 2, *, sign: bool = False) -> str:
    """Return a multiple of equity as text such as 1.25×."""
    return format_number(value, places, sign=sign, unit="×")


def format_quantity(value: Number | None, digits: int = 10, *, sign: bool = False) -> str:
    """Return a quantity as text such as 1,250.5, without trailing zeros.

    digits: maximum number of significant digits of a float.
    """
    if value is None:
        return NO_VALUE
    exact = value if isinstance(value, Decimal) else Decimal(f"{float(value):.{digits}g}")
    text = f"{exact:{'+' if sign else ''},f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_rounded_price(value: float, places: int = 4, *, prefix: str = "") -> str:
    """Return a price as text with `places` decimals; below 0.001 with four significant digits."""
    if 0 < abs(value) < _SMALL_PRICE:
        places = 3 - math.floor(math.log10(abs(value)))
    return format_number(value, places, prefix=prefix)


def format_price(value: Decimal | float | str) -> str:
    """Return a USD price as text such as $1,250.50, with more decimal places if it has more.

    A float is shown with eight significant digits, the precision of a price in a bar file.
    """
    exact = Decimal(value if isinstance(value, Decimal | str) else f"{value:.8g}")
    return format_usd(exact, max(len(format_quantity(exact).partition(".")[2]), 2))


def format_interval(
    bounds: Sequence[Number] | None, formatter: NumberFormatter, between: str = " to "
) -> str:
    """Return an interval as text such as 1.0% to 2.0%; empty without an interval.

    bounds: lower and upper bound.
    formatter: function that formats a bound.
    between: text between the bounds.
    """
    return between.join(map(formatter, bounds or ()))


def format_plus_minus(half_width: Number | None, formatter: NumberFormatter) -> str:
    """Return the half-width of an interval as text such as ± 2.0%; empty without one.

    half_width: half the width of the interval.
    formatter: function that formats it.
    """
    return "" if half_width is None else f" ± {formatter(half_width)}"


def format_minute(at: np.datetime64) -> str:
    """Return an instant as text such as 2024-10-01 14:30Z, in UTC."""
    return f"{np.datetime_as_string(at, unit='m')}Z".replace("T", " ")


SECONDS_PER_MINUTE = 60  # seconds


def format_count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun as text: 1 day, 1,000 days.

    plural: irregular plural of the noun.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def format_enumeration(words: Sequence[str]) -> str:
    """Return words as an enumeration: a, b and c."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def format_earned(
    since: str, earned: float, e_value: float, share: float, breach_count: int
) -> str:
    """Return what a forecast has earned, and on which condition, in two sentences.

    since: date of the first judged forecast.
    earned: fraction of its positions that it has earned, 0 … 1.
    e_value: evidence that money earns more with the forecast.
    share: error probability, from `error_share`.
    breach_count: number of decisions after which more was lost than the condition allows.
    """
    size = f"{e_value:.1f}" if abs(e_value) < 1000 else f"{e_value:.2g}"
    needed = f"{1 / share:.0f} {'were' if e_value * share >= 1 else 'would be'} needed"
    return (
        f"Since {since} this forecast has earned {earned:.2f} of full Kelly (e-value {size};"
        f" {needed}). It assumes that no symbol more than doubles between two decisions, no stock"
        " moves by more than 25 % within a session, and all together move by at most a fifth of"
        f" that; {format_count(breach_count, 'decision')} lost more."
    )


def format_duration(seconds: float) -> str:
    """Return a duration as text in its two largest units, such as 2 minutes 5 seconds.

    Durations below one minute are shown as 5.2 s.
    """
    if seconds < SECONDS_PER_MINUTE:
        return f"{seconds:.1f} s"
    rest = int(seconds)
    parts: list[tuple[int, str]] = []
    for name, size in (
        ("day", 86_400),
        ("hour", 3_600),
        ("minute", SECONDS_PER_MINUTE),
        ("second", 1),
    ):
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append((count, name))
    return " ".join(format_count(count, name) for count, name in parts[:2] if count)


# Minimum data for a figure or a claim on a page. Annual figures need days and fills.
# Intervals, and claims that one run is ahead of another beyond error, need days. Forecast errors
# are correlated within weeks, so their claims need the weeks that 20 sessions span.
MIN_FILLS_FOR_ANNUAL_FIGURES = 30  # fills, for yearly figures
MIN_DAYS_FOR_ANNUAL_FIGURES = 60  # days, for yearly figures
MIN_DAYS_FOR_INTERVALS = 20  # days, for informative intervals
MIN_WEEKS_FOR_INTERVALS = 4  # weeks, for informative intervals of forecasts


def allows_annual_figures(trades: int, days: int) -> bool:
    return trades >= MIN_FILLS_FOR_ANNUAL_FIGURES and days >= MIN_DAYS_FOR_ANNUAL_FIGURES
