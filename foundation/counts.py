"""Numbers of things, in words that fit them."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """The number and the noun, as 1 day or 1,000 days.

    plural: of a noun that takes more than an s.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
