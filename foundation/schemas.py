"""Keys, defaults, descriptions and choices of settings, read from configs/schema.

Completion is fast because the settings classes and their libraries are not imported.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from foundation.plugin import merge_product_tables

_FOLDER = Path(__file__).resolve().parent.parent / "configs" / "schema"
_FILE_ONLY = ("defaults", "hydra")  # keys of YAML files that a command line cannot set


@dataclass(frozen=True, slots=True)
class SettingEntry:
    """A setting of a configuration.

    key: dotted key.
    default: default value as JSON; empty for a group.
    meaning: description.
    choices: accepted values; empty without a list of choices.
    is_group: whether other settings are below this key.
    """

    key: str
    default: str
    meaning: str
    choices: tuple[str, ...] = ()
    is_group: bool = False


@cache
def read_settings_schema(config: str) -> dict[str, SettingEntry]:
    """Return the settings of a configuration by dotted key; empty without a schema."""
    path = _FOLDER / f"{config}.json"
    if not path.is_file():
        return {}
    schema = json.loads(path.read_text(encoding="utf-8"))
    return {
        each.key: each
        for each in _iterate_setting_entries(schema["properties"], schema["$defs"], "")
    }


def read_all_schemas() -> dict[str, SettingEntry]:
    """Return the settings of all configurations by dotted key, those of live trading first."""
    found: dict[str, SettingEntry] = {}
    for name in ("live", *merge_product_tables("SETTINGS")):
        for key, entry in read_settings_schema(name).items():
            found.setdefault(key, entry)
    return found


def _iterate_setting_entries(
    properties: Mapping[str, Any], definitions: Mapping[str, Any], group: str
) -> Iterator[SettingEntry]:
    for name, schema in properties.items():
        if name in _FILE_ONLY:
            continue
        key = f"{group}{name}"
        kinds = schema.get("anyOf", [schema])
        inner = [kind["$ref"] for kind in kinds if "$ref" in kind]
        default = json.dumps(schema["default"], ensure_ascii=False) if "default" in schema else ""
        meaning = schema.get("description", "")
        yield SettingEntry(
            key, default, meaning, tuple(_iterate_schema_choices(kinds)), bool(inner)
        )
        for place in inner:
            part = definitions[place.rpartition("/")[2]].get("properties", {})
            yield from _iterate_setting_entries(part, definitions, f"{key}.")


def _iterate_schema_choices(kinds: list[dict[str, Any]]) -> Iterator[str]:
    for kind in kinds:
        yield from map(str, kind.get("enum", ()))
        if "const" in kind:
            yield str(kind["const"])
        if kind.get("type") == "boolean":
            yield from ("true", "false")
