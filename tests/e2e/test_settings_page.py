"""docs/SETTINGS.md has every key of every configuration, as the code has it now."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import pytest
from omegaconf import OmegaConf

from docs.settings_page import CLASSES, PAGE, declarations, page, schemas_of
from docs.settings_page import _all_classes as every_class
from foundation.compose import composed_config
from foundation.configuration import check_values
from foundation.declared import CONFIGS, FILE
from foundation.errors import InputError

NUMBERS = ("number", "integer")
SOUND = {"number": 0.5, "integer": 1, "string": "2024-01-02"}


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


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_a_configuration_as_it_ships_is_refused_before_it_is_loaded_for_what_it_lacks_alone(
    name: str,
) -> None:
    config = composed_config(name, [])
    if needed := OmegaConf.missing_keys(config):
        with pytest.raises(InputError, match="a value is needed"):
            check_values(name, config)
    named = composed_config(name, [f"{key}=named" for key in needed])
    check_values(name, named)


def beyond(schema: Mapping[str, Any]) -> list[Any]:
    """Values just beyond a number's bounds, and what is no number."""
    parts = [part for part in schema.get("anyOf", [schema]) if part.get("type") in NUMBERS]
    if len(parts) != 1:
        return []
    (part,) = parts
    whole = part["type"] == "integer"
    wrong: list[Any] = ["much", True, "1_0"] if whole else ["much", True, "1_0", math.nan]
    for word, way in (("inimum", -1), ("aximum", 1)):
        if (bound := part.get(f"m{word}")) is not None:
            wrong.append(bound + way if whole else math.nextafter(bound, way * math.inf))
        if (bound := part.get(f"exclusiveM{word}")) is not None:
            wrong.append(bound)
    return wrong


def test_what_is_beyond_a_declared_bound_is_refused_in_one_line_with_its_key() -> None:
    """Of every class, whatever its checks of what goes together say."""
    tried = 0
    for kind in every_class().values():
        schemas = schemas_of(kind)
        needed = [each.name for each in fields(kind) if each.default is each.default_factory]
        sound = {name: SOUND.get(schemas[name].get("type")) for name in needed}
        for key, schema in schemas.items():
            for wrong in beyond(schema):
                with pytest.raises(InputError) as refused:
                    kind(**{**sound, key: wrong})
                assert key in str(refused.value), (kind, key, wrong, refused.value)
                assert "\n" not in str(refused.value)
                tried += 1
    assert tried > 500
