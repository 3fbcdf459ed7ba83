"""A setting is declared once: a field of a class, with its type, bounds, meaning and default.

    @settings_class("limits")
    class Limits:
        symbol_cap: float = setting(0.6, "of one symbol, held and open", gt=0, le=4)

What `--cfg job`, the page of settings and a refusal say of `limits.symbol_cap` comes from there.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, TypeVar, cast, dataclass_transform, get_type_hints

from pydantic import ConfigDict, Field, GetCoreSchemaHandler, ValidationError
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema

from foundation.refusals import plain, refusal

Class = TypeVar("Class")
Value = TypeVar("Value")

NO_KEY = "no_key"  # in the schema of a field that is no key of a configuration
_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False)


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
        return cast(CoreSchema, plain(handler(kind)))
