"""Write configs/schema/*.json: JSON Schemas of the YAML files, from the settings classes.

`make schema` runs this module. Editors read the schema that the first line of a YAML file names.
Command-line completion and `kelly-chronos list` read the schemas, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import TypeAdapter

from docs.settings_page import CLASSES, key_comments, setting_schemas
from foundation.compose import CONFIG_FOLDER, list_group_choices
from foundation.files import OVERWRITE_KEY
from foundation.plugin import HYDRA_TARGET_KEY, PLUGIN_KEYS
from foundation.settings import NO_KEY_MARKER, settings_class_in_annotation
from sizing.strategies import STRATEGY_NAMES

FOLDER = CONFIG_FOLDER / "schema"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
INTERPOLATION = {"type": "string", "pattern": r"^\$\{"}
FILE_PROPERTIES: Mapping[str, Any] = {  # keys that no settings class has
    "defaults": {"type": "array", "description": "files that this file extends"},
    "hydra": {"type": "object", "description": "settings of Hydra"},
    OVERWRITE_KEY: {
        "type": "boolean",
        "default": False,
        "description": "true: write to an output folder that contains other files",
    },
}
TARGET_SCHEMA = {"type": ["string", "null"], "description": "module.name of custom code"}
# Schemas of group files, each with the configuration that has the group.
GROUPS = {"forecaster": "backtest", "fees": "backtest", "fees.kalshi": "trade_kalshi"}
_CHOICES = re.compile(r"(?:^|\| )(\w+)(?=[:, ]|$)")


def config_schema(name: str) -> dict[str, Any]:
    """Return the schema of `configs/NAME.yaml` and of a user's settings file."""
    properties: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    for kind in CLASSES[name]:
        definitions = {**_definitions(kind), **definitions}
        properties = {key: _value(each) for key, each in setting_schemas(kind).items()} | properties
    for group in PLUGIN_KEYS.keys() & properties.keys():
        choices = list_group_choices(group, name) if (CONFIG_FOLDER / group).is_dir() else []
        inner = definitions[properties[group]["$ref"].rpartition("/")[2]]
        inner["properties"] = {HYDRA_TARGET_KEY: TARGET_SCHEMA, **inner["properties"]}
        if group == "sizing":
            inner["properties"]["strategy"]["anyOf"].insert(0, {"enum": list(STRATEGY_NAMES)})
        if choices:
            description = properties[group].get("description", "")
            kinds = [{"enum": choices}, {"type": "string"}, {"$ref": properties[group]["$ref"]}]
            properties[group] = {"description": description, "anyOf": kinds}
    properties = {**dict(_file_keys(name)), **properties, **FILE_PROPERTIES}
    return _document(f"Settings of {name}", properties, definitions)


def group_schema(group: str, config: str) -> dict[str, Any]:
    """Return the schema of the files of a group, `configs/GROUP/*.yaml`."""
    owner = next(kind for kind in CLASSES[config] if group in setting_schemas(kind))
    inner = settings_class_in_annotation(owner.__pydantic_fields__[group].annotation)
    properties = {key: _value(each) for key, each in setting_schemas(inner).items()}
    properties |= {HYDRA_TARGET_KEY: TARGET_SCHEMA, "defaults": FILE_PROPERTIES["defaults"]}
    return _document(f"Settings of {group}", properties, _definitions(inner))


def _document(
    title: str, properties: Mapping[str, Any], definitions: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "$schema": DRAFT,
        "title": title,
        "type": "object",
        "additionalProperties": False,
        "properties": dict(properties),
        "$defs": dict(definitions),
    }


def _definitions(kind: type[Any]) -> dict[str, Any]:
    """Return the schemas of the classes within a settings class, by name."""
    found = TypeAdapter(kind).json_schema().get("$defs", {})
    for each in found.values():
        properties = each.get("properties", {})
        keys = {key: part for key, part in properties.items() if NO_KEY_MARKER not in part}
        each["properties"] = {key: _value(part) for key, part in keys.items()}
        each.pop("title", None)
        each.pop("required", None)  # the command line may set a key without a default
    return dict(found)


def _value(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a key in YAML, which also accepts a list's item and interpolations."""
    schema = {word: part for word, part in schema.items() if word != "title"}
    if "$ref" in schema:
        schema.pop("default", None)
        return schema
    outside: dict[str, Any] = {
        word: schema.pop(word) for word in ("description", "default") if word in schema
    }
    kinds = schema.get("anyOf", [schema])
    lists = [kind["items"] for kind in kinds if kind.get("type") == "array" and "items" in kind]
    return outside | {"anyOf": [*kinds, *lists, INTERPOLATION]}


def _file_keys(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the keys of the YAML files with their schemas; comments are descriptions."""
    values = yaml.safe_load((CONFIG_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    comments = key_comments(name)
    for base in values.get("defaults", ()):
        if isinstance(base, str) and (CONFIG_FOLDER / f"{base}.yaml").is_file():
            yield from _file_keys(base)
    for key in values:
        if key in FILE_PROPERTIES:
            continue
        description = comments.get(key, "")
        choices = _CHOICES.findall(description) if " | " in description else []
        schema: dict[str, Any] = {"description": description, "default": values[key]}
        if choices:
            schema["anyOf"] = [{"enum": choices}, INTERPOLATION]
        yield key, schema


def documents() -> dict[str, str]:
    """Return the text of every schema by file name."""
    found = {name: config_schema(name) for name in CLASSES}
    found |= {name: group_schema(name.partition(".")[0], kind) for name, kind in GROUPS.items()}
    return {
        f"{name}.json": json.dumps(each, ensure_ascii=False, separators=(",", ":")) + "\n"
        for name, each in found.items()
    }


def main() -> None:
    """Write all schemas; remove those of removed configurations."""
    FOLDER.mkdir(exist_ok=True)
    texts = documents()
    for path in FOLDER.glob("*.json"):
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
