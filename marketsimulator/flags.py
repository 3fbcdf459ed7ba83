"""Flags that stand for settings: what is wrong with a setting is said by the flag it came from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from foundation.errors import InputError


def typed_flags(flags: Mapping[str, str], words: Sequence[str]) -> dict[str, str]:
    """Those of the flags that the words of a command line have, by the setting they stand for.

    flags: by setting. A flag may be cut short, and its value may follow an equals sign.
    """
    heads = [word.partition("=")[0] for word in words if word.startswith("--")]
    return {
        key: flag
        for key, flag in flags.items()
        if any(flag.startswith(head) and len(head) > 2 for head in heads)
    }


def refuse_both(flags: Mapping[str, str], words: Sequence[str]) -> None:
    """Refuse a setting that a flag and a word key=value both give a value.

    flags: of the command, by setting; words: of its command line.

    Raises
    ------
    InputError
        naming both.
    """
    typed = typed_flags(flags, words)
    for word in words:
        key = word.partition("=")[0]
        if key in typed:
            raise InputError(f"{typed[key]} and {word} give the same setting; leave one of them")


@contextmanager
def named_by_flags(flags: Mapping[str, str], words: Sequence[str]) -> Iterator[None]:
    """Have errors name flags where they name settings that flags of the command line stand for.

    flags: of the command, by setting; words: of its command line.

    Raises
    ------
    InputError
        as it came, in these words.
    """
    try:
        yield
    except InputError as error:
        raise InputError(_in_flags(str(error), flags, typed_flags(flags, words))) from error


def _in_flags(text: str, flags: Mapping[str, str], typed: Mapping[str, str]) -> str:
    """A message with flags for the settings that it begins with, if typed, and that it advises."""
    place, colon, rest = text.partition(": ")
    names = place.split(", ")
    if not typed.keys().isdisjoint(names):
        place = ", ".join(flags.get(name, name) for name in names)
    for key, flag in flags.items():
        rest = re.sub(rf"(?<![\w.]){re.escape(key)}=", f"{flag} ", rest)
    return f"{place}{colon}{rest}"
