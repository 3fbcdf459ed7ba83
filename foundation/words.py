"""Words key=value as people type them: refused or rewritten if Hydra would misread them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from foundation.errors import InputError
from foundation.redaction import redacted

_OVERRIDE = re.compile(r"\+{0,2}[A-Za-z_][\w.@/]*=")
_REMOVAL = re.compile(r"~(hydra/)?[\w.@]+(=|$)")
_PLUGIN = re.compile(r"\+{0,2}hydra[\w.@/]*\._target_=")
_USERS = re.compile(r"""(?:^|(?<=[=\[,'"]))~\w[^/,'"\]]*""")
_HOME = re.compile(r"(?<=[=\[,])~(?=[/,\]]|$)")
_UNDERSCORED = re.compile(r"[+-]?\d[\d_]*_[\d_]*(\.[\d_]*)?(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_EMPTY = ("", "''", '""')


def is_override(word: str) -> bool:
    """Return whether a word is a setting, key=value."""
    return bool(_OVERRIDE.match(word))


def refuse_repeated(words: Iterable[str]) -> None:
    """Refuse a key that two words give a value: Hydra would take the last one silently.

    A group in braces gives a value to each of its keys.
    """
    values: dict[str, str] = {}
    for word in words:
        if not is_override(word):
            continue
        key, _, value = word.lstrip("+").partition("=")
        if key in values:
            both = redacted(f"{values[key]} and {value}", {})
            raise InputError(f"{key} was given twice: {both}; leave one of them")
        values[key] = value
    for group, value in values.items():
        inner = [key for key in values if key.startswith(f"{group}.")]
        if inner and value.lstrip().startswith("{"):
            both = redacted(f"{group}={value} and {inner[0]}={values[inner[0]]}", {})
            raise InputError(f"{group} was given twice: {both}; leave one of them")


def refuse_words(words: Iterable[str]) -> None:
    """Refuse `~key`, which removes a setting, unknown homes, and code in Hydra's groups.

    A removed setting would take its class's default, which may differ from the configuration's.
    """
    for before, word in pairwise(["", *words]):
        if _REMOVAL.match(word):
            raise InputError(f"{word}: ~ takes nothing away; leave the word out for what is usual")
        if _PLUGIN.match(word):
            raise InputError(f"{word}: Hydra's own groups name no code here; leave it out")
        if before.startswith("--"):  # the command of the flag reports it
            continue
        for home in _USERS.findall(word):
            if os.path.expanduser(home) == home:
                raise InputError(f"{word}: there is no user {home[1:]}, whose folder {home} is")


def quoted_value(value: str) -> str:
    """Return the value in quotes, which Hydra's grammar takes literally."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def refuse_empty(words: Iterable[str]) -> None:
    """Refuse words with nothing before or after their equals sign."""
    for word in words:
        if word.startswith("="):
            raise InputError(f"{word!r}: a setting's name is missing before the =")
        key, _, value = word.lstrip("+").partition("=")
        if is_override(word) and value.strip() in _EMPTY and not key.startswith("hydra"):
            raise InputError(f"{key}: it is empty; name a value, or leave it out for the usual one")


def refuse_underscored(words: Iterable[str]) -> None:
    """Refuse words whose value is a number of the form 1_000, which Hydra reads as 1000."""
    for word in words:
        key, _, value = word.partition("=")
        if is_override(word) and _UNDERSCORED.fullmatch(value):
            raise InputError(
                f"{word}: it would be read as {key}={value.replace('_', '')}; write that, or where"
                f" a word is meant '{key}=\"{value}\"'"
            )


def with_home(word: str) -> str:
    """Return the word with the user's folder where a value, or one of several, begins with `~`.

    A shell puts it there only at the beginning of a word, and Hydra cannot read it.
    """
    return _HOME.sub(lambda _: str(Path.home()), word) if is_override(word) else word
