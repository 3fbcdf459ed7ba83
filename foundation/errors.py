"""Errors that a user can correct. Command lines print them as one line and exit with code 2."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import cache
from typing import ClassVar

from foundation.shell import format_command

# Characters that change the text direction (Unicode 16, section 23.2), and those that end a line or
# a paragraph.
_TEXT_DIRECTION_CODES = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_LINE_SEPARATOR_CODES = (0x2028, 0x2029)
MAX_LISTED_CHOICES = 24  # choices that a message names; it counts the others
MAX_SUGGESTED_KEYS = 3  # settings with the same last word, or choices with the same first part
MIN_SIMILARITY = 0.6  # difflib's ratio from which one word is proposed for another
MIN_CROSS_GROUP_SIMILARITY = 0.75  # the same ratio for a key of another group


class InputError(ValueError):
    """Invalid input of the user; the message states the error, its place, and the correction.

    exit_code: exit code of a command that ends with the error.
    """

    exit_code: ClassVar[int] = 2


class DataError(InputError):
    """Market data that fail validation; the message names the file, the row and the value."""


class BrokerError(InputError):
    """A venue does not respond, rejects a request, or sends an invalid response.

    The message names the venue and the request.
    """


class InvalidResponse(BrokerError):
    """A response of the venue that cannot be used.

    why: invalid part of the response, and the reason. It is not truncated, because secrets must be
        redacted before truncation. The caller adds the name of the request.
    """

    def __init__(self, why: str) -> None:
        super().__init__(f"invalid response: {to_one_line(why)}")
        self.why = why


class ResponseRejected(BrokerError):
    """A rejected response of the venue: a field or the account has an impossible value."""


class AccessDenied(BrokerError):
    """The API keys do not allow the request; a retry would fail, too."""


class TradingPaused(BrokerError):
    """The venue has paused trading and rejected the request; an immediate retry would fail, too."""


class OrderRejected(BrokerError):
    """The venue's rejection of an order.

    alerted: whether an alert of this rejection has been sent.
    """

    def __init__(self, why: str, *, alerted: bool = False) -> None:
        super().__init__(why)
        self.alerted = alerted


class OutcomeUnknown(BrokerError):
    """An order was sent, but neither a response nor a look-up shows its outcome."""


class AccountChanged(BrokerError):
    """The account has changed since the account snapshot of the decision; no order was sent."""


def to_one_line(text: str, max_length: int = 300) -> str:
    """Return the text as one line of at most `max_length` characters; a cut text ends in `…`."""
    flat = " ".join(text.split())
    return flat if len(flat) <= max_length else f"{flat[:max_length]}…"


def escape_controls(text: str) -> str:
    """Return the text with control and direction characters as escapes, such as `\\x1b`.

    Line ends and tabs are not escaped.
    """
    plain = text.isascii() and text.isprintable()
    return text if plain else text.translate(_control_escapes())


@cache
def _control_escapes() -> dict[int, str]:
    controls = {code for code in range(0xA0) if unicodedata.category(chr(code)) == "Cc"}
    escaped = {*controls, *_TEXT_DIRECTION_CODES, *_LINE_SEPARATOR_CODES} - {ord("\n"), ord("\t")}
    return {code: chr(code).encode("unicode_escape").decode() for code in escaped}


def invalid_choice_error(
    key: str, value: object, choices: Iterable[str], *, other_accepted_values: str = ""
) -> InputError:
    """Return an InputError for a value that is not one of `choices`, suggesting the nearest choice.

    key: dotted name of the setting, or name of the flag or file, that has the value.
    other_accepted_values: description of further accepted values; empty for none.
    """
    known = list(choices)
    if len(known) == 1 and not other_accepted_values:
        return InputError(f"{key}: {value!r} is unknown; the only choice is {known[0]}")
    others = f"; also accepted: {other_accepted_values}" if other_accepted_values else ""
    hint = format_suggestion(
        _choices_of_same_duration(value, known) or closest_choices(str(value), known)
    )
    return InputError(f"{key}: {value!r} is not one of {format_choices(known)}{others}{hint}")


def unknown_key_error(key: str, keys: Iterable[str], *, advice: str = "") -> InputError:
    """Return the InputError for an unknown setting; it suggests the nearest setting.

    key: dotted key as typed.
    keys: dotted keys of all existing settings.
    advice: text that says where all settings are listed.
    """
    known = list(keys)
    group = key.rpartition(".")[0]
    siblings = [each.rpartition(".")[2] for each in known if each.rpartition(".")[0] == group]
    meant = closest_keys(key, known)
    inside = ""
    if siblings and (group or not meant):
        inside = f"; settings of {group or 'this command'}: {format_choices(siblings)}"
    hint = format_suggestion(meant)
    where = f" ({advice})" if advice else ""
    return InputError(f"{key}: unknown setting{inside}{hint}{where}")


def not_installed_error(library: str, user: str, extra: str) -> InputError:
    """Return the InputError for a missing optional library.

    user: the command or setting that needs the library.
    extra: the project's extra that installs the library.
    """
    install = format_command(f"pip install -e '.[{extra}]'")
    return InputError(
        f"{library} is not installed, but {user} needs it; run {install} in the project's folder"
    )


def find_keys_by_last_part(key: str, keys: Iterable[str]) -> list[str]:
    """Return the dotted keys with the same last part as `key`: `sizing.strategy` for `strategy`."""
    word = key.rpartition(".")[2]
    return [each for each in keys if each.rpartition(".")[2] == word]


def _choices_of_same_duration(value: object, choices: Iterable[str]) -> list[str]:
    """Return the choices equal to a number of minutes: `1h` for 60."""
    minutes = {"m": 1, "h": 60, "d": 24 * 60}
    return [
        choice
        for choice in choices
        if choice[-1:] in minutes
        and choice[:-1].isdecimal()
        and str(int(choice[:-1]) * minutes[choice[-1]]) == str(value)
    ]


def closest_choices(
    word: str, choices: Sequence[str], similarity: float = MIN_SIMILARITY
) -> list[str]:
    """Return the choice most similar to a word, ignoring case; empty without a similar one.

    If no choice is similar as a whole, return the choices whose first part is similar:
    `drop_before` and `drop_after` for `dropp`.
    """
    by_fold = {choice.casefold(): choice for choice in reversed(choices)}
    if found := get_close_matches(word.casefold(), by_fold, n=1, cutoff=similarity):
        return [by_fold[fold] for fold in found]
    firsts = {choice.casefold().partition("_")[0] for choice in choices if "_" in choice}
    first = get_close_matches(word.casefold(), sorted(firsts), n=1, cutoff=similarity)
    begun = [choice for choice in choices if choice.casefold().partition("_")[0] in first]
    return begun if len(begun) <= MAX_SUGGESTED_KEYS else []


def format_suggestion(choices: Sequence[str]) -> str:
    """Return the end of a message that suggests these choices; empty without choices."""
    return f"; did you mean {' or '.join(choices)}?" if choices else ""


def format_choices(choices: Sequence[str]) -> str:
    """List the first choices, separated by commas, and the number of further choices."""
    more = len(choices) - MAX_LISTED_CHOICES
    names = ", ".join(choices[:MAX_LISTED_CHOICES])
    return f"{names} and {more} more" if more > 0 else names


def closest_keys(key: str, known: Sequence[str]) -> list[str]:
    """Return the settings nearest to a mistyped key, in the key's group or in another group."""
    group, dot, word = key.rpartition(".")
    if 0 < len(moved := find_keys_by_last_part(key, known)) <= MAX_SUGGESTED_KEYS:
        return moved
    siblings = {each.rpartition(".")[2]: each for each in known if each.rpartition(".")[0] == group}
    near = closest_choices(word, list(siblings)) or [
        name for name in siblings if word in name.split("_")
    ]
    if 0 < len(near) <= MAX_SUGGESTED_KEYS:
        return [siblings[name] for name in near]
    if dot and group in known and not siblings:  # a group that is null has no keys to propose
        return [group]
    by_word = {each.rpartition(".")[2]: each for each in reversed(known)}
    return [
        by_word[near] for near in closest_choices(word, list(by_word), MIN_CROSS_GROUP_SIMILARITY)
    ]
