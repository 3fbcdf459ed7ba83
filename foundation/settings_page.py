"""Tables of settings for readers: each class of settings once, from its own schema."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

HEAD = "| key | type | bounds | default | meaning |\n| --- | --- | --- | --- | --- |"
_WORDS = {"number": "number", "integer": "whole number", "boolean": "true or false"}
_WORDS |= {"string": "text", "null": "null", "object": "mapping"}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def bases_of(kind: type[Any]) -> list[type[Any]]:
    """The settings classes whose keys a class has as well."""
    return [base for base in kind.__bases__ if dataclasses.is_dataclass(base)]


def own_keys(kind: type[Any]) -> list[str]:
    """The keys that a class has beside those of its bases."""
    return [field.name for field in dataclasses.fields(kind) if field.name in _own(kind)]


def _own(kind: type[Any]) -> Mapping[str, Any]:
    return inspect.get_annotations(kind)


def classes_of(kind: type[Any]) -> dict[str, type[Any]]:
    """A settings class, its bases and all that their fields are of, by name, each once."""
    found = {kind.__name__: kind}
    inner = (_class_in(field.type) for field in dataclasses.fields(kind))
    for other in (*bases_of(kind), *inner):
        if other is not None:
            found |= classes_of(other)
    return found


def table_of(kind: type[Any]) -> str:
    """The table of a settings class: a row a key of its own, as schema and default say."""
    schema = TypeAdapter(kind).json_schema()
    rows = schema.get("properties") or schema["$defs"][kind.__name__]["properties"]
    fields = {field.name: field for field in dataclasses.fields(kind)}
    return "\n".join([HEAD, *(_row(name, rows[name], fields[name]) for name in own_keys(kind))])


def _row(name: str, schema: Mapping[str, Any], field: Any) -> str:
    parts = [schema, *schema.get("anyOf", ())]
    bounds = [
        f"{sign} {part[word]:.12g}"
        for part in parts
        for word, sign in _BOUNDS.items()
        if word in part
    ]
    group = _class_in(field.type)
    default = "" if group is not None and "$ref" in schema else _default(field)
    cells = (f"`{name}`", _type(schema), ", ".join(bounds), default, schema.get("description", ""))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{word}`" for word in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_type, schema["anyOf"])))
    if schema.get("type") == "array":
        inner = schema.get("prefixItems", [schema.get("items", {})])
        return f"list of {' and '.join(dict.fromkeys(map(_type, inner)))}"
    return _WORDS.get(schema.get("type", ""), "anything")


def _default(field: Any) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return yaml_text(field.default_factory())
    return "needed" if field.default is dataclasses.MISSING else yaml_text(field.default)


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


def _class_in(kind: Any) -> type[Any] | None:
    """The settings class that a field's annotation is of, at any depth."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return kind
    return next(filter(None, map(_class_in, getattr(kind, "__args__", ()))), None)
