"""From a composed configuration to checked settings; a wrong value is one line with its key."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from omegaconf.resolvers import oc
from pydantic import TypeAdapter, ValidationError

from foundation.errors import InputError, none_of, unknown_setting
from foundation.files import check_output

Settings = TypeVar("Settings")

OVERWRITE_KEY = "overwrite"
# What pydantic calls wrong, by what a person calls it.
_KINDS = {
    "float_parsing": "no number",
    "float_type": "no number",
    "int_parsing": "no whole number",
    "int_type": "no whole number",
    "int_from_float": "no whole number",
    "bool_parsing": "neither true nor false",
    "bool_type": "neither true nor false",
    "tuple_type": "no list, [A,B]",
    "dataclass_type": "no group of settings; name one of its keys",
}
_MAPPINGS = (Mapping, dict)
_LISTS = (tuple, list)
_NUMBERS = ("float_parsing", "float_type", "int_parsing", "int_type")
_COMPACT_DATE = re.compile(r"(\d{4})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
_NO_KEY = re.compile(r"Interpolation key '(\w+)' not found")
_NO_VARIABLE = re.compile(r"Environment variable '(\w+)' not found")
_ENVIRONMENT = re.compile(r"\$\{oc\.env:(\w+)")


def _variable(name: str, *default: object) -> str | None:
    """What `${oc.env:name,default}` stands for.

    A variable that is empty is not set, as in a shell's `${name:-default}`. Where the default is
    null, the word null is none.

    Raises
    ------
    KeyError
        for one that is not set, without a default.
    """
    word: str | None = oc.env(name, *default)
    if word is None or word.strip():
        return None if default == (None,) and word == "null" else word
    if not default:
        raise KeyError(f"Environment variable '{name}' not found")
    return None if default[0] is None else str(default[0])


OmegaConf.register_new_resolver("oc.env", _variable, replace=True)


def settings_of(kind: type[Settings], config: DictConfig, *, lists: Iterable[str] = ()) -> Settings:
    """The checked settings of a composed configuration.

    lists: keys where one word stands for a list of one.

    Raises
    ------
    InputError
        naming the key, the value and what was expected.
    """
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = error.full_key
        raise InputError(f"{key}: a value is needed; name it, {key}=…") from error
    except OmegaConfBaseException as error:
        raise InputError(_unresolved_text(error)) from error
    # It is no setting of the work, but of where its files go: see `may_overwrite`.
    plain.pop(OVERWRITE_KEY, None)
    _refuse_unknown(plain, kind)
    for key in lists:
        _wrap_in_list(plain, key)
    _refuse_infinite(plain, "")
    _refuse_truth(plain, kind)
    _refuse_underscores(plain, kind, config)
    try:
        return _validated(kind, plain)
    except ValidationError as error:
        reason = _first_problem(error)
        raise InputError(reason + _variable_text(config, reason.split(":")[0])) from error


def _unresolved_text(error: OmegaConfBaseException) -> str:
    """What is said of a value that stands for another one, `${…}`, that is not there."""
    reason = str(error).splitlines()[0]
    if name := _NO_KEY.match(reason):
        reason = (
            f"${{{name[1]}}}: there is no such setting; a variable of the environment is"
            f" ${{oc.env:{name[1]}}}"
        )
    elif name := _NO_VARIABLE.search(reason):
        reason = f"the environment variable {name[1]} is not set"
    return f"{error.full_key}: {reason}" if error.full_key else reason


def settings_with_inner(
    kind: type[Settings],
    name: str,
    inner: type[Any],
    config: DictConfig,
    *,
    lists: Iterable[str] = (),
) -> Settings:
    """The checked settings of a configuration whose keys for one field stand among the others.

    Parameters
    ----------
    kind
        class of the settings.
    name
        of the field whose own keys stand among the others.
    inner
        class of that field.
    config
        the composed configuration.
    lists
        keys where one word stands for a list of one.

    Raises
    ------
    InputError
        naming the key, the value and what was expected.
    """
    names = {field.name for field in fields(inner)}
    others = OmegaConf.masked_copy(config, [str(key) for key in config if key not in names])
    field_settings = settings_of(inner, OmegaConf.masked_copy(config, sorted(names)))
    settings: Any = settings_of(kind, others, lists=lists)
    return cast(Settings, replace(settings, **{name: field_settings}))


def may_overwrite(config: DictConfig) -> bool:
    """Whether an output that holds something else may be written to.

    Raises
    ------
    InputError
        for a word that is neither true nor false.
    """
    word = config.get(OVERWRITE_KEY, False)
    if not isinstance(word, bool):
        raise InputError(f"{OVERWRITE_KEY}: {word!r} is neither true nor false")
    return word


def output_of(config: DictConfig, mark: str, output: Path | None = None) -> Path:
    """The folder that a command writes into, once it may.

    mark: a file that each run of the command leaves there.
    output: the folder, where it is not the one that the configuration names.

    Raises
    ------
    InputError
        for one that cannot be written, that holds something else, or that bars are read from.
    """
    if output is None:
        if not str(config.output or "").strip():
            raise InputError("output: a folder's name is needed")
        output = Path(str(config.output)).expanduser()
    _refuse_among_bars(config, output)
    check_output(output, mark, overwrite=may_overwrite(config))
    return output


def _refuse_among_bars(config: DictConfig, output: Path) -> None:
    """Refuse to write where bars are read from: files of results there are no bars."""
    places = OmegaConf.select(config, "data.dir") or ()
    for place in [places] if isinstance(places, str) else list(places):
        if Path(str(place)).expanduser().resolve() == output.resolve():
            raise InputError(f"output: {output} is data.dir, where bars are read; name another")


def _validated(kind: type[Settings], plain: Any) -> Settings:
    return cast(Settings, _adapter(cast(Hashable, kind)).validate_python(plain))


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _variable_text(config: DictConfig, key: str) -> str:
    """The environment variable that a setting takes its value from, in words, or nothing.

    A user who set the variable would not find the key in what was typed.
    """
    raw: Any = OmegaConf.to_container(config, resolve=False)
    for part in key.split("."):
        raw = raw.get(part) if isinstance(raw, dict) else None
    names = _ENVIRONMENT.findall(raw) if isinstance(raw, str) else []
    return f" (from the environment variable {' or '.join(names)})" if names else ""


def with_changes(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """The settings with some values, named by their dotted keys, replaced and checked.

    Raises
    ------
    InputError
        naming the key, the value and what was expected.
    """
    plain: dict[str, Any] = asdict(settings)  # type: ignore[call-overload]
    for name, value in changes.items():
        *groups, key = name.split(".")
        part: Any = plain
        for group in groups:
            part = part.get(group) if isinstance(part, dict) else None
        if not isinstance(part, dict) or key not in part:
            keys = part if isinstance(part, dict) else plain
            raise unknown_setting(name, keys)
        part[key] = value
    try:
        return _validated(type(settings), plain)
    except ValidationError as error:
        raise InputError(_first_problem(error)) from error


def _wrap_in_list(settings: Any, key: str) -> None:
    """Make the one word that a key has a list of it, in place.

    Raises
    ------
    InputError
        for TRUE, NAN and other words, of symbols perhaps, that YAML takes for something else.
    """
    group, _, name = key.rpartition(".")
    part = settings.get(group) if group else settings
    value = part.get(name) if isinstance(part, dict) else None
    if isinstance(value, str):
        part[name] = [value]
    for word in value if isinstance(value, list) else [value]:
        if isinstance(word, bool) or (isinstance(word, float) and not math.isfinite(word)):
            quoted = f'"{str(word).upper()}"'
            raise InputError(
                f"{key}: {str(word).lower()} is read as a value and not as a word; in quotes it is"
                f" one, '{key}=[{quoted}]'"
            )


def _parts(value: Any, kind: Any) -> list[tuple[str, Any, Any]]:
    """The fields, values or elements of what is configured: name, value and kind, None if any."""
    kinds = _alternatives(kind)
    if isinstance(value, dict):
        known = _kinds_of_fields(kinds)
        others = next((get_args(each)[1] for each in kinds if get_origin(each) in _MAPPINGS), None)
        return [(str(name), inner, known.get(name, others)) for name, inner in value.items()]
    if isinstance(value, list):
        element = next((get_args(each)[0] for each in kinds if get_origin(each) in _LISTS), None)
        return [(str(number), inner, element) for number, inner in enumerate(value)]
    return []


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _kinds_of_fields(kinds: Iterable[Any]) -> dict[str, Any]:
    """The fields of the settings classes among kinds; none where no class says them."""
    known: dict[str, Any] = {}
    for each in kinds:
        if is_dataclass(each):
            hints = get_type_hints(each)
            known |= {field.name: hints[field.name] for field in fields(each)}
    return known


def _refuse_unknown(values: Any, kind: Any, place: str = "") -> None:
    # A mapping (the arguments of a plug-in) takes any key; what no class describes does, too.
    known = _kinds_of_fields(_alternatives(kind))
    for name, inner, its_kind in _parts(values, kind):
        if known and name not in known and isinstance(values, dict):
            raise unknown_setting(f"{place}{name}", known)
        _refuse_unknown(inner, its_kind, f"{place}{name}.")


def _refuse_infinite(values: Any, place: str) -> None:
    """Refuse nan and inf in words: no setting means either, and their checks speak of bounds."""
    for name, inner, _ in _parts(values, None):
        if isinstance(inner, float) and not math.isfinite(inner):
            word = "no number" if math.isnan(inner) else "infinite"
            raise InputError(f"{place}{name}: {inner} is {word}; an ordinary number is needed")
        _refuse_infinite(inner, f"{place}{name}.")


def _refuse_truth(values: Any, kind: Any, place: str = "") -> None:
    """Refuse true and false where a number is meant: pydantic takes them for 1 and 0."""
    for name, inner, its_kind in _parts(values, kind):
        if isinstance(inner, bool) and _is_numeric(its_kind, bool):
            raise InputError(f"{place}{name}: {str(inner).lower()} is no number")
        _refuse_truth(inner, its_kind, f"{place}{name}.")


def _refuse_underscores(values: Any, kind: Any, config: DictConfig, place: str = "") -> None:
    """Refuse a number in words, as the environment has them, of the form 1_000.

    pydantic reads it as 1000; where a slip of the hand put the line it is another number.
    """
    for name, inner, its_kind in _parts(values, kind):
        if isinstance(inner, str) and "_" in inner and _is_numeric(its_kind, str):
            raise InputError(
                f"{place}{name}: {inner!r} is no number, write it without underscores"
                f"{_variable_text(config, f'{place}{name}')}"
            )
        _refuse_underscores(inner, its_kind, config, f"{place}{name}.")


def _is_numeric(kind: Any, other: type) -> bool:
    """Whether a setting of a kind takes a number, and nothing of the other type."""
    kinds = _alternatives(kind)
    return other not in kinds and not {int, float}.isdisjoint(kinds)


def _first_problem(error: ValidationError) -> str:
    """One line for the first thing that is wrong."""
    problem = error.errors()[0]
    # A check of a settings class names the key itself; pydantic's own message does not.
    reason = problem.get("ctx", {}).get("error")
    if isinstance(reason, InputError):
        return str(reason)
    place = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    value: Any = problem.get("input")
    if isinstance(value, list) and problem["type"] in _NUMBERS:
        text = ",".join(map(str, value))
        return f"{place}: {text} is a list; one number is needed, without commas"
    if problem["type"] == "string_type":
        return f"{place}: {_no_word_text(place, value)}"
    if problem["type"] == "dataclass_type" and place.rpartition(".")[2].isdigit():
        return f"{place}: {value!r} is no group of settings; write {{key: value}} in its place"
    if kind := _KINDS.get(problem["type"]):
        return f"{place}: {value!r} is {kind}"
    if problem["type"] == "literal_error":
        known = [word.strip("'") for word in re.findall(r"'[^']*'", problem["msg"])]
        return str(none_of(place, value, known))
    return f"{place}: {problem['msg'][0].lower()}{problem['msg'][1:]}, got {value!r}"


def _no_word_text(place: str, value: object) -> str:
    """What is said of a value where a word is needed."""
    if isinstance(value, list | dict):
        return f"{value!r} is a list; one word is needed"
    if place.rpartition(".")[2] in ("start", "end"):
        date = _COMPACT_DATE.fullmatch(str(value))
        example = "-".join(date.groups()) if date else "YYYY-MM-DD"
        return f"{value} is no date; write {place}={example}"
    if value is None:
        return "null is no word, and one is needed"
    return f"{value} is read as a number; a word is needed, in quotes where it is made of digits"
