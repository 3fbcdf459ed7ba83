"""Flags of a command line: what is wrong with one is a line, and so is what it stands for.

Some flags stand for settings: what is wrong with the setting is said by the flag it came from.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from foundation.ending import fail
from foundation.errors import InputError, invalid_choice
from foundation.overrides import is_override, nearest_flag, quoted_value


class Parser(argparse.ArgumentParser):
    """Flags whose refusals are one line and exit code 2; `start` answers --help.

    words: what it takes key=value for, where flags stand beside settings.
    """

    def __init__(self, *, settings: bool = False, **options: Any) -> None:
        super().__init__(add_help=False, **options)
        if settings:
            self.add_argument("overrides", nargs="*", metavar="key=value")

    def error(self, message: str) -> NoReturn:
        fail(InputError(f"{message}{nearest_flag(self, message)} (see --help)"))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            name = "/".join(action.option_strings) or action.metavar or action.dest
            choices = map(str, action.choices)
            raise argparse.ArgumentError(None, str(invalid_choice(str(name), value, choices)))

    def refuse_others(self, words: Iterable[str]) -> None:
        """Refuse the first word that is no key=value."""
        for word in words:
            if not is_override(word):
                self.error(f"{word!r} is no flag and no key=value")


def overrides_of_flags(flags: Mapping[str, Any]) -> list[str]:
    """Hydra overrides for values by key; None and empty lists have none."""
    overrides = []
    for key, value in flags.items():
        if value is None or value == []:
            continue
        if isinstance(value, list):
            # Commas, brackets and colons are Hydra's grammar: a folder's name may have any of them.
            text = f"[{','.join(map(quoted_value, value))}]"
        else:
            text = quoted_value(str(value))
        overrides.append(f"{key}={text}")
    return overrides


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
