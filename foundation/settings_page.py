"""Tables of settings for readers, made of what the settings classes and the YAML say themselves.

A key's type is its annotation, its meaning its line in the docstring of its class, its default what
the YAML has. Its bounds are asked of the class: the least and the largest number that its checks
take. What only a later stage refuses (a model, a file) has no bounds here.
"""

from __future__ import annotations

import inspect
import math
import re
import struct
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from decimal import Decimal
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from foundation.errors import InputError

WORDS = {bool: "true or false", int: "whole number", float: "number", Decimal: "number"}
WORDS |= {str: "text", type(None): "null", Any: "anything"}
PLURALS = {"text": "texts", "number": "numbers", "whole number": "whole numbers"}
TRIED = (1, 0, 0.5, 0.9, 0.1, 10, 100, 1000)  # numbers of which a key that may be null takes one
LARGEST = {int: 2**70, float: 1e300}
STEPS = (-10, -1, -0.015, 0.015, 1, 2, 10)
FACTORS = (-1, 0.01, 0.37, 3, 50)
FIELD_LINE = re.compile(r"(\w+(?:, \w+)*): (.+)")
VARIABLE = re.compile(r"\$\{oc\.env:(\w+),([^${}]*)\}")
NESTED_VARIABLE = re.compile(r"oc\.env:(\w+),")
REFERENCE = re.compile(r"\$\{([\w.]+)\}")


Edge = tuple[float, float]  # the last number taken, the first refused


@dataclass(frozen=True, slots=True)
class Row:
    """A key of a configuration as a reader sees it; every field is Markdown.

    key: with the groups that it lies in, and points between them.
    type: what its value is, in words.
    bounds: that its class refuses to leave; empty where it has none.
    default: of the configuration.
    meaning: a sentence or less.
    """

    key: str
    type: str
    bounds: str
    default: str
    meaning: str

    @property
    def line(self) -> str:
        """The row of a Markdown table."""
        cells = (f"`{self.key}`", self.type, self.bounds, self.default, self.meaning)
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


HEAD = "| key | type | bounds | default | meaning |\n| --- | --- | --- | --- | --- |"


def rows_of(
    values: Mapping[str, Any], owners: Sequence[object], comments: Mapping[str, str]
) -> Iterator[Row]:
    """A row for each key of a composed configuration, those of a group below the group's own.

    values: of the configuration, interpolations unresolved.
    owners: settings with their defaults; a key is a field of the first that has it.
    comments: on keys that are a field of the first owner or of none, by key.

    Raises
    ------
    ValueError
        for a key that nobody says the meaning of.
    """
    for key, value in values.items():
        candidates = owners[:1] if key in comments else owners
        owner = next((owner for owner in candidates if key in field_types(type(owner))), None)
        if owner is not None:
            yield from _field_rows(owner, key, value, "")
        elif key in comments:
            kind = "" if value is None else type_text(type(value))
            yield Row(key, kind, "", default_text(value), comments[key])
        else:
            raise ValueError(f"{key}: no settings class has it, and no comment stands beside it")


def _field_rows(owner: Any, name: str, value: Any, place: str) -> Iterator[Row]:
    """The row of a field, or those of the group that it is."""
    key = f"{place}{name}"
    kind = field_types(type(owner))[name]
    meaning = field_meanings(type(owner)).get(name)
    if meaning is None:
        raise ValueError(f"{key}: the docstring of {type(owner).__name__} does not say what it is")
    if isinstance(value, Mapping) and is_dataclass(kind):
        inner = getattr(owner, name)
        yield Row(key, "group", "", "", meaning)
        for part, given in value.items():
            yield from _field_rows(inner, part, given, f"{key}.")
    else:
        bounds = bounds_text(owner, name)
        yield Row(key, type_text(kind), bounds, default_text(value), meaning)


def field_types(kind: type[Any]) -> dict[str, Any]:
    """The annotation of every field of a settings class."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def field_meanings(kind: type[Any]) -> dict[str, str]:
    """What the docstrings of a settings class and of those that it extends say of its fields."""
    names = field_types(kind)
    meanings: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        latest: list[str] = []
        for line in inspect.cleandoc(vars(base).get("__doc__") or "").splitlines():
            match = FIELD_LINE.fullmatch(line)
            if match is not None and set(match[1].split(", ")) <= set(names):
                latest = match[1].split(", ")
                meanings |= dict.fromkeys(latest, match[2])
            elif line.startswith(" "):
                meanings |= {name: f"{meanings[name]} {line.strip()}" for name in latest}
            else:
                latest = []
    return meanings


def type_text(kind: Any) -> str:
    """An annotation in words."""
    if kind in WORDS:
        return WORDS[kind]
    origin = get_origin(kind)
    if origin is Literal:
        return _alternatives([f"`{choice}`" for choice in get_args(kind)])
    if origin in (Union, types.UnionType):
        return _alternatives([type_text(part) for part in get_args(kind)])
    if origin is tuple:
        parts = [type_text(part) for part in get_args(kind) if part is not Ellipsis]
        same = len(set(parts)) == 1
        return f"list of {_plural(parts[0])}" if same else f"[{', '.join(parts)}]"
    if is_dataclass(kind):
        return f"{{{', '.join(field.name for field in fields(kind))}}}"
    return "mapping" if issubclass(origin or kind, Mapping) else "list"


def _plural(word: str) -> str:
    return PLURALS.get(word, re.sub("^list ", "lists ", word))


def _alternatives(words: list[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def default_text(value: Any) -> str:
    """A default as it stands in YAML; variables of the environment and the clock in words."""
    if value == "???":
        return "none: it is needed"
    if isinstance(value, (list, tuple)) and any(isinstance(part, Mapping) for part in value):
        return "1 entry" if len(value) == 1 else f"{len(value)} entries"
    if not isinstance(value, str):
        return f"`{_yaml(value)}`"
    if match := VARIABLE.fullmatch(value):
        return f"`{match[2]}`, or `${match[1]}`"
    if match := REFERENCE.fullmatch(value):
        return f"that of `{match[1]}`"
    value = NESTED_VARIABLE.sub(r"\1:-", value).replace('"', "")
    value = re.sub(r"\$\{now:[^}]*\}", "TIME", value)
    return f"`{value}`" if value else '`""`'


def _yaml(value: Any) -> str:
    """A plain value in the flow style of YAML."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_yaml(part)}' for key, part in value.items())}}}"
    return number_text(value) if isinstance(value, float) else str(value)


def bounds_text(settings: Any, name: str) -> str:
    """Between which numbers a field may lie; empty where its class refuses none.

    Its class is asked, the other fields as they are.
    """
    kind = field_types(type(settings))[name]
    number = next((part for part in (kind, *get_args(kind)) if part in (int, float, Decimal)), None)
    if number is None or get_origin(kind) in (tuple, Literal) or bool in (kind, *get_args(kind)):
        return ""

    def taken(value: float) -> bool:
        given = Decimal(repr(value)) if number is Decimal else value
        try:
            replace(settings, **{name: given})
        except InputError:
            return False
        return True

    whole = number is int
    default = getattr(settings, name)
    tried = TRIED if default is None else (int(default) if whole else float(default),)
    start = next((x for x in tried if (not whole or x == int(x)) and taken(x)), None)
    if start is None:
        return ""
    most = LARGEST[int if whole else float]
    low = _edge(taken, start, -most, whole=whole)
    high = _edge(taken, start, most, whole=whole)
    if not _is_interval(taken, start, low, high, whole=whole):
        return ""
    return ", ".join(bound for bound in (_bound(low, "≥", ">"), _bound(high, "≤", "<")) if bound)


def _edge(
    taken: Callable[[float], bool], inside: float, beyond: float, *, whole: bool
) -> Edge | None:
    """The last number taken and the first refused on the way to `beyond`; None if all are taken."""
    if taken(beyond):
        return None
    # Floats in their order are the integers of their bits: halving those ends in 64 steps.
    to_number: Callable[[int], float] = (lambda rank: rank) if whole else _float_of_rank
    first = int(inside) if whole else _rank_of_float(inside)
    last = int(beyond) if whole else _rank_of_float(beyond)
    while abs(last - first) > 1:
        middle = (first + last) // 2
        if taken(to_number(middle)):
            first = middle
        else:
            last = middle
    return to_number(first), to_number(last)


def _is_interval(
    taken: Callable[[float], bool],
    start: float,
    low: Edge | None,
    high: Edge | None,
    *,
    whole: bool,
) -> bool:
    """Whether numbers around one that is taken are taken between the edges and nowhere else."""
    # Whole cents, or one of five sizes, are no interval, and an edge of them says nothing.
    for number in (*(start + step for step in STEPS), *(start * factor for factor in FACTORS)):
        if whole and number != int(number):
            continue
        inside = (low is None or number >= low[0]) and (high is None or number <= high[0])
        if taken(int(number) if whole else number) != inside:
            return False
    return True


def _rank_of_float(value: float) -> int:
    bits: int = struct.unpack("<q", struct.pack("<d", abs(value)))[0]
    return -bits if value < 0 else bits


def _float_of_rank(rank: int) -> float:
    value: float = struct.unpack("<d", struct.pack("<q", abs(rank)))[0]
    return -value if rank < 0 else value


def _bound(edge: Edge | None, included: str, excluded: str) -> str:
    """A bound in the number that a person would have written: the shorter of the two."""
    if edge is None:
        return ""
    last, first = edge
    # Of whole numbers the last one taken is always as good a word as the next.
    if isinstance(last, int) or len(repr(last)) <= len(repr(first)):
        return f"{included} {number_text(last)}"
    return f"{excluded} {number_text(first)}"


def number_text(value: float) -> str:
    """A number as a person writes it: 2000, 0.05, 1e12, 2^63."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    power = round(math.log2(abs(value)))
    if power > 32 and abs(abs(value) - 2.0**power) <= 1:
        return f"2^{power}" if abs(value) == 2**power else f"2^{power} − 1"
    if value == int(value) and abs(value) <= 1e6:
        return str(int(value))
    if value == int(value):
        mantissa = f"{int(value)}".rstrip("0")
        return f"{mantissa}e{len(str(int(value))) - len(mantissa)}"
    return f"{value:.12g}".replace("e-0", "e-")
