"""Words key=value as people type them: what Hydra would misread is refused, or written for it.

It imports nothing heavy: `start` looks at the words before a command loads its libraries.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from foundation.errors import InputError
from foundation.redaction import redacted

MULTIRUN = ("-m", "--multirun")
_OVERRIDE = re.compile(r"[+~]{0,2}[A-Za-z_][\w.@/]*=")
_SEVERAL = re.compile(r"[^,'\"()\[\]{}]+(,[^,'\"()\[\]{}]+)+,?")
_HOME = re.compile(r"(?<=[=\[,])~(?=[/,\]]|$)")
_OTHER_THAN_PLAIN = re.compile(r"[^\w\s/\-\\+.$%*@?|:]", re.ASCII)  # what Hydra reads unquoted
_NAMED = re.compile(r"([{,]\s*)(\w+)\s*[=:]\s*")  # the names of a group's settings
_PLAIN_PART = re.compile(r"(?<=: )[^,\[\]{}]+")  # what stands behind them
_UNDERSCORED = re.compile(r"[+-]?\d[\d_]*_[\d_]*(\.[\d_]*)?(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_EMPTY = ("", "''", '""')
_PAIRS = {"]": "[", "}": "{", ")": "("}


def is_override(word: str) -> bool:
    """Whether a word is a Hydra override, key=value."""
    return bool(_OVERRIDE.match(word))


def is_sweep(words: Iterable[str]) -> bool:
    """Whether the words of a command line ask for several runs, one after the other."""
    return not set(MULTIRUN).isdisjoint(words)


def has_several(value: str) -> bool:
    """Whether a value is several words between commas, without brackets."""
    return bool(_SEVERAL.fullmatch(value))


def refuse_repeated(words: Iterable[str]) -> None:
    """Refuse a key that two words give a value: Hydra would take the last one and say nothing.

    Raises
    ------
    InputError
        naming the key and both values.
    """
    values: dict[str, str] = {}
    for word in words:
        # `~key` takes something away that another word may put there anew.
        if not is_override(word) or word.startswith("~"):
            continue
        key, _, value = word.lstrip("+").partition("=")
        if key in values:
            both = redacted(f"{values[key]} and {value}", {})
            raise InputError(f"{key} was given twice: {both}; leave one of them")
        values[key] = value


def refuse_empty(words: Iterable[str], files: Sequence[str] = ()) -> None:
    """Refuse words with nothing before or after their equals sign: no setting means that.

    files: keys whose values are names of files, as others of that name are folders'.

    Raises
    ------
    InputError
        naming the key and what is needed.
    """
    for word in words:
        if word.startswith("="):
            raise InputError(f"{word!r}: a setting's name is missing before the =")
        key, _, value = word.partition("=")
        if not is_override(word) or value.strip() not in _EMPTY or key.startswith("hydra"):
            continue
        key = key.lstrip("+~")
        if key == "output":
            kind = "file" if key in files else "folder"
            raise InputError(f"output: a {kind}'s name is needed; nothing stands after the =")
        hint = "name a folder or a file, `.` for this one" if key == "data.dir" else ""
        hint = hint or "name a value, or leave the word out for the usual one"
        raise InputError(f"{key}: it is empty; {hint}")


def refuse_underscored(words: Iterable[str]) -> None:
    """Refuse words whose value is a number of the form 1_000, which Hydra reads as 1000.

    Raises
    ------
    InputError
        naming the word, and what to write.
    """
    for word in words:
        key, _, value = word.partition("=")
        if is_override(word) and _UNDERSCORED.fullmatch(value):
            raise InputError(
                f"{word}: it would be read as {key}={value.replace('_', '')}; write that, or where"
                f" a word is meant {quoted_word(word)}"
            )


def with_home(word: str) -> str:
    """The word with the user's folder where a value, or one of several, begins with `~`.

    A shell puts it there only at the beginning of a word, and Hydra cannot read it.
    """
    return _HOME.sub(lambda _: str(Path.home()), word) if is_override(word) else word


def unreadable_text(word: str) -> str:
    """What is said of a word that Hydra cannot read, and what to write instead."""
    if not is_override(word):
        return f"{word!r} is no setting; settings are words as key=value"
    value = word.partition("=")[2]
    if mark := _unclosed(value):
        return f"{word!r} cannot be read: {mark} is not closed"
    if value.endswith(",") or ",," in value.replace(" ", ""):
        return f"{word!r} cannot be read: a value is missing beside a comma"
    marks = sorted(set(_OTHER_THAN_PLAIN.findall(_elements(value).replace(",", ""))))
    if not marks or not {"'", '"'}.isdisjoint(marks):
        return f"{word!r} cannot be read as key=value; quotes go around a whole value"
    if "{" in marks:
        key = word.partition("=")[0]
        mended = shlex.quote(f"{key}={_mended_groups(value)}")
        return f"{word!r} cannot be read; groups of settings are written {mended}"
    return (
        f"{word!r} cannot be read: a value with {' '.join(marks)} in it stands in quotes of its"
        f" own, {quoted_word(word)}"
    )


def quoted_word(word: str) -> str:
    """The word as a shell takes it, its value, or each value of its list, in quotes for Hydra."""
    key, _, value = word.partition("=")
    parts = [f'"{part.strip()}"' for part in _elements(value).split(",")]
    is_list = _elements(value) != value
    return shlex.quote(f"{key}=[{','.join(parts)}]" if is_list else f'{key}="{value}"')


def quoted_value(value: str) -> str:
    """The value in quotes, in which Hydra's grammar does not count."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _elements(value: str) -> str:
    """The value without the brackets of a list."""
    return value[1:-1] if value.startswith("[") and value.endswith("]") else value


def _mended_groups(value: str) -> str:
    """The value with a colon behind each name of its groups, and quotes where Hydra needs them."""
    with_colons = _NAMED.sub(r"\1\2: ", value)
    return _PLAIN_PART.sub(
        lambda part: f'"{part[0]}"' if _OTHER_THAN_PLAIN.search(part[0]) else part[0], with_colons
    )


def _unclosed(value: str) -> str:
    """The bracket or quote of a value that is not closed; empty where each is."""
    if value[:1] in ("'", '"') and (len(value) < 2 or value[-1] != value[0]):
        return f"the quote {value[0]}"
    opened: list[str] = []
    for mark in value:
        if mark in _PAIRS.values():
            opened.append(mark)
        elif mark in _PAIRS and opened and opened[-1] == _PAIRS[mark]:
            opened.pop()
    return f"the bracket {opened[-1]}" if opened else ""
