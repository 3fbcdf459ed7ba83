"""What the settings classes declare, for whoever may not wait for them: `configs/classes.json`.

`make settings-page` writes the file from the classes, which a class of settings takes seconds to
import. Defaults lie beneath a configuration's YAML; values are checked before a command is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
FILE = CONFIGS / "classes.json"


@cache
def declared() -> Mapping[str, Any]:
    """Return the declarations of settings, `configs/classes.json`.

    `configurations`: their classes and keys; `bases`, `modules`: of classes; `classes`: a schema
    for each of their own keys.
    """
    values: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return values


def defaults_of(name: str) -> dict[str, Any]:
    """The defaults of a configuration's own keys, those of its classes that no other one lays."""
    keys = keys_of(name)
    return _defaults({key: keys[key] for key in declared()["configurations"][name]["own"]})


def _defaults(keys: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _default(schema) for key, schema in keys.items()}


def _default(schema: Mapping[str, Any]) -> Any:
    """A key's default; of a group it is what differs from its class."""
    if "$ref" not in schema:
        return schema["default"]
    return _defaults(keys_in(schema["$ref"])) | schema["default"]


def beneath(name: str) -> list[str]:
    """The configurations whose own keys one has, itself among them: those of its classes' bases."""
    classes = [
        kind for first in declared()["configurations"][name]["classes"] for kind in _line(first)
    ]
    return [
        each
        for each, about in declared()["configurations"].items()
        if about["own"] and about["classes"][0] in classes
    ]


def _line(kind: str) -> list[str]:
    """A class, and those that it comes from."""
    return [kind, *(each for base in declared()["bases"][kind] for each in _line(base))]


def keys_of(name: str) -> dict[str, Any]:
    """The schema of every key that a configuration's classes have; of two the first counts."""
    kinds = declared()["configurations"][name]["classes"]
    return {key: schema for kind in reversed(kinds) for key, schema in keys_in(kind).items()}


def class_of(kind: str) -> Any:
    """Import and return a settings class by its name."""
    return getattr(import_module(declared()["modules"][kind]), kind)


def keys_in(kind: str) -> dict[str, Any]:
    """The schema of every key of a class, those of its bases among them."""
    keys: dict[str, Any] = {}
    for base in declared()["bases"][kind]:
        keys |= keys_in(base)
    keys |= declared()["classes"][kind]
    return keys
