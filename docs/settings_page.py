"""Write docs/SETTINGS.md, a table of all settings, from the settings classes.

`make settings-page` runs this module.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import TypeAdapter

from foundation.compose import CONFIG_FOLDER, settings_classes
from foundation.files import OVERWRITE_KEY
from foundation.plugin import HYDRA_TARGET_KEY, merge_product_tables
from foundation.settings import NO_KEY_MARKER, settings_class_in_annotation
from marketsimulator.catalogue import FIRST_SETTINGS, SETTINGS_TOPIC, topic_entries

PAGE = Path(__file__).resolve().parent / "SETTINGS.md"
_TIME = "-${now:%Y%m%dT%H%M%S}"
EDITOR_LINE = "yaml-language-server"  # in the comment that names a file's schema
NON_SETTING_KEYS = {"defaults", "hydra", OVERWRITE_KEY}

TABLE_HEADER = "key | value | meaning\n--- | --- | ---"
_WORDS = {"number": "number", "integer": "integer", "boolean": "`true`, `false`"}
_WORDS |= {"string": "text", "null": "`null`", "object": "mapping"}
_BOUNDS = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
_OF: Mapping[str, type[Any] | tuple[type[Any], ...]] = {
    "null": type(None),
    "boolean": bool,
    "integer": int,
    "number": (int, float, Decimal),
    "string": str,
    "array": (list, tuple),
    "object": Mapping,
}

# Settings classes by configuration; a key belongs to the first class that has it.
CLASSES: Mapping[str, list[type[Any]]] = {
    name: settings_classes(name) for name in merge_product_tables("SETTINGS")
}

INTRODUCTION = """# Settings

Look up the words a command accepts: `key=value`, as `sizing.fraction=0.25`. Quote a list,
`'symbols=[NVDA,AAPL]'`; select custom code with `GROUP._target_=module.Name`.
`make settings-page` writes this page from the settings classes and `configs/*.yaml`.

- **Search:** `kelly-chronos list settings WORD`.
- **Keep settings in a file:** YAML such as `limits: {symbol_cap: 0.5}`. Every command reads it as
  `config=FILE`; the command line replaces its values. Keys that only other commands have
  are skipped, unknown keys are refused. `kelly-chronos init` writes such a file.
- **Check the file in an editor:** its first line names the schema,
  `# yaml-language-server: $schema=…/configs/schema/live.json`.
- **Add files to groups:** `--config-dir FOLDER fees=mine` reads `mine.yaml` in FOLDER's `fees`.
- **Complete commands, keys and values:** `eval "$(kelly-chronos --completion bash)"` in
  `~/.bashrc`; the same with `zsh` in `~/.zshrc` after `compinit`; for fish
  `kelly-chronos --completion fish | source` in `config.fish`.

The value column shows the class's default, then other accepted values. `1.0` stands for any
number and `1` for integers; 0…1 includes both ends, >0…<1 neither. `[]` and `null` alone stand for
texts, `true` and `false` for each other. Unless a meaning explains `null`, it switches the setting
off.

## First settings

{first}

## Commands

A configuration has the keys of its classes, and appends the time to their `output`.
`overwrite=true` allows `output` to replace other files, and a backtest with other settings."""


def settings_bases(kind: type[Any]) -> list[type[Any]]:
    """Return the settings classes from which a class inherits keys."""
    return [base for base in kind.__bases__ if dataclasses.is_dataclass(base)]


def own_keys(kind: type[Any]) -> list[str]:
    """Return the keys that a class has in addition to those of its bases."""
    return [key for key in setting_schemas(kind) if key in _own(kind)]


def setting_schemas(kind: type[Any]) -> dict[str, Any]:
    """Return the JSON schema of every key of a settings class."""
    schema = TypeAdapter(kind).json_schema()
    fields = schema.get("properties") or schema["$defs"][kind.__name__]["properties"]
    return {key: _as_number(value) for key, value in fields.items() if NO_KEY_MARKER not in value}


def _as_number(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a decimal's schema as a number's: pydantic also allows text that reads as one."""
    kinds: list[dict[str, Any]] = schema.get("anyOf", [])
    types = [kind.get("type") for kind in kinds]
    kept = {word: value for word, value in schema.items() if word != "anyOf"}
    if types == ["number", "string"]:
        return kept | kinds[0]
    if types == ["number", "string", "null"]:
        return kept | {"anyOf": [kinds[0], kinds[2]]}
    return schema


def _own(kind: type[Any]) -> Mapping[str, Any]:
    return inspect.get_annotations(kind)


def nested_classes(kind: type[Any]) -> dict[str, type[Any]]:
    """Return a settings class, its bases and the classes of all their fields, by class name."""
    found = {kind.__name__: kind}
    inner = (settings_class_in_annotation(field.type) for field in dataclasses.fields(kind))
    for other in (*settings_bases(kind), *inner):
        if other is not None:
            found |= nested_classes(other)
    return found


def settings_table(kind: type[Any]) -> str:
    """Return the table of a settings class in Markdown, one row for each of its own keys."""
    rows = setting_schemas(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    return "\n".join(
        [TABLE_HEADER, *(_row(name, rows[name], fields[name]) for name in own_keys(kind))]
    )


def _row(name: str, schema: Mapping[str, Any], field: Any) -> str:
    cells = (f"`{name}`", _value(schema, field), schema.get("description", ""))
    return " | ".join(cell.replace("|", "\\|") for cell in cells)


def _value(schema: Mapping[str, Any], field: Any) -> str:
    """Return the default, and other accepted values that the default does not show."""
    if "$ref" in schema:
        return _type(schema)
    has_factory = field.default_factory is not dataclasses.MISSING
    default = field.default_factory() if has_factory else field.default
    kinds = schema.get("anyOf", [schema])
    if default is dataclasses.MISSING:
        return "required: " + " or ".join(map(_taken, kinds))
    own = [kind for kind in kinds if _is_of(default, kind)]
    others = [_taken(kind) for kind in kinds if kind not in own and not _is_text(kind)]
    return ", ".join([*(_with_default(default, kind) for kind in own), *others])


def _is_text(kind: Mapping[str, Any]) -> bool:
    return kind.get("type") == "string" and not _choices(kind)


def _is_of(default: Any, kind: Mapping[str, Any]) -> bool:
    if words := _choices(kind):
        return default in words
    name = kind.get("type", "")
    is_flag = isinstance(default, bool)
    return isinstance(default, _OF.get(name, ())) and is_flag == (name == "boolean")


def _with_default(default: Any, kind: Mapping[str, Any]) -> str:
    """Return a default with its type's other values; 20.0 means any number, 20 an integer."""
    if words := _choices(kind):
        return ", ".join([f"`{default}`", *(f"`{word}`" for word in words if word != default)])
    if kind["type"] == "number" and float(default).is_integer():
        return f"`{int(default)}.0` {_bounds(kind)}".strip()
    if kind["type"] == "array":
        inner = _type(kind).removeprefix("list ")
        shown = yaml_text(default)
        is_clear = inner == "of text" or (default and not inner.startswith("of ["))
        return shown if is_clear else f"{shown} {inner}"
    return f"{yaml_text(default)} {_bounds(kind)}".strip()


def _taken(kind: Mapping[str, Any]) -> str:
    bounds = _bounds(kind)
    return bounds if bounds and kind["type"] == "number" else f"{_type(kind)} {bounds}".strip()


def _choices(kind: Mapping[str, Any]) -> list[Any]:
    return list(kind.get("enum", [kind["const"]] if "const" in kind else []))


def _bounds(kind: Mapping[str, Any]) -> str:
    """Return a number's bounds: 0…1; an exclusive or single bound has its sign, >0…<1."""
    low, high = (
        next((f"{sign}{kind[word]:.12g}" for word, sign in signs if word in kind), "")
        for signs in (_BOUNDS[:2], _BOUNDS[2:])
    )
    if low and high:
        return f"{low.removeprefix('≥')}…{high.removeprefix('≤')}"
    return low or high


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if words := _choices(schema):
        return ", ".join(f"`{word}`" for word in words)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_type, schema["anyOf"])))
    if schema.get("type") == "array":
        inner = schema.get("prefixItems", [schema.get("items", {})])
        return f"list of {' and '.join(dict.fromkeys(map(_type, inner)))}"
    return _WORDS.get(schema.get("type", ""), "anything")


def yaml_text(value: Any) -> str:
    """Return a value as one line of YAML."""
    if isinstance(value, list | tuple) and any(map(dataclasses.is_dataclass, value)):
        return f"{len(value)} row{'s' if len(value) > 1 else ''}"
    return f"`{_flow(value)}`"


def _flow(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_flow(part)}' for key, part in value.items())}}}"
    text = f"{value:.12g}" if isinstance(value, float) else str(value)
    return re.sub(r"\$\{now:[^}]*\}", "TIME", text) or '""'


def render_page() -> str:
    """Return the content of docs/SETTINGS.md."""
    entries = topic_entries(SETTINGS_TOPIC)
    rows = (f"`{key}` | {entries[key].removeprefix('* ')}" for key in FIRST_SETTINGS)
    first = "\n".join(("key | meaning", "--- | ---", *rows))
    parts = [INTRODUCTION.replace("{first}", first), *map(_section, CLASSES)]
    for name, kind in sorted(_all_classes().items()):
        if own_keys(kind):
            about = cast(str, kind.__doc__).splitlines()[0]
            parts += [f"## {name}", about + _bases_text(settings_bases(kind)), settings_table(kind)]
    return "\n\n".join(parts) + "\n"


def _all_classes() -> dict[str, type[Any]]:
    every = (kind for kinds in CLASSES.values() for kind in kinds)
    return {name: each for kind in every for name, each in nested_classes(kind).items()}


def _bases_text(bases: Iterable[type[Any]]) -> str:
    words = " and ".join(map(_link, filter(own_keys, bases)))
    return f" Includes {words}." if words else ""


def _link(kind: type[Any]) -> str:
    return f"[{kind.__name__}](#{kind.__name__.lower()})"


def _section(name: str) -> str:
    """Return a configuration's section: purpose, classes, and settings of its file alone."""
    text = (CONFIG_FOLDER / f"{name}.yaml").read_text()
    comments = [line for line in text.splitlines() if line.startswith("#")]
    about = " ".join(line.removeprefix("# ") for line in comments if EDITOR_LINE not in line)
    parts = [f"### {name}", f"{about} {', '.join(map(_link, CLASSES[name]))}."]
    beside = _beside(name)
    parts += ["\n".join(f"- `{key}`: {said}" for key, said in beside.items())] if beside else []
    without = NON_SETTING_KEYS | beside.keys()
    listed = {key: value for key, value in _listed(name).items() if key not in without}
    instead = [
        f"`{key}: {value}`"
        for key, value in _leaves(listed)
        if not (str(value).endswith(_TIME) or key.endswith(HYDRA_TARGET_KEY))
    ]
    parts += [f"Its file sets: {', '.join(instead)}."] if instead else []
    return "\n\n".join(parts)


def _leaves(values: Mapping[str, Any], group: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting's dotted key and value; for a list its number of entries."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{group}{key}.")
        elif isinstance(value, list):
            yield f"{group}{key}", f"[{len(value)} entries]"
        else:
            yield f"{group}{key}", "null" if value is None else value


def _beside(name: str) -> dict[str, str]:
    """Return the keys of a file that its classes lack, with their comments."""
    known = {field.name for kind in CLASSES[name] for field in fields(kind)} | NON_SETTING_KEYS
    comments = key_comments(name)
    return {key: comments[key] for key in _listed(name) if key not in known and key in comments}


def key_comments(name: str) -> dict[str, str]:
    """Return the comment of each top-level key of a configuration file."""
    text = (CONFIG_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    return dict(re.findall(r"^(\w+):.*?[ ]# *(.+)$", text, re.MULTILINE))


def _listed(name: str) -> dict[str, Any]:
    return cast(dict[str, Any], yaml.safe_load((CONFIG_FOLDER / f"{name}.yaml").read_text()))


def main() -> None:
    """Write docs/SETTINGS.md."""
    PAGE.write_text(render_page())


if __name__ == "__main__":
    main()
