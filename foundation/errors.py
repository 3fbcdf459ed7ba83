"""Errors a user can mend. Command lines print them as one line and exit with code 2."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache

# What turns the text around it (Unicode 16, section 23.2), and what ends a line or a paragraph.
_TURNING = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_ENDS = (0x2028, 0x2029)


class InputError(ValueError):
    """Something the user gave is wrong; the message says what, where and what to do."""


class DataError(InputError):
    """A bar file cannot be trusted; the message names file, row and value."""


class BrokerError(InputError):
    """The venue did not answer, refused, or answered nonsense.

    The message says what was requested of whom.
    """


class SenselessAnswer(BrokerError):
    """What the venue answered says nothing that could be used.

    why: what of it, and how, uncut: what may hold secrets is redacted before it is cut. To which
        request is said where the request was made.
    """

    def __init__(self, why: str) -> None:
        super().__init__(f"the answer makes no sense: {in_one_line(why)}")
        self.why = why


class AnswerRefused(BrokerError):
    """The venue answered, and what it says of a field or an account cannot be so."""


class AccessRefused(BrokerError):
    """The keys do not open what was requested; asking again changes nothing."""


class TradingPaused(BrokerError):
    """Trading is paused at the venue, which did nothing: asking again at once does not help."""


class OrderRejected(BrokerError):
    """The venue takes no such order."""


class OutcomeUnknown(BrokerError):
    """An order was sent, and neither an answer nor a look-up says what became of it."""


class AccountChanged(BrokerError):
    """The account is not what a decision was made for any more; nothing of it was sent."""


def in_one_line(text: str, most: int = 300) -> str:
    """The text in one line of so many characters at most, with `…` where it is cut."""
    flat = " ".join(text.split())
    return flat if len(flat) <= most else f"{flat[:most]}…"


def shown(text: str) -> str:
    """The text with every character that would move, hide or turn others as its escape, `\\x1b`.

    Ends of lines and tabs stay.
    """
    return text.translate(_escapes())


@cache
def _escapes() -> dict[int, str]:
    controls = {code for code in range(0xA0) if unicodedata.category(chr(code)) == "Cc"}
    escaped = {*controls, *_TURNING, *_ENDS} - {ord("\n"), ord("\t")}
    return {code: chr(code).encode("unicode_escape").decode() for code in escaped}


def none_of(place: str, value: object, known: Iterable[str]) -> InputError:
    """What is said of a value that is none of the words that a setting takes.

    place: of the setting, its groups and itself, dotted.
    """
    return InputError(f"{place}: {value!r} is none of {', '.join(known)}")
