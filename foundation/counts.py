"""Numbers of things and lengths of time, as messages write them."""

from __future__ import annotations

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
