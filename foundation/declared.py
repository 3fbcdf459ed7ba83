"""What the settings classes of a configuration declare: its keys, their defaults and meanings.

Defaults lie beneath a configuration's YAML, which says what differs.
"""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from foundation.registry import registered
from foundation.settings import NO_KEY

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def classes_of(name: str) -> list[type[Any]]:
    """The settings classes of `configs/<name>.yaml`."""
    places = (place.split(":") for place in registered("SETTINGS")[name])
    return [getattr(import_module(module), kind) for module, kind in places]


def keys_of(*kinds: Any) -> dict[str, FieldInfo]:
    """Every key that settings classes have; of two of one name the first counts."""
    return {
        key: field
        for kind in reversed(kinds)
        for key, field in kind.__pydantic_fields__.items()
        if NO_KEY not in (field.json_schema_extra or ())
    }


def beneath(name: str) -> list[str]:
    """The configurations whose defaults lie beneath one, itself among them."""
    settings = registered("SETTINGS")
    return [each for each, (first, *_) in settings.items() if first in settings[name]]


def defaults_of(name: str) -> dict[str, Any]:
    """The defaults of a configuration's first class.

    What its other classes have is not among them, nor what a choice of files holds or what the file
    leaves to be named, ???.
    """
    first, *others = classes_of(name)
    said = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    laid = {*keys_of(*others), *(key for key, value in said.items() if value == "???")}
    return {
        key: plain_value(field.get_default(call_default_factory=True, validated_data={}))
        for key, field in keys_of(first).items()
        if not (key in laid or field.is_required() or (CONFIGS / key).is_dir())
    }


def plain_value(value: Any) -> Any:
    """A default as YAML has it."""
    if dataclasses.is_dataclass(value):
        return {key: plain_value(getattr(value, key)) for key in keys_of(type(value))}
    if isinstance(value, list | tuple):
        return [plain_value(each) for each in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value
