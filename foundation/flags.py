"""Flags of a command line: what is wrong with one is a line; some stand for settings."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from foundation.ending import fail
from foundation.errors import InputError
from foundation.overrides import is_override, quoted_value, refuse_repeated


class Parser(argparse.ArgumentParser):
    """Flags whose refusals are one line and exit code 2; `start` answers --help.

    words: what it takes key=value for, where flags stand beside settings.
    """

    def __init__(self, *, settings: bool = False, **options: Any) -> None:
        super().__init__(add_help=False, **options)
        if settings:
            self.add_argument("overrides", nargs="*", metavar="key=value")

    def error(self, message: str) -> NoReturn:
        fail(InputError(f"{message} (see --help)"))

    def refuse_others(self, words: Iterable[str]) -> None:
        """Refuse the first word that is no key=value."""
        for word in words:
            if not is_override(word):
                self.error(f"{word!r} is no flag and no key=value")


def overrides_of_flags(flags: Mapping[str, Any], words: Sequence[str] = ()) -> list[str]:
    """Hydra overrides for values by key, and the words; None and empty lists have none.

    A setting that a flag and a word give a value is refused.
    """
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
    refuse_repeated([*overrides, *words])
    return [*overrides, *words]
