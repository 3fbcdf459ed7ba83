"""Settings: a class field declares the type, bounds, description and default of a setting.

    @settings_class("limits")
    class Limits:
        symbol_cap: float = setting(0.6, "maximum weight of a symbol", gt=0, le=4)

`--cfg job`, the page of settings and error messages about `limits.symbol_cap` all use that field.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import cache, wraps
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    TypeVar,
    cast,
    dataclass_transform,
    get_args,
    get_type_hints,
)

import yaml
from pydantic import ConfigDict, Field, GetCoreSchemaHandler, ValidationError
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from foundation.errors import (
    InputError,
    format_choices,
    format_suggestion,
    invalid_choice_error,
    to_one_line,
    unknown_key_error,
)
from foundation.files import OVERWRITE_KEY
from foundation.plugin import HYDRA_TARGET_KEY, apply_plugin_targets

if TYPE_CHECKING:
    from omegaconf import DictConfig

Class = TypeVar("Class")
Value = TypeVar("Value")
Settings = TypeVar("Settings")

NO_KEY_MARKER = "no_key"  # in the schema of a field that is not a key of a configuration
_NO_KEY: dict[str, Any] = {NO_KEY_MARKER: True}
# Values may contain secrets, and a traceback shows the text of pydantic's error.
_PYDANTIC_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)
_ENVIRONMENT = re.compile(r"\$\{oc\.env:(\w+)")
_DURATION = re.compile(r"\d+([smhd])")  # default of a setting that is a duration, 60d
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?", re.ASCII)
_NUMBER_SCHEMA_TYPES = ("int", "float", "decimal")
# Messages of this project by pydantic's error types.
_ERROR_MESSAGES = {
    "float_parsing": "is not a number",
    "float_type": "is not a number",
    "int_parsing": "is not a whole number",
    "int_from_float": "is not a whole number",
    "finite_number": "is not a finite number",
    "int_type": "is not a whole number",
    "bool_parsing": "is not true or false",
    "bool_type": "is not true or false",
    "string_type": "is not text; put it in quotes",
    "dict_type": "is not a mapping; write {{NAME: value}}",
    "greater_than": "is not above {gt:g}",
    "greater_than_equal": "is below {ge:g}",
    "less_than": "is not below {lt:g}",
    "less_than_equal": "is above {le:g}",
}


@dataclasses.dataclass(frozen=True, slots=True)
class _SettingDeclaration:
    """Declaration of a settings field: its default, bounds, description, and secrecy."""

    default: Any
    field_info: FieldInfo
    hidden: bool


def setting(
    default: Value, meaning: str, *, hidden: bool = False, key: bool = True, **bounds: Any
) -> Value:
    """Declare the default, description and bounds of a settings field.

    hidden: whether the value may contain a secret; printed settings do not show it.
    key: whether the field is a key of a configuration. A field derived from other fields is not a
        key. Nor is a model parameter with a published value; a study can still set it with a plus,
        as in +index.jumps_per_year=0.
    bounds: pydantic's constraints: gt, ge, lt, le, min_length, pattern.
    """
    extra = {} if key else {"json_schema_extra": _NO_KEY}
    return cast(
        Value, _SettingDeclaration(default, required_setting(meaning, **bounds, **extra), hidden)
    )


def required_setting(meaning: str, **bounds: Any) -> Any:
    """Declare the description and bounds of a settings field without a default.

    Example: depth: Annotated[float, required_setting("fraction of wealth", gt=0, lt=1)]
    """
    return Field(description=meaning, **bounds)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def settings_class(group: str = "") -> Callable[[type[Class]], type[Class]]:
    """Return a decorator that makes a class a frozen dataclass of validated settings.

    Numbers may not contain underscores and are not booleans. A single value for a list becomes a
    list of one.

    group: prefix of the keys in error messages of instances made in Python.
    """

    def declare(kind: type[Class]) -> type[Class]:
        hints = get_type_hints(kind, include_extras=True)
        for name in inspect.get_annotations(kind):
            given = vars(kind).get(name)
            metadata = [given.field_info] if isinstance(given, _SettingDeclaration) else []
            kind.__annotations__[name] = Annotated[hints[name], *metadata, _StrictValidator]
            if isinstance(given, _SettingDeclaration):
                setattr(kind, name, _to_dataclass_field(given))
        made: Any = dataclass(frozen=True, config=_PYDANTIC_CONFIG)(kind)
        make = made.__init__

        @wraps(make)
        def validated_init(self: Any, *values: Any, **named: Any) -> None:
            try:
                make(self, *values, **named)
            except ValidationError as error:
                raise settings_error(error, made, group) from error

        made.__init__ = validated_init
        return cast(type[Class], made)

    return declare


def _to_dataclass_field(given: _SettingDeclaration) -> Any:
    if isinstance(given.default, dict):
        return dataclasses.field(default_factory=given.default.copy)
    return dataclasses.field(default=given.default, repr=not given.hidden)


class _StrictValidator:
    """A pydantic validator for the numbers and lists of a settings field.

    It rejects booleans, and text with underscores, as numbers, and makes a single value for a list
    a list of one.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, kind: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return cast(CoreSchema, _to_strict_schema(handler(kind)))


def _to_strict_schema(schema: Any) -> Any:
    """Return a pydantic schema with the checks of `_StrictValidator` on all numbers and lists
    within it.

    Schemas of nested settings classes are unchanged, because their own fields have these checks.
    """
    if isinstance(schema, list):
        return [_to_strict_schema(part) for part in schema]
    if not isinstance(schema, dict) or schema.get("type") == "dataclass":
        return schema
    schema = {name: _to_strict_schema(part) for name, part in schema.items()}
    if schema.get("type") in _NUMBER_SCHEMA_TYPES:
        return core_schema.no_info_before_validator_function(_check_plain_number, schema)
    if "variadic_item_index" in schema:
        return core_schema.no_info_before_validator_function(_wrap_in_list, schema)
    return schema


def _check_plain_number(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("float_type", "is not a number")
    if isinstance(value, str) and "_" in value:
        raise PydanticCustomError("underscored", "is not a number; write it without underscores")
    return value


def _wrap_in_list(value: Any) -> Any:
    return value if value is None or isinstance(value, list | tuple | Mapping) else [value]


def settings_error(error: ValidationError, kind: Any, group: str = "") -> InputError:
    """Convert a validation error to an `InputError` of one line about its first problem.

    kind: class of the settings.
    group: prefix of the settings' keys in the message.
    """
    problems = error.errors(include_url=False)
    unknown = [each for each in problems if each["type"] == "unexpected_keyword_argument"]
    # Invalid entries make their list too short, too.
    problem = min(
        unknown or problems, key=lambda each: (each["type"] == "too_short", len(each["loc"]))
    )
    # A check of a settings class names the key itself; pydantic's own message does not.
    reason = problem.get("ctx", {}).get("error")
    parts = [part for part in problem["loc"] if not str(part).endswith("]")]
    if parts and isinstance(parts[0], int):  # a positional argument
        parts[0] = dataclasses.fields(kind)[parts[0]].name
    if isinstance(reason, InputError):
        return _prefix_group(reason, kind, parts)
    place = ".".join(str(part) for part in ((group, *parts) if group else parts))
    if unknown:
        return unknown_key_error(place, _sibling_keys(kind, parts, place))
    if problem["type"] == "literal_error":
        known = [word.strip("'") or word for word in re.findall(r"'[^']*'", problem["msg"])]
        if any(each["type"].startswith("bool_") for each in problems):
            known += ["true", "false"]
        return invalid_choice_error(place, problem["input"], known)
    if problem["type"] in ("missing", "missing_argument"):
        return InputError(f"{place}: not set; set {place}=…")
    if problem["type"] == "value_error":
        return InputError(f"{place}: {reason}")
    if problem["type"] == "dataclass_type":
        names = list(setting_fields(settings_class_at_path(kind, parts)))
        which = f"; settings of {place}: {format_choices(names)}" if names else ""
        value = f"{place}: {problem['input']!r} is not a group of settings"
        return InputError(f"{value}; set {place}.NAME=…{which}")
    if problem["type"].startswith(_NUMBER_SCHEMA_TYPES) and (
        text := _thousands_separated_number(problem["input"])
    ):
        return InputError(
            f"{place}: {text} has thousands separators; write {text.replace(',', '')}"
        )
    value = problem["input"]
    shown = str(value) if isinstance(value, Decimal) else repr(value)
    return InputError(f"{place}: {shown} {_format_invalid_value(problem, kind, parts)}")


def _thousands_separated_number(value: object) -> str:
    """Return a number with thousands separators, such as 20,000, as it was typed; else "".

    On a command line it is parsed as a list, [20, '000'].
    """
    parts = value if isinstance(value, list | tuple) else [value]
    text = ",".join(map(str, parts))
    return text if _THOUSANDS.fullmatch(text) else ""


def _prefix_group(reason: InputError, kind: Any, parts: Sequence[object]) -> InputError:
    """Return the error that a nested settings class raised, with the class's group before the key.

    The class itself does not know its group. A key that already includes the group, or that is a
    setting of `kind`, is unchanged.

    reason: error of the nested class; its message begins with the key.
    kind: class of the whole settings.
    parts: path of the nested class within `kind`.
    """
    name = str(reason).partition(":")[0].partition(".")[0]
    owner = settings_class_at_path(kind, parts) if parts else None
    nested = setting_fields(owner) if owner else {}
    if name not in nested or name in setting_fields(kind):
        return reason
    return InputError(f"{'.'.join(map(str, parts))}.{reason}")


def _format_invalid_value(problem: Any, kind: Any, parts: Sequence[object]) -> str:
    """Return an error text for a value that has a wrong type or is out of bounds.

    problem: problem that pydantic reports.
    kind: class of the whole settings.
    parts: path of the setting within `kind`.
    """
    value = problem["input"]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if problem["type"] == "string_type" and is_number and (unit := _duration_unit_at(kind, parts)):
        return "has no time unit" + format_suggestion([f"{value}{unit}"] if value > 0 else [])
    if problem["type"] == "string_type" and isinstance(value, list | tuple):
        return "is a list; write one value, without brackets"
    if problem["type"] == "string_type" and value is None:
        return "is not text; write a value"
    if problem["type"] == "string_pattern_mismatch" and not value.strip():
        return "is blank; write at least one character"
    if problem["type"] in _ERROR_MESSAGES:
        return _ERROR_MESSAGES[problem["type"]].format(**problem.get("ctx", {}))
    message: str = problem["msg"]
    return message[0].lower() + message[1:]


def _duration_unit_at(kind: Any, parts: Sequence[object]) -> str:
    """Return the time unit of a setting whose default is a duration, such as `d` of 60d; else "".

    kind: class of the whole settings.
    parts: path of the setting within `kind`.
    """
    owner = settings_class_at_path(kind, parts[:-1]) if parts else None
    field = setting_fields(owner).get(str(parts[-1])) if owner else None
    found = _DURATION.fullmatch(str(field.default)) if field else None
    return found[1] if found else ""


def _sibling_keys(kind: Any, parts: Sequence[object], place: str) -> list[str]:
    """List the dotted keys of all settings in the group of an unknown setting.

    kind: class of the whole settings.
    parts: path of the unknown setting within `kind`.
    place: dotted key of the unknown setting.
    """
    head = place.rpartition(".")[0]
    names = [field.name for field in dataclasses.fields(settings_class_at_path(kind, parts[:-1]))]
    return [f"{head}.{name}" if head else name for name in names]


def settings_class_at_path(kind: Any, parts: Sequence[object]) -> Any:
    """Return the nested settings class at a path; list indices and mapping keys are skipped.

    kind: class of the whole settings.
    parts: names of fields, from the outermost on.
    """
    for part in parts:
        if part in (hints := get_type_hints(kind)):
            kind = settings_class_in_annotation(hints[str(part)])
    return kind


def has_setting(kinds: Iterable[Any], key: str) -> bool:
    """Return whether one of the settings classes has a dotted key."""
    *groups, name = key.split(".")
    owners = [settings_class_at_path(kind, groups) for kind in kinds]
    return any(owner is not None and name in setting_fields(owner) for owner in owners)


def extended_groups(kind: Any) -> set[str]:
    """Return the groups of a settings class that it redeclares with more settings than its base."""
    hints, own = get_type_hints(kind), inspect.get_annotations(kind)
    bases = [get_type_hints(base) for base in kind.__mro__[1:]]
    return {
        name
        for name in own
        if dataclasses.is_dataclass(hints[name]) and any(name in base for base in bases)
    }


def settings_class_in_annotation(hint: Any) -> Any:
    """Return the settings class in a type annotation, at any depth; None without one."""
    if dataclasses.is_dataclass(hint):
        return hint
    return next(filter(None, map(settings_class_in_annotation, get_args(hint))), None)


def setting_fields(kind: Any) -> dict[str, FieldInfo]:
    """Return the configuration keys of a settings class, with pydantic's field information."""
    about_fields: dict[str, FieldInfo] = kind.__pydantic_fields__
    return {name: each for name, each in about_fields.items() if each.json_schema_extra != _NO_KEY}


def setting_defaults(kind: Any) -> dict[str, Any]:
    """Return the defaults of a settings class as YAML values; `???` for a key without a default."""
    values = {}
    for field in dataclasses.fields(kind):
        if field.name not in setting_fields(kind):
            continue
        if field.default_factory is not dataclasses.MISSING:
            values[field.name] = to_yaml_value(field.default_factory())
        else:
            missing = field.default is dataclasses.MISSING
            values[field.name] = "???" if missing else to_yaml_value(field.default)
    return values


def to_yaml_value(value: Any) -> Any:
    """Convert a setting's value to a value that YAML can represent."""
    if dataclasses.is_dataclass(value):
        return {name: to_yaml_value(getattr(value, name)) for name in setting_fields(type(value))}
    if isinstance(value, Mapping):
        return {name: to_yaml_value(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [to_yaml_value(each) for each in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def _read_env_variable(name: str, *default: object) -> str | None:
    """Return the value of the environment variable in `${oc.env:name,default}`.

    An empty variable counts as unset, as in a shell's `${name:-default}`. If the default is null,
    the word null means None.

    Raises LookupError for an unset variable without a default.
    """
    from omegaconf.resolvers import oc

    word: str | None = oc.env(name, *(default or ("",)))
    if word is None or word.strip():
        return None if default == (None,) and word == "null" else word
    if not default:
        raise LookupError(f"the environment variable {name} is not set")
    return None if default[0] is None else str(default[0])


@cache
def register_env_resolver() -> None:
    """Register the OmegaConf resolver of `${oc.env:NAME}`, once per process.

    An empty environment variable counts as unset.
    """
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("oc.env", _read_env_variable, replace=True)


def settings_from_config(kind: type[Settings], config: DictConfig, group: str = "") -> Settings:
    """Return validated settings from a composed configuration, or from its group `group`.

    Raises InputError for the first missing or invalid value.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    register_env_resolver()
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = error.full_key
        raise InputError(f"{key}: not set; set {key}=…") from error
    except OmegaConfBaseException as error:
        key = error.full_key or ""
        reason = str(error).splitlines()[0].rpartition(" resolving interpolation: ")[2]
        if missing := re.fullmatch(r"Interpolation key '(.*)' not found", reason):
            reason = f"the value refers to {missing[1]!r}, which is not a setting"
        raise InputError(f"{key}: {reason}" if key else reason) from error
    # `overwrite` concerns the output files, not the work: see `may_overwrite`.
    plain.pop(OVERWRITE_KEY, None)
    apply_plugin_targets(plain)
    with _name_variable_in_errors(config):
        return _validate_settings(kind, plain, group)


@contextmanager
def _name_variable_in_errors(config: DictConfig) -> Iterator[None]:
    """Add to an error in the block the environment variable that the invalid value comes from.

    A user who set the variable would not find the setting's key in the command line.
    """
    try:
        yield
    except InputError as error:
        names = _ENVIRONMENT.findall(_unresolved_value(config, str(error).partition(":")[0]))
        if not names:
            raise
        message = f"{error} (from the environment variable {' or '.join(names)})"
        raise InputError(message) from error


def _unresolved_value(config: DictConfig, key: str) -> str:
    """Return the value of a dotted key, interpolations unresolved; empty without such a key."""
    from omegaconf import OmegaConf

    raw: Any = OmegaConf.to_container(config, resolve=False)
    for part in key.split("."):
        raw = raw.get(part) if isinstance(raw, dict) else None
    return "" if raw is None else str(raw)


def _validate_settings(kind: type[Settings], plain: Any, group: str = "") -> Settings:
    try:
        return cast(Settings, cast(Any, kind).__pydantic_validator__.validate_python(plain))
    except ValidationError as error:
        raise settings_error(error, kind, group) from error


def dotted_keys(values: Mapping[str, Any], group: str = "") -> Iterator[str]:
    """Yield the dotted names of all settings and groups in nested mappings."""
    for name, value in values.items():
        yield f"{group}{name}"
        if isinstance(value, dict):
            yield from dotted_keys(value, f"{group}{name}.")


def with_changes(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Return a validated copy of the settings with changed values.

    changes: new values by dotted key.

    Raises InputError for an unknown key or an invalid value.
    """
    plain: dict[str, Any] = dataclasses.asdict(settings)  # type: ignore[call-overload]
    for name, value in changes.items():
        *groups, key = name.split(".")
        part: Any = plain
        owner: Any = settings
        for group in groups:
            part = part.get(group) if isinstance(part, dict) else None
            owner = getattr(owner, group, None)
        # A mapping, such as the arguments of one's own strategy, takes any key.
        if not isinstance(part, dict) or not (key in part or isinstance(owner, Mapping)):
            raise unknown_key_error(name, dotted_keys(plain))
        part[key] = value
    return _validate_settings(type(settings), plain)


def _explain_yaml(path: Path, error: yaml.MarkedYAMLError) -> str:
    """Return the problem of a YAML file for a message, in the words of its author."""
    problem, mark = error.problem or "", error.problem_mark
    if problem.startswith("found duplicate key "):
        return f"key {problem.removeprefix('found duplicate key ')} is set twice; remove one"
    if problem == "mapping values are not allowed here" and mark is not None:
        line = path.read_text(encoding="utf-8").splitlines()[mark.line]
        if ":" in line[: mark.column]:
            return "the line has a second colon; put the value in quotes"
        return "the line is indented, but the line before already has a value; align the two lines"
    return problem


def check_config_file(path: Path, group: str, examples: str = "") -> None:
    """Validate a user's YAML file of settings.

    group: settings group of the file, its folder below `configs`.
    examples: text that says where such files are documented; empty: in that folder.

    Raises InputError, one line with file, line and reason, for an invalid file.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    here = Path.cwd()
    place = path.relative_to(here) if path.is_relative_to(here) else path
    examples = examples or f"see the examples in {Path('configs', group)}"
    try:
        content = read_plain_yaml(path)
        if isinstance(content, dict):
            OmegaConf.load(path)  # it also rejects a key that occurs twice
    except yaml.MarkedYAMLError as error:
        where = "" if error.problem_mark is None else f" line {error.problem_mark.line + 1}"
        raise InputError(f"{place}{where}: invalid YAML: {_explain_yaml(path, error)}") from error
    except OSError as error:
        raise InputError(f"{place}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = f"{error.object[error.start]:#x}"
        raise InputError(
            f"{place} line {line}: byte {byte} is not 'utf-8' text; save the file as UTF-8"
        ) from error
    except (ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise InputError(f"{place}: cannot be read: {to_one_line(str(error))}") from error
    if content is None:
        raise InputError(f"{place}: the file contains no {group or 'settings'}; {examples}")
    if not isinstance(content, dict):
        kind = "a list" if isinstance(content, list) else "one value"
        raise InputError(
            f"{place}: the file contains {kind}; write lines of the form key: value; {examples}"
        )


def read_plain_yaml(path: Path) -> Any:
    """Return the content of a YAML file without aliases.

    Aliases are rejected, because a few lines of them can expand to billions of values.

    Raises OSError, ValueError, yaml.YAMLError for a file that cannot be read or is invalid.
    """
    text = path.read_text(encoding="utf-8")
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            problem = f"alias *{event.anchor} is not supported; write the value out"
            mark: Any = event.start_mark
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
    return yaml.safe_load(text)


def format_annotated_yaml(
    values: Mapping[str, Any], types: Sequence[Any], indent: str = ""
) -> Iterator[str]:
    """Yield lines of YAML, each with the description of its setting as a comment.

    values: settings as nested mappings.
    types: settings classes with the descriptions; the first class that has a key describes it.
    indent: indentation of the lines.
    """
    from omegaconf import OmegaConf

    keys = {name: about for kind in reversed(types) for name, about in setting_fields(kind).items()}
    for name, value in values.items():
        about = keys.get(name)
        description = (
            "custom code, module.Name" if name == HYDRA_TARGET_KEY else about and about.description
        )
        meaning = f"  # {description}" if description else ""
        if isinstance(value, dict) and value:
            yield f"{indent}{name}:{meaning}\n"
            inner = settings_class_in_annotation(about.annotation) if about else None
            yield from format_annotated_yaml(value, [inner] if inner else [], f"{indent}  ")
        else:
            first, *others = OmegaConf.to_yaml({name: value}).splitlines()
            is_whole = not others or isinstance(value, list)
            yield f"{indent}{first}{meaning if is_whole else ''}\n"
            yield from (f"{indent}{line}\n" for line in others)
