"""From a composed configuration to checked settings: every wrong word is one line that names
the key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, replace
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from foundation.errors import InputError

Settings = TypeVar("Settings")

_ENVIRONMENT = re.compile(r"\$\{oc\.env:(\w+)")


def settings_of(kind: type[Settings], config: DictConfig, *, lists: Iterable[str] = ()) -> Settings:
    """The checked settings of a composed configuration; `lists` are keys where one word stands for
    a list of one.

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
        _listed(plain, key)
    try:
        return TypeAdapter(kind).validate_python(plain)
    except ValidationError as error:
        reason = _first(error)
        raise InputError(reason + _variable(config, reason.split(":")[0])) from error


def settings_beside(
    kind: type[Settings],
    name: str,
    inner: type[Any],
    config: DictConfig,
    *,
    lists: Iterable[str] = (),
) -> Settings:
    """The checked settings of a configuration in which those of the field `name`, of type `inner`,
    stand beside the others.

    Raises
    ------
    InputError
        naming the key, the value and what was expected.
    """
    names = {field.name for field in fields(inner)}
    others = OmegaConf.masked_copy(config, [str(key) for key in config if key not in names])
    own = settings_of(inner, OmegaConf.masked_copy(config, sorted(names)))
    return replace(settings_of(kind, others, lists=lists), **{name: own})  # type: ignore[type-var]


def _variable(config: DictConfig, key: str) -> str:
    """From which environment variable a setting takes its value, in words; empty where from
    none.
    """
    raw: Any = OmegaConf.to_container(config, resolve=False)
    for part in key.split("."):
        raw = raw.get(part) if isinstance(raw, dict) else None
    found = _ENVIRONMENT.match(raw) if isinstance(raw, str) else None
    return f" (from the environment variable {found[1]})" if found else ""


def changed(settings: Settings, changes: Mapping[str, Any]) -> Settings:
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
            known = part if isinstance(part, dict) else plain
            raise InputError(f"{name}: there is no such setting; here are {', '.join(known)}")
        part[key] = value
    try:
        return TypeAdapter(type(settings)).validate_python(plain)
    except ValidationError as error:
        raise InputError(_first(error)) from error


def _listed(settings: Any, key: str) -> None:
    group, _, name = key.rpartition(".")
    part = settings.get(group) if group else settings
    if isinstance(part, dict) and isinstance(part.get(name), str):
        part[name] = [part[name]]


def _refuse_unknown(given: Any, known: Any, place: str) -> None:
    if isinstance(given, dict) and isinstance(known, dict):
        for key, value in given.items():
            if key not in known:
                raise InputError(
                    f"{place}{key}: there is no such setting; here are {', '.join(known)}"
                )
            _refuse_unknown(value, known[key], f"{place}{key}.")


def _first(error: ValidationError) -> str:
    """One line for the first thing that is wrong."""
    problem = error.errors()[0]
    reason = problem.get("ctx", {}).get("error")
    if isinstance(reason, InputError):
        return str(reason)
    place = ".".join(str(part) for part in problem["loc"])
    value: Any = problem.get("input")
    return f"{place}: {problem['msg'][0].lower()}{problem['msg'][1:]}, got {value!r}"
