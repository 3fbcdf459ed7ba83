"""Write docs/SETTINGS.md, every key of every configuration, from the settings classes.

make settings-page
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from foundation.configuration import OVERWRITE_KEY
from foundation.declared import CONFIGS, classes_of, keys_of, plain_value
from foundation.registry import registered
from foundation.settings import settings_in

PAGE = Path(__file__).resolve().parent / "SETTINGS.md"
NO_SETTINGS = {"defaults", "hydra", OVERWRITE_KEY}

HEAD = "key | value | meaning\n--- | --- | ---"
_WORDS = {"number": "number", "integer": "whole", "string": "text", "object": "mapping"}
_WORDS |= {"boolean": "`true`, `false`", "null": "`null`", "": "anything"}
_BOUNDS = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))

INTRODUCTION = """# Settings

Look up which words a command takes: `key=value`, as `sizing.fraction=0.25`. A list is in quotes,
`'symbols=[NVDA,AAPL]'`; a key that the command's file does not have is `+key=value`.
`make settings-page` makes this page from the settings classes and `configs/*.yaml`.

A value is the class's default, then what else the key takes: `1.0` stands for any number, `1` for
whole ones, 0…1 for both ends, >0…<1 for neither, `[]` and `null` alone for texts, `true` and
`false` for each other. Where a meaning does not say so, `null` (in meanings: none) switches off.

## Commands

A configuration has the keys of its classes, with what its file says instead of their defaults
(`--cfg job`); `overwrite=true` lets its `output` replace something else."""


def own_keys(kind: type[Any]) -> dict[str, FieldInfo]:
    """The keys that a class has beside those of its bases."""
    own = inspect.get_annotations(kind)
    return {key: field for key, field in keys_of(kind).items() if key in own}


def every_class() -> dict[str, type[Any]]:
    """The settings classes of all configurations, by name, each once."""
    every = (kind for name in registered("SETTINGS") for kind in classes_of(name))
    return {name: kind for each in every for name, kind in with_inner(each).items()}


def with_inner(kind: type[Any]) -> dict[str, type[Any]]:
    """A settings class, its bases and all that their fields are of, by name, each once."""
    found = {kind.__name__: kind}
    inner = (settings_in(field.annotation) for field in keys_of(kind).values())
    for other in (*_bases_of(kind), *inner):
        if other is not None:
            found |= with_inner(other)
    return found


def _bases_of(kind: type[Any]) -> list[type[Any]]:
    return [base for base in kind.__bases__ if dataclasses.is_dataclass(base)]


def table_of(kind: type[Any]) -> str:
    """The table of a settings class: a row a key of its own, as schema and default say."""
    schema = TypeAdapter(kind).json_schema()
    schemas = schema.get("properties") or schema["$defs"][kind.__name__]["properties"]
    rows = (
        (f"`{key}`", _value(schemas[key], field), field.description or "")
        for key, field in own_keys(kind).items()
    )
    return "\n".join(
        [HEAD, *(" | ".join(each.replace("|", "\\|") for each in row) for row in rows)]
    )


def _value(schema: Mapping[str, Any], field: FieldInfo) -> str:
    """The default, and what a key takes beside it as far as the default does not show that."""
    if "$ref" in schema:
        return _type(schema)
    kinds = schema.get("anyOf", [schema])
    if field.is_required():
        return "needed: " + " or ".join(map(_type, kinds))
    default = field.get_default(call_default_factory=True, validated_data={})
    taken = (part for kind in kinds for part in _beside(kind, default))
    return ", ".join(dict.fromkeys([_shown(default), *taken]))


def _beside(kind: Mapping[str, Any], default: Any) -> list[str]:
    """What a type takes, where a default of it does not say so."""
    if words := _choices(kind):
        return words
    text = _type(kind)
    is_plain = text.removeprefix("list of ") in _WORDS.values() and text != _WORDS["null"]
    is_clear = text.endswith("text") or default not in (None, ())
    if is_plain and is_clear:
        return []
    return [text if default is None else text.removeprefix("whole ")]


def _type(schema: Mapping[str, Any]) -> str:
    """What a type takes: words, numbers within bounds, a class, several of them."""
    if "$ref" in schema:
        return _link(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_type, schema["anyOf"])))
    if "items" in schema or "prefixItems" in schema:
        inner = schema.get("prefixItems", [schema.get("items", {})])
        return f"list of {' and '.join(dict.fromkeys(map(_type, inner)))}"
    word, bounds = _WORDS.get(schema.get("type", ""), ""), _bounds(schema)
    words = ", ".join(_choices(schema)) or word
    return bounds if bounds and word == "number" else f"{words} {bounds}".strip()


def _choices(kind: Mapping[str, Any]) -> list[str]:
    return [f"`{word}`" for word in kind.get("enum", [kind["const"]] if "const" in kind else [])]


def _bounds(kind: Mapping[str, Any]) -> str:
    """The least and the largest number, 0…1; a bound that is none of them has its sign, >0…<1."""
    low, high = (
        next((f"{sign}{kind[word]:.12g}" for word, sign in signs if word in kind), "")
        for signs in (_BOUNDS[:2], _BOUNDS[2:])
    )
    if low and high:
        return f"{low.removeprefix('≥')}…{high.removeprefix('≤')}"
    return low or high


def _shown(value: Any) -> str:
    """A default as it stands in YAML, on one line."""
    if isinstance(value, list | tuple) and any(map(dataclasses.is_dataclass, value)):
        return f"{len(value)} row{'s' if len(value) > 1 else ''}"
    text = yaml.safe_dump(plain_value(value), default_flow_style=True, width=10_000)
    return f"`{text.removesuffix('...' + chr(10)).strip()}`"


def page() -> str:
    """The page as it should be now."""
    parts = [INTRODUCTION, *map(_section, registered("SETTINGS"))]
    for name, kind in sorted(every_class().items()):
        if own_keys(kind):
            about = (inspect.getdoc(kind) or "").splitlines()[0]
            bases = " and ".join(_link(base.__name__) for base in _bases_of(kind) if own_keys(base))
            parts += [f"## {name}", f"{about} Includes {bases}." if bases else about]
            parts += [table_of(kind)]
    return "\n\n".join(parts) + "\n"


def _link(name: str) -> str:
    return f"[{name}](#{name.lower()})"


def _section(name: str) -> str:
    """A configuration: what its file says it is for, its classes, and what the file alone has."""
    text = (CONFIGS / f"{name}.yaml").read_text()
    about = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("#"))
    links = ", ".join(_link(kind.__name__) for kind in classes_of(name))
    known = NO_SETTINGS | keys_of(*classes_of(name)).keys()
    said = re.findall(r"^(\w+):.*?[ ]# *(.+)$", text, re.MULTILINE)
    beside = [f"- `{key}`: {meaning}" for key, meaning in said if key not in known]
    return "\n\n".join([f"### {name}", f"{about} {links}.", *filter(None, ["\n".join(beside)])])


if __name__ == "__main__":
    PAGE.write_text(page())
