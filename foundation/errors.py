"""Errors a user can mend. Command lines print them as one line and exit with code 2."""

from __future__ import annotations


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


class AccessRefused(BrokerError):
    """The keys do not open what was requested; asking again changes nothing."""


class OrderRejected(BrokerError):
    """The venue takes no such order."""


class OutcomeUnknown(BrokerError):
    """An order was sent, and neither an answer nor a look-up says what became of it."""


class AccountChanged(BrokerError):
    """The account is not what a decision was made for any more; nothing of it was sent."""


def in_one_line(text: str) -> str:
    """The text in one line of 300 characters at most."""
    flat = " ".join(text.split())
    return flat if len(flat) <= 300 else f"{flat[:300]}…"


def refuse_outside(settings: object, group: str = "", **bounds: tuple[float, float]) -> None:
    """Refuse a field that is not within its bounds, the bounds included.

    group: of the settings, in front of the field's name.

    Raises
    ------
    InputError
        naming the field, the value and the bounds.
    """
    prefix = f"{group}." if group else ""
    for name, (low, high) in bounds.items():
        value = getattr(settings, name)
        if not low <= value <= high:
            raise InputError(f"{prefix}{name}: {value} is outside {low:g} … {high:g}")
