"""From a composed configuration to checked settings; a wrong value is one line with its key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from omegaconf.resolvers import oc
from pydantic_core import ValidationError

from foundation.errors import InputError, unknown_key
from foundation.files import check_output
from foundation.plugin import put_own_code
from foundation.refusals import refusal, validator_of

Settings = TypeVar("Settings")

OVERWRITE_KEY = "overwrite"
_ENVIRONMENT = re.compile(r"\$\{oc\.env:(\w+)")


def _variable(name: str, *default: object) -> str | None:
    """What `${oc.env:name,default}` stands for.

    A variable that is empty is not set, as in a shell's `${name:-default}`. Where the default is
    null, the word null is none.

    Raises LookupError for one that is not set, without a default.
    """
    word: str | None = oc.env(name, *(default or ("",)))
    if word is None or word.strip():
        return None if default == (None,) and word == "null" else word
    if not default:
        raise LookupError(f"the environment variable {name} is not set")
    return None if default[0] is None else str(default[0])


OmegaConf.register_new_resolver("oc.env", _variable, replace=True)


def settings_of(kind: type[Settings], config: DictConfig, group: str = "") -> Settings:
    """Return the checked settings of a composed configuration; group: the part that they form."""
    plain = _resolved(config)
    put_own_code(plain)
    with _named_variables(config):
        return _validated(kind, plain, group)


def check_values(name: str, config: DictConfig) -> None:
    """Refuse a value of the configuration `configs/<name>.yaml` without loading its classes."""
    plain = _resolved(config)
    with _named_variables(config):
        try:
            validator_of(name).validate_python(plain)
        except ValidationError as error:
            raise refusal(error, None) from error


def _resolved(config: DictConfig) -> dict[str, Any]:
    """The values of a configuration, with those of the environment."""
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = error.full_key
        raise InputError(f"{key}: a value is needed; name it, {key}=…") from error
    except OmegaConfBaseException as error:
        key = error.full_key or ""
        reason = str(error).splitlines()[0].rpartition(" resolving interpolation: ")[2]
        raise InputError(f"{key}: {reason}" if key else reason) from error
    # It is no setting of the work, but of where its files go: see `may_overwrite`.
    plain.pop(OVERWRITE_KEY, None)
    return cast(dict[str, Any], plain)


@contextmanager
def _named_variables(config: DictConfig) -> Iterator[None]:
    """Have what is refused named by the environment variable that it comes from, too.

    A user who set the variable would not find the key in what was typed.
    """
    try:
        yield
    except InputError as error:
        names = _ENVIRONMENT.findall(_as_written(config, str(error).partition(":")[0]))
        if not names:
            raise
        said = f"{error} (from the environment variable {' or '.join(names)})"
        raise InputError(said) from error


def _as_written(config: DictConfig, key: str) -> str:
    """What stands behind a dotted key, not resolved; empty without it."""
    raw: Any = OmegaConf.to_container(config, resolve=False)
    for part in key.split("."):
        raw = raw.get(part) if isinstance(raw, dict) else None
    return "" if raw is None else str(raw)


def may_overwrite(config: DictConfig) -> bool:
    """Whether an output that holds something else may be written to."""
    word = config.get(OVERWRITE_KEY, False)
    if not isinstance(word, bool):
        raise InputError(f"{OVERWRITE_KEY}: {word!r} is neither true nor false")
    return word


def output_of(config: DictConfig, mark: str, output: Path | None = None) -> Path:
    """The folder that a command writes into, once it may.

    mark: a file that each run of the command leaves there.
    output: the folder, where it is not the one that the configuration names.
    """
    if output is None:
        if not str(config.output or "").strip():
            raise InputError("output: a folder's name is needed")
        output = Path(str(config.output)).expanduser()
    refuse_among_bars(config, output)
    check_output(output, mark, overwrite=may_overwrite(config))
    return output


def refuse_among_bars(config: DictConfig, output: Path) -> None:
    """Refuse to write into a folder where bars are read from: files of results are no bars."""
    places = OmegaConf.select(config, "data.dir") or ()
    for place in [places] if isinstance(places, str) else list(places):
        if Path(str(place)).expanduser().resolve() == output.resolve():
            raise InputError(f"output: {output} is data.dir, where bars are read; name another")


def _validated(kind: type[Settings], plain: Any, group: str = "") -> Settings:
    try:
        return cast(Settings, cast(Any, kind).__pydantic_validator__.validate_python(plain))
    except ValidationError as error:
        raise refusal(error, kind, group) from error


def dotted_keys(values: Mapping[str, Any], group: str = "") -> Iterator[str]:
    """Yield the dotted names of all settings and groups in plain values."""
    for name, value in values.items():
        yield f"{group}{name}"
        if isinstance(value, dict):
            yield from dotted_keys(value, f"{group}{name}.")


def with_changes(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """The settings with some values, named by their dotted keys, replaced and checked."""
    plain: dict[str, Any] = asdict(settings)  # type: ignore[call-overload]
    for name, value in changes.items():
        *groups, key = name.split(".")
        part: Any = plain
        for group in groups:
            part = part.get(group) if isinstance(part, dict) else None
        if not isinstance(part, dict) or key not in part:
            raise unknown_key(name, dotted_keys(plain))
        part[key] = value
    return _validated(type(settings), plain)
