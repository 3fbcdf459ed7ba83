"""From a composed configuration to checked settings; a wrong value is one line with its key."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import asdict, fields, replace
from functools import cache
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from foundation.errors import InputError

Settings = TypeVar("Settings")

_ENVIRONMENT = re.compile(r"\$\{oc\.env:(\w+)")


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
        raise InputError(f"{error.full_key}: a value is needed") from error
    except OmegaConfBaseException as error:
        raise InputError(str(error).splitlines()[0]) from error
    _refuse_unknown(plain, asdict(kind()), "")  # type: ignore[call-overload]
    for key in lists:
        _wrap_in_list(plain, key)
    try:
        return _validated(kind, plain)
    except ValidationError as error:
        reason = _first_problem(error)
        raise InputError(reason + _variable_text(config, reason.split(":")[0])) from error


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
    match = _ENVIRONMENT.match(raw) if isinstance(raw, str) else None
    return f" (from the environment variable {match[1]})" if match else ""


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
            raise InputError(f"{name}: there is no such setting; here are {', '.join(keys)}")
        part[key] = value
    try:
        return _validated(type(settings), plain)
    except ValidationError as error:
        raise InputError(_first_problem(error)) from error


def _wrap_in_list(settings: Any, key: str) -> None:
    """Make the one word that a key has a list of it, in place."""
    group, _, name = key.rpartition(".")
    part = settings.get(group) if group else settings
    if isinstance(part, dict) and isinstance(part.get(name), str):
        part[name] = [part[name]]


def _refuse_unknown(values: Any, defaults: Any, place: str) -> None:
    # A mapping without a default key of its own (the arguments of a plug-in) takes any.
    if not (isinstance(values, dict) and isinstance(defaults, dict) and defaults):
        return
    for key, value in values.items():
        if key not in defaults:
            raise InputError(
                f"{place}{key}: there is no such setting; here are {', '.join(defaults)}"
            )
        _refuse_unknown(value, defaults[key], f"{place}{key}.")


def _first_problem(error: ValidationError) -> str:
    """One line for the first thing that is wrong."""
    problem = error.errors()[0]
    # A check of a settings class names the key itself; pydantic's own message does not.
    reason = problem.get("ctx", {}).get("error")
    if isinstance(reason, InputError):
        return str(reason)
    place = ".".join(str(part) for part in problem["loc"])
    value: Any = problem.get("input")
    return f"{place}: {problem['msg'][0].lower()}{problem['msg'][1:]}, got {value!r}"
