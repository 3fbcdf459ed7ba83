"""Errors a user can mend. Command lines print them as one line and exit with code 2."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user gave is wrong; the message says what, where and what to do."""


class DataError(InputError):
    """A bar file cannot be trusted; the message names file, row and value."""


class BrokerError(InputError):
    """The venue did not answer, refused, or answered nonsense; the message says what was asked of whom."""
