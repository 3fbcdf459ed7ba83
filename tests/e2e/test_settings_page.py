"""docs/SETTINGS.md has every key of every configuration, as the code has it now."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from docs.settings_page import CLASSES, PAGE, render_page
from foundation.compose import CONFIG_FOLDER, compose_config, validate_config
from foundation.errors import InputError
from tests.support.messages import refused


def test_settings_page_is_up_to_date() -> None:
    made = render_page()
    if PAGE.read_text() != made:
        there = set(PAGE.read_text().splitlines())
        new = [line for line in made.splitlines() if line not in there]
        pytest.fail("`make settings-page` writes it anew; new lines:\n" + "\n".join(new[:20]))


def test_every_config_file_has_a_settings_table() -> None:
    assert set(CLASSES) == {path.stem for path in CONFIG_FOLDER.glob("*.yaml")}


@pytest.mark.first_example
@pytest.mark.parametrize("name", sorted(CLASSES))
def test_shipped_config_file_lacks_only_required_values(name: str) -> None:
    config = compose_config(name, [])
    if needed := OmegaConf.missing_keys(config):
        with refused(InputError):
            validate_config(name, config)
    named = compose_config(name, [f"{key}=named" for key in needed])
    validate_config(name, named)
