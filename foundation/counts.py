"""Numbers of things and amounts of money, as messages write them."""

from __future__ import annotations

from fractions import Fraction

MINUTE = 60  # seconds


def counted(number: int, noun: str, plural: str = "") -> str:
    """The number and the noun, as 1 day or 1,000 days.

    plural: of a noun that takes more than an s.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def time_text(seconds: float) -> str:
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
    return " ".join(counted(count, name) for count, name in parts[:2] if count)


def usd(amount: float) -> str:
    """Whole dollars with their sign in front: -$1,234."""
    return f"{'-' if round(amount) < 0 else ''}${abs(amount):,.0f}"


def dollars_text(amount: Fraction) -> str:
    """USD as $10,000, with cents where there are any."""
    return f"${float(amount):,.{0 if amount.denominator == 1 else 2}f}"
