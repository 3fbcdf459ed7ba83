"""Numbers and instants as an account's page writes them; what is not a number is a dash."""

from __future__ import annotations

import math
from datetime import UTC
from decimal import Decimal

import numpy as np
import pandas as pd

from trainingdata.instants import NEW_YORK, new_york_date

SPACE = "\N{NO-BREAK SPACE}"  # between a number and its unit


def clock(at: np.datetime64) -> str:
    """An instant in UTC and New York: 20 Feb 2024 16:30 UTC, 11:30 New York.

    New York's date is there where it is another one.
    """
    utc = pd.Timestamp(at, tz=UTC)
    local = utc.tz_convert(NEW_YORK)
    there = f"{local:%H:%M}" if local.date() == utc.date() else f"{local:%d %b %H:%M}"
    return f"{utc:%d %b %Y %H:%M} UTC, {there} New York"


def hour(at: np.datetime64) -> str:
    """An instant in UTC: 20 Feb 16:30."""
    return f"{pd.Timestamp(at):%d %b %H:%M}"


def day(at: np.datetime64) -> str:
    """The New York date of an instant: 20 Feb 2024."""
    return f"{pd.Timestamp(new_york_date(np.array([at]))[0]):%d %b %Y}"


def usd(value: float, form: str = ",.2f") -> str:
    """$1,234.50, and −$1,234.50 below 0; form: `+,.2f` shows the sign of a gain too."""
    text = f"{value:{form}}"
    size = text.lstrip("+-")
    return f"{text[: len(text) - len(size)]}${size}".replace("-", "−")


def number(value: float | None, form: str, unit: str = "", scale: float = 1.0) -> str:
    """A number with its unit: −1.25 %."""
    if value is None or math.isnan(value):
        return "–"
    return f"{scale * value:{form}}{unit}".replace("-", "−")


def percent(value: float | None, form: str = ".1f") -> str:
    """A fraction: 1.3 %."""
    return number(value, form, f"{SPACE}%", 100)


def multiple(value: float | None, form: str = ",.2f") -> str:
    """A multiple of equity: 1.25×."""
    return number(value, form, "×")


def basis_points(value: float | None, form: str = "+.1f") -> str:
    """A fraction in basis points: +1.3 bp."""
    return number(value, form, f"{SPACE}bp", 1e4)


def quantity(value: Decimal, form: str = ",f") -> str:
    """A quantity without idle zeros: 1,250.5."""
    text = f"{value:{form}}".replace("-", "−")
    return text.rstrip("0").rstrip(".") if "." in text else text


def price(value: Decimal | float | str) -> str:
    """A price in USD: $1,250.50, with more places where it has more."""
    exact = Decimal(str(value))
    places = len(quantity(exact).partition(".")[2])
    return f"${exact:,.{max(places, 2)}f}"
