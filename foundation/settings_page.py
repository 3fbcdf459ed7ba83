"""What classes of settings declare: a table for readers, and schemas without the classes."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter

from foundation.refusals import settings_in
from foundation.settings import NO_KEY

HEAD = "key | value | meaning\n--- | --- | ---"
_WORDS = {"number": "number", "integer": "whole", "boolean": "`true`, `false`"}
_WORDS |= {"string": "text", "null": "`null`", "object": "mapping"}
_BOUNDS = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
_OF: Mapping[str, type[Any] | tuple[type[Any], ...]] = {
    "null": type(None),
    "boolean": bool,
    "integer": int,
    "number": (int, float, Decimal),
    "string": str,
    "array": (list, tuple),
    "object": Mapping,
}


def bases_of(kind: type[Any]) -> list[type[Any]]:
    """The settings classes whose keys a class has as well."""
    return [base for base in kind.__bases__ if dataclasses.is_dataclass(base)]


def own_keys(kind: type[Any]) -> list[str]:
    """The keys that a class has beside those of its bases."""
    return [key for key in schemas_of(kind) if key in _own(kind)]


def schemas_of(kind: type[Any]) -> dict[str, Any]:
    """The JSON schema of every key of a settings class."""
    schema = TypeAdapter(kind).json_schema()
    fields = schema.get("properties") or schema["$defs"][kind.__name__]["properties"]
    return {key: _as_number(value) for key, value in fields.items() if NO_KEY not in value}


def _as_number(schema: dict[str, Any]) -> dict[str, Any]:
    """A decimal's schema, which is a number's or a text's that reads as one, as the number's."""
    number, *others = schema.get("anyOf", [{}])
    is_decimal = number.get("type") == "number" and [each["type"] for each in others] == ["string"]
    kept = {word: value for word, value in schema.items() if word != "anyOf"}
    return kept | number if is_decimal else schema


def plain_schemas(kind: type[Any]) -> dict[str, Any]:
    """The schemas of a class's own keys, with plain defaults, and classes by their names."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    return {
        key: _without_titles(value) | _plain_default(fields[key])
        for key, value in schemas_of(kind).items()
        if key in _own(kind)
    }


def _without_titles(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_titles(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        word: _without_titles(value)
        for word, value in schema.items()
        if word not in ("title", "default")
    }
    if "$ref" in kept:
        kept["$ref"] = kept["$ref"].rpartition("/")[2]
    return kept


def _plain_default(field: Any) -> dict[str, Any]:
    if field.default_factory is not dataclasses.MISSING:
        return {"default": field.default_factory()}
    return {} if field.default is dataclasses.MISSING else {"default": plain_value(field.default)}


def plain_value(value: Any) -> Any:
    """A default as YAML has it; of settings the keys that differ from their class."""
    if dataclasses.is_dataclass(value):
        return {
            field.name: plain_value(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if getattr(value, field.name) != field.default
        }
    if isinstance(value, list | tuple):
        return [plain_value(each) for each in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def _own(kind: type[Any]) -> Mapping[str, Any]:
    return inspect.get_annotations(kind)


def classes_of(kind: type[Any]) -> dict[str, type[Any]]:
    """A settings class, its bases and all that their fields are of, by name, each once."""
    found = {kind.__name__: kind}
    inner = (settings_in(field.type) for field in dataclasses.fields(kind))
    for other in (*bases_of(kind), *inner):
        if other is not None:
            found |= classes_of(other)
    return found


def table_of(kind: type[Any]) -> str:
    """The table of a settings class: a row a key of its own, as schema and default say."""
    rows = schemas_of(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    return "\n".join([HEAD, *(_row(name, rows[name], fields[name]) for name in own_keys(kind))])


def _row(name: str, schema: Mapping[str, Any], field: Any) -> str:
    cells = (f"`{name}`", _value(schema, field), schema.get("description", ""))
    return " | ".join(cell.replace("|", "\\|") for cell in cells)


def _value(schema: Mapping[str, Any], field: Any) -> str:
    """The default, and what a key takes beside it as far as the default does not show that."""
    if "$ref" in schema:
        return _type(schema)
    has_factory = field.default_factory is not dataclasses.MISSING
    default = field.default_factory() if has_factory else field.default
    kinds = schema.get("anyOf", [schema])
    if default is dataclasses.MISSING:
        return "needed: " + " or ".join(map(_taken, kinds))
    own = [kind for kind in kinds if _is_of(default, kind)]
    others = [_taken(kind) for kind in kinds if kind not in own and not _is_text(kind)]
    return ", ".join([*(_with_default(default, kind) for kind in own), *others])


def _is_text(kind: Mapping[str, Any]) -> bool:
    return kind.get("type") == "string" and not _choices(kind)


def _is_of(default: Any, kind: Mapping[str, Any]) -> bool:
    if words := _choices(kind):
        return default in words
    name = kind.get("type", "")
    is_flag = isinstance(default, bool)
    return isinstance(default, _OF.get(name, ())) and is_flag == (name == "boolean")


def _with_default(default: Any, kind: Mapping[str, Any]) -> str:
    """A default and what else its type takes; 20.0 stands for any number, 20 for a whole one."""
    if words := _choices(kind):
        return ", ".join([f"`{default}`", *(f"`{word}`" for word in words if word != default)])
    if kind["type"] == "number" and float(default).is_integer():
        return f"`{int(default)}.0` {_bounds(kind)}".strip()
    if kind["type"] == "array":
        inner = _type(kind).removeprefix("list ")
        shown = yaml_text(default)
        is_clear = inner == "of text" or (default and not inner.startswith("of ["))
        return shown if is_clear else f"{shown} {inner}"
    return f"{yaml_text(default)} {_bounds(kind)}".strip()


def _taken(kind: Mapping[str, Any]) -> str:
    """A type with its bounds."""
    bounds = _bounds(kind)
    return bounds if bounds and kind["type"] == "number" else f"{_type(kind)} {bounds}".strip()


def _choices(kind: Mapping[str, Any]) -> list[Any]:
    return list(kind.get("enum", [kind["const"]] if "const" in kind else []))


def _bounds(kind: Mapping[str, Any]) -> str:
    """The least and the largest number, 0…1; a bound that is none of them has its sign, >0…<1."""
    low, high = (
        next((f"{sign}{kind[word]:.12g}" for word, sign in signs if word in kind), "")
        for signs in (_BOUNDS[:2], _BOUNDS[2:])
    )
    if low and high:
        return f"{low.removeprefix('≥')}…{high.removeprefix('≤')}"
    return low or high


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if words := _choices(schema):
        return ", ".join(f"`{word}`" for word in words)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_type, schema["anyOf"])))
    if schema.get("type") == "array":
        inner = schema.get("prefixItems", [schema.get("items", {})])
        return f"list of {' and '.join(dict.fromkeys(map(_type, inner)))}"
    return _WORDS.get(schema.get("type", ""), "anything")


def yaml_text(value: Any) -> str:
    """A value as it stands in YAML, on one line."""
    if isinstance(value, list | tuple) and any(map(dataclasses.is_dataclass, value)):
        return f"{len(value)} row{'s' if len(value) > 1 else ''}"
    return f"`{_flow(value)}`"


def _flow(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_flow(part)}' for key, part in value.items())}}}"
    text = f"{value:.12g}" if isinstance(value, float) else str(value)
    return re.sub(r"\$\{now:[^}]*\}", "TIME", text) or '""'
