"""docs/SETTINGS.md has every key of every configuration, as the code has it now."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from pydantic_core import ValidationError

from docs.settings_page import CLASSES, PAGE, declarations, page
from foundation.compose import composed_config
from foundation.configuration import check_values
from foundation.declared import CONFIGS, FILE, keys_in, keys_of
from foundation.errors import InputError
from foundation.refusals import refusal, validator_of


def test_the_page_of_settings_is_what_the_code_and_the_configurations_say() -> None:
    made = page()
    if PAGE.read_text() != made:
        there = set(PAGE.read_text().splitlines())
        new = [line for line in made.splitlines() if line not in there]
        pytest.fail("`make settings-page` writes it anew; new lines:\n" + "\n".join(new[:20]))


def test_the_file_of_classes_is_what_the_classes_say() -> None:
    assert FILE.read_text() == declarations(), "`make settings-page` writes it anew"


def test_every_configuration_has_a_table() -> None:
    assert set(CLASSES) == {path.stem for path in CONFIGS.glob("*.yaml")}


def shipped(name: str) -> DictConfig:
    """A configuration as it ships, with something for every value that it needs."""
    needed = OmegaConf.missing_keys(composed_config(name, []))
    return composed_config(name, [f"{key}=named" for key in needed])


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_a_configuration_as_it_ships_is_refused_before_it_is_loaded_for_what_it_lacks_alone(
    name: str,
) -> None:
    config = composed_config(name, [])
    if OmegaConf.missing_keys(config):
        with pytest.raises(InputError, match="a value is needed"):
            check_values(name, config)
    check_values(name, shipped(name))


def declared_keys(
    keys: Mapping[str, Any], plain: Mapping[str, Any], group: str = ""
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every key of a configuration that has one kind of value beside null, and its schema."""
    for key, schema in keys.items():
        inner = plain.get(key)
        if "$ref" in schema and isinstance(inner, Mapping):
            yield from declared_keys(keys_in(schema["$ref"]), inner, f"{group}{key}.")
        kinds = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
        if key in plain and len(kinds) == 1:
            yield f"{group}{key}", kinds[0]


def wrong_values(schema: Mapping[str, Any]) -> Iterator[object]:
    """What lies just beyond each bound of a key, and what is of no kind that it takes."""
    kind = schema.get("type")
    step = 1 if kind == "integer" else 1e-9
    for bound, sign in (("minimum", -step), ("maximum", step)):
        if bound in schema:
            yield schema[bound] + sign * max(1, abs(schema[bound]))
    yield from (schema[name] for name in ("exclusiveMinimum", "exclusiveMaximum") if name in schema)
    if kind in ("number", "integer"):
        yield from ("much", True, float("nan"), float("inf"))
    if kind == "integer":
        yield 2.5
    if kind == "boolean" or "enum" in schema:
        yield "perhaps"


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_a_value_beyond_what_is_declared_is_refused_in_a_line_that_begins_with_its_key(
    name: str,
) -> None:
    """Of every configuration every key, every bound and every kind of value."""
    plain: Any = OmegaConf.to_container(shipped(name), resolve=True)
    plain.pop("overwrite", None)
    validator = validator_of(name)
    validator.validate_python(plain)
    count = 0
    for key, schema in declared_keys(keys_of(name), plain):
        *groups, last = key.split(".")
        for wrong in wrong_values(schema):
            settings = copy.deepcopy(plain)
            group = settings
            for each in groups:
                group = group[each]
            group[last] = wrong
            with pytest.raises(ValidationError) as refused:
                validator.validate_python(settings)
            said = str(refusal(refused.value, None))
            assert said.startswith(f"{key}: "), (key, wrong)
            assert "\n" not in said
            count += 1
    assert count >= 10
