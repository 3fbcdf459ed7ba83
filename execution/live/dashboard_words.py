"""Numbers and instants as the dashboard writes them."""

from __future__ import annotations

import math
from datetime import UTC
from decimal import Decimal

import numpy as np
import pandas as pd

from trainingdata.instants import NEW_YORK, new_york_date

NO_VALUE = "–"
SPACE = "\N{NO-BREAK SPACE}"  # between a number and its unit
SECOND = np.timedelta64(1, "s")


def both_clocks(at: np.datetime64) -> str:
    """An instant in UTC and New York: 20 Feb 2024 16:30 UTC, 11:30 New York.

    New York's date is there where it is another one.
    """
    utc = pd.Timestamp(at, tz=UTC)
    local = utc.tz_convert(NEW_YORK)
    there = f"{local:%H:%M}" if local.date() == utc.date() else f"{local:%d %b %H:%M}"
    return f"{utc:%d %b %Y %H:%M} UTC, {there} New York"


def short_clock(at: np.datetime64) -> str:
    """An instant in UTC, to the second: 20 Feb 16:30:05."""
    return f"{pd.Timestamp(at):%d %b %H:%M:%S}"


def day_text(at: np.datetime64) -> str:
    """The New York date of an instant: 20 Feb 2024."""
    return f"{pd.Timestamp(new_york_date(np.array([at]))[0]):%d %b %Y}"


def age_text(at: np.datetime64, now: np.datetime64) -> str:
    """How long ago an instant was, or how far ahead it is, in its two largest units."""
    seconds = float((now - at) / SECOND)
    length = _length_text(abs(seconds))
    return f"in {length}" if seconds < 0 else f"{length} ago"


def _length_text(seconds: float) -> str:
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if days < 30 else f"{days} d"


def usd(value: float) -> str:
    """$1,234.50, and −$1,234.50 below 0."""
    return f"−{_usd(-value)}" if value < 0 else _usd(value)


def _usd(value: float) -> str:
    return f"${value:,.2f}"


def signed_usd(value: float) -> str:
    """The same with its sign: +$1,234.50; 0 has none."""
    text = usd(value)
    return f"+{text}" if value > 0 and not text.endswith("$0.00") else text


def whole_usd(value: float) -> str:
    """$1,235, for an axis."""
    return f"−${-value:,.0f}" if value < 0 else f"${value:,.0f}"


def percent(value: float | None, places: int = 2) -> str:
    """A fraction with its sign: +1.25 %."""
    if value is None or math.isnan(value):
        return NO_VALUE
    return _minus(f"{value * 100:+.{places}f}{SPACE}%")


def plain_percent(value: float | None, places: int = 1) -> str:
    """A fraction without a sign: 1.3 %."""
    return percent(value, places).lstrip("+")


def multiple(value: float | None) -> str:
    """A multiple of equity: 1.25×."""
    if value is None or math.isnan(value):
        return NO_VALUE
    return _minus(f"{value:,.2f}×")


def signed_multiple(value: float | None, places: int = 3) -> str:
    """A weight with its sign: +0.125×."""
    if value is None or math.isnan(value):
        return NO_VALUE
    return _minus(f"{value:+,.{places}f}×")


def basis_points(value: float | None, *, signed: bool = True) -> str:
    """A fraction in basis points: +1.3 bp."""
    if value is None or math.isnan(value):
        return NO_VALUE
    style = "+.1f" if signed else ".1f"
    return _minus(f"{value * 1e4:{style}}{SPACE}bp")


def exact(value: str | None, *, signed: bool = False) -> str:
    """A quantity that the journal has as text, without idle zeros: 1,250.5."""
    if value is None or value == "":
        return NO_VALUE
    number = Decimal(value)
    text = f"{number:+,f}" if signed and number else f"{number:,f}"
    return _minus(text.rstrip("0").rstrip(".") if "." in text else text)


def price(value: str | None) -> str:
    """A price that the journal has as text, USD: $1,250.50, with more places where it has more."""
    text = exact(value)
    if text == NO_VALUE:
        return text
    places = len(text.partition(".")[2])
    return f"${Decimal(value or '0'):,.{max(places, 2)}f}"


def _minus(text: str) -> str:
    return text.replace("-", "−")
