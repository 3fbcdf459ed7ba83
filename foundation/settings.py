"""A setting is declared once: a field of a class, with its type, bounds, meaning and default.

    @settings_class("limits")
    class Limits:
        symbol_cap: float = setting(0.6, "of one symbol, held and open", gt=0, le=4)

What `--cfg job`, the page of settings and a refusal say of `limits.symbol_cap` comes from there.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any, TypeVar, cast, dataclass_transform, get_args, get_type_hints

from pydantic import ConfigDict, Field, GetCoreSchemaHandler, ValidationError
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from foundation.errors import InputError, none_of

Class = TypeVar("Class")
Value = TypeVar("Value")

NO_KEY = "no_key"  # in the schema of a field that is no key of a configuration
_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False)
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
_MISSING = ("missing", "missing_argument")


@dataclasses.dataclass(frozen=True, slots=True)
class _Declared:
    """A field as `setting` declares it."""

    default: Any
    about: FieldInfo
    hidden: bool


def setting(
    default: Value, meaning: str, *, hidden: bool = False, key: bool = True, **bounds: Any
) -> Value:
    """A field's default, and what it means.

    hidden: whether it may hold a secret, and is left out where settings are printed.
    key: whether it is one of a configuration's. What follows from others is none, nor what a model
        has from its source: a study names that with a plus, +index.jumps=0.
    bounds: as pydantic names them: gt, ge, lt, le, min_length, pattern.
    """
    extra = {} if key else {"json_schema_extra": {NO_KEY: True}}
    return cast(Value, _Declared(default, about(meaning, **bounds, **extra), hidden))


def about(meaning: str, **bounds: Any) -> Any:
    """What a field without a default means: `Annotated[float, about("a share", gt=0, lt=1)]`."""
    return Field(description=meaning, **bounds)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def settings_class(group: str = "") -> Callable[[type[Class]], type[Class]]:
    """Make a class one of settings: a frozen dataclass that refuses what does not fit its fields.

    Numbers are no words with underscores and neither true nor false; where several values are
    needed, one alone is a list of one.

    group: that its keys stand in, in front of what is refused of a class made in Python.
    """

    def declare(kind: type[Class]) -> type[Class]:
        hints = get_type_hints(kind, include_extras=True)
        for name in inspect.get_annotations(kind):
            given = vars(kind).get(name)
            said = [given.about] if isinstance(given, _Declared) else []
            kind.__annotations__[name] = Annotated[hints[name], *said, _Plain]
            if isinstance(given, _Declared):
                setattr(kind, name, _field_of(given))
        made: Any = dataclass(frozen=True, config=_CONFIG)(kind)
        make = made.__init__

        @wraps(make)
        def checked(self: Any, *values: Any, **named: Any) -> None:
            try:
                make(self, *values, **named)
            except ValidationError as error:
                raise refusal(error, made, group) from error

        made.__init__ = checked
        return cast(type[Class], made)

    return declare


def _field_of(given: _Declared) -> Any:
    if isinstance(given.default, dict):
        return dataclasses.field(default_factory=given.default.copy)
    return dataclasses.field(default=given.default, repr=not given.hidden)


class _Plain:
    """Refuses what pydantic would make a number of, and takes one value for a list of one."""

    @classmethod
    def __get_pydantic_core_schema__(cls, kind: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return cast(CoreSchema, _plain(handler(kind)))


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
        return InputError(f"{place}: there is no such setting")
    if problem["type"] == "literal_error":
        known = [word.strip("'") for word in re.findall(r"'[^']*'", problem["msg"])]
        if any(each["type"].startswith("bool_") for each in problems):
            known += ["true", "false"]
        return none_of(place, problem["input"], known)
    if problem["type"] in _MISSING:
        return InputError(f"{place}: a value is needed; name it, {place}=…")
    if problem["type"] == "value_error":
        return InputError(f"{place}: {reason}")
    words = problem["msg"][0].lower() + problem["msg"][1:]
    if problem["type"] in _WORDS:
        words = _WORDS[problem["type"]].format(**problem.get("ctx", {}))
    return InputError(f"{place}: {problem['input']!r} {words}")


def settings_in(hint: Any) -> Any:
    """The settings class that a field's annotation is of, at any depth; None without one."""
    if dataclasses.is_dataclass(hint):
        return hint
    return next(filter(None, map(settings_in, get_args(hint))), None)


def _plain(schema: Any) -> Any:
    """The schema that refuses what would be made a number, and takes one value for a list of one.

    At every depth but within other settings, which do so already.
    """
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if not isinstance(schema, dict) or schema.get("type") == "dataclass":
        return schema
    schema = {name: _plain(part) for name, part in schema.items()}
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


def _several(value: Any) -> Any:
    return value if value is None or isinstance(value, list | tuple | Mapping) else [value]
