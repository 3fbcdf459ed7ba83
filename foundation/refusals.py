"""What does not fit a settings class, as one line: the key, the value and what was expected.

It needs pydantic's core alone, and so does whoever checks values before the classes are loaded.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, cast, get_args, get_type_hints

from pydantic_core import (
    CoreSchema,
    PydanticCustomError,
    SchemaValidator,
    ValidationError,
    core_schema,
)

from foundation.declared import declared, keys_in, keys_of
from foundation.errors import InputError, invalid_choice, list_choices, unknown_key

_NUMBERS = ("int", "float", "decimal")
# What pydantic calls wrong, by what a person calls it.
_WORDS = {
    "float_parsing": "is no number",
    "float_type": "is no number",
    "int_parsing": "is no whole number",
    "int_from_float": "is no whole number",
    "finite_number": "is no finite number",
    "string_type": "is no word; in quotes it is one",
    "greater_than": "is not above {gt:g}",
    "greater_than_equal": "is below {ge:g}",
    "less_than": "is not below {lt:g}",
    "less_than_equal": "is above {le:g}",
}
_BOUNDS = {"minimum": "ge", "exclusiveMinimum": "gt", "maximum": "le", "exclusiveMaximum": "lt"}
_DURATION = re.compile(r"\d+([smhd])")  # default of a setting that is a duration, 60d
_MISSING = ("missing", "missing_argument")


def refusal(error: ValidationError, kind: Any, group: str = "") -> InputError:
    """What is said, in one line, of the first thing that is wrong with settings.

    kind: class of the settings; group: that they stand in.
    """
    problems = error.errors(include_url=False)
    unknown = [each for each in problems if each["type"] == "unexpected_keyword_argument"]
    problem = min(unknown or problems, key=lambda each: len(each["loc"]))
    # A check of a settings class names the key itself; pydantic's own message does not.
    reason = problem.get("ctx", {}).get("error")
    if isinstance(reason, InputError):
        return reason
    parts = [part for part in problem["loc"] if not str(part).endswith("]")]
    if parts and isinstance(parts[0], int):  # of an argument without its name
        parts[0] = dataclasses.fields(kind)[parts[0]].name
    place = ".".join(str(part) for part in ((group, *parts) if group else parts))
    if unknown:
        return unknown_key(place, _sibling_keys(kind, parts, group))
    if problem["type"] == "literal_error":
        known = [word.strip("'") for word in re.findall(r"'[^']*'", problem["msg"])]
        if any(each["type"].startswith("bool_") for each in problems):
            known += ["true", "false"]
        return invalid_choice(place, problem["input"], known)
    if problem["type"] in _MISSING:
        return InputError(f"{place}: a value is needed; name it, {place}=…")
    if problem["type"] == "value_error":
        return InputError(f"{place}: {reason}")
    if problem["type"] == "dataclass_type":
        return _no_group(place, problem["input"], problem["ctx"]["class_name"])
    return InputError(f"{place}: {problem['input']!r} {_what_is_wrong(problem, kind, parts)}")


def _what_is_wrong(problem: Any, kind: Any, parts: Sequence[object]) -> str:
    """Return the words for a value that is of no type or outside its bounds."""
    if problem["type"] == "string_type" and (unit := _unit_at(kind, parts)):
        words: str = _without_unit(problem["input"], unit)
        return words
    if problem["type"] in _WORDS:
        return _WORDS[problem["type"]].format(**problem.get("ctx", {}))
    message: str = problem["msg"]
    return message[0].lower() + message[1:]


def _no_group(place: str, value: object, class_name: str) -> InputError:
    """Return the refusal of a single value in place of a group of settings."""
    names = list(keys_in(class_name)) if class_name in declared()["classes"] else []
    which = f"; {place} has {list_choices(names)}" if names else ""
    return InputError(f"{place}: {value!r} is not a group of settings; set {place}.NAME=…{which}")


def _sibling_keys(kind: Any, parts: Sequence[object], group: str) -> list[str]:
    """List the settings of the group that `parts` points into, dotted."""
    place = ".".join(str(part) for part in ((group, *parts) if group else parts))
    head = place.rpartition(".")[0]
    names = [field.name for field in dataclasses.fields(_class_at(kind, parts[:-1]))]
    return [f"{head}.{name}" if head else name for name in names]


def _class_at(kind: Any, parts: Sequence[object]) -> Any:
    """Return the settings class at a place in another; entry numbers and names are skipped."""
    for part in parts:
        if part in (hints := get_type_hints(kind)):
            kind = settings_in(hints[str(part)])
    return kind


def settings_in(hint: Any) -> Any:
    """The settings class that a field's annotation is of, at any depth; None without one."""
    if dataclasses.is_dataclass(hint):
        return hint
    return next(filter(None, map(settings_in, get_args(hint))), None)


_VALUES: dict[str, Callable[..., CoreSchema]] = {
    "number": partial(core_schema.float_schema, allow_inf_nan=False),
    "integer": core_schema.int_schema,
    "boolean": core_schema.bool_schema,
    "string": core_schema.str_schema,
}


class _Group:
    """What a group of settings is validated as; the values are not kept."""


@cache
def validator_of(name: str) -> SchemaValidator:
    """What refuses a value of a configuration that is of no type or outside its bounds.

    What is missing, unknown or does not go together, the classes refuse.
    """
    groups = [_group(keys_in(kind), ref=kind) for kind in declared()["classes"]]
    return SchemaValidator(core_schema.definitions_schema(_group(keys_of(name)), groups))


def _group(keys: Mapping[str, Any], ref: str | None = None) -> CoreSchema:
    fields = [
        core_schema.dataclass_field(
            key, core_schema.with_default_schema(_schema(schema), default=None)
        )
        for key, schema in keys.items()
    ]
    arguments = core_schema.dataclass_args_schema(ref or "", fields, extra_behavior="ignore")
    return core_schema.dataclass_schema(_Group, arguments, list(keys), ref=ref)


def _schema(schema: Mapping[str, Any]) -> CoreSchema:
    """The check of one value; anything passes where its type is more than one."""
    if "$ref" in schema:
        return core_schema.definition_reference_schema(schema["$ref"])
    if "enum" in schema or "const" in schema:
        return core_schema.literal_schema(schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        others = [each for each in schema["anyOf"] if each.get("type") != "null"]
        nullable = len(others) < len(schema["anyOf"])
        only = _schema(others[0]) if len(others) == 1 else core_schema.any_schema()
        return core_schema.nullable_schema(only) if nullable else only
    if "items" in schema:
        items = [_schema(schema["items"])]
        return cast(CoreSchema, plain(core_schema.tuple_schema(items, variadic_item_index=0)))
    if unit := _DURATION.fullmatch(str(schema.get("default"))):
        check = partial(_with_unit, unit[1])
        return core_schema.no_info_before_validator_function(check, core_schema.str_schema())
    make: Callable[..., Any] = _VALUES.get(schema.get("type", ""), core_schema.any_schema)
    return cast(CoreSchema, plain(make(**_bounds(schema))))


def _bounds(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {name: schema[word] for word, name in _BOUNDS.items() if word in schema}


def plain(schema: Any) -> Any:
    """The schema that refuses what would be made a number, and takes one value for a list of one.

    At every depth but within other settings, which do so already.
    """
    if isinstance(schema, list):
        return [plain(part) for part in schema]
    if not isinstance(schema, dict) or schema.get("type") == "dataclass":
        return schema
    schema = {name: plain(part) for name, part in schema.items()}
    if schema.get("type") in _NUMBERS:
        return core_schema.no_info_before_validator_function(_plain_number, schema)
    if "variadic_item_index" in schema:
        return core_schema.no_info_before_validator_function(_several, schema)
    return schema


def _plain_number(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("float_type", "is no number")
    if isinstance(value, str) and "_" in value:
        raise PydanticCustomError("underscored", "is no number, write it without underscores")
    return value


def _with_unit(unit: str, value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        raise PydanticCustomError("no_unit", _without_unit(value, unit))
    return value


def _without_unit(value: Any, unit: str) -> Any:
    return f"has no unit; did you mean {value}{unit}?"


def _unit_at(kind: Any, parts: Sequence[object]) -> str:
    """Return the unit of a setting's default duration, `d` of 60d; empty for any other setting."""
    owner = _class_at(kind, parts[:-1]) if dataclasses.is_dataclass(kind) else None
    fields = dataclasses.fields(owner) if owner else ()
    default = next((field.default for field in fields if parts and field.name == parts[-1]), None)
    found = _DURATION.fullmatch(str(default))
    return found[1] if found else ""


def _several(value: Any) -> Any:
    return value if value is None or isinstance(value, list | tuple | Mapping) else [value]
