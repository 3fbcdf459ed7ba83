"""JSON Schemas match the settings classes, and every YAML file satisfies its schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from omegaconf import OmegaConf

from docs.schema import FOLDER, documents
from foundation.compose import CONFIG_FOLDER
from foundation.schemas import read_all_schemas, read_settings_schema

FILES = sorted(
    (*CONFIG_FOLDER.rglob("*.yaml"), *(CONFIG_FOLDER.parent / "examples").rglob("*.yaml"))
)
LINE = "# yaml-language-server: $schema="


def schema_of(path: Path) -> Path:
    """Return the schema that the first line of a file names."""
    (line,) = (each for each in path.read_text().splitlines() if each.startswith(LINE))
    return (path.parent / line.removeprefix(LINE)).resolve()


def validator(name: str) -> Any:
    return Draft202012Validator(json.loads((FOLDER / f"{name}.json").read_text()))


@pytest.mark.slow
def test_stored_schemas_match_the_settings_classes() -> None:
    stored = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert stored == documents(), "make schema"
    for text in stored.values():
        Draft202012Validator.check_schema(json.loads(text))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_yaml_file_satisfies_the_schema_it_names(path: Path) -> None:
    schema = schema_of(path)
    assert schema.parent == FOLDER
    content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert list(validator(schema.stem).iter_errors(content)) == []


@pytest.mark.parametrize(
    "content",
    [
        {"symbls": ["SYA"]},
        {"timeframe": "2h"},
        {"limits": {"symbol_cap": 9}},
        {"limits": {"symbol_cap": "much"}},
        {"sizing": {"strategie": "kelly_50"}},
        {"forecaster": {"kinds": "ewma"}},
    ],
)
def test_schema_rejects_invalid_settings(content: dict[str, Any]) -> None:
    assert list(validator("live").iter_errors(content))


@pytest.mark.parametrize(
    "content",
    [
        {"symbols": "SYA", "data": {"dir": "bars"}},
        {"forecaster": "ewma", "timeframe": "1d"},
        {"sizing": {"_target_": "my.rule", "arguments": {"fast": 5}}},
        {"limits": {"symbol_cap": "${oc.env:CAP,0.5}"}, "trials": None},
    ],
)
def test_schema_accepts_valid_settings(content: dict[str, Any]) -> None:
    assert list(validator("live").iter_errors(content)) == []


def test_settings_are_parsed_from_their_schemas() -> None:
    settings = read_settings_schema("backtest")
    assert settings["timeframe"].choices == ("1d", "1h", "30m", "15m", "5m")
    assert settings["sizing.fraction"].default == "null"
    assert settings["limits"].is_group
    assert "ewma" in settings["forecaster"].choices
    assert {"guards.drawdown", "sizing.fraction"} <= read_all_schemas().keys()
    assert read_settings_schema("nothing") == {}
