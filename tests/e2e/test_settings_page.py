"""docs/SETTINGS.md has every key of every configuration, as the code has it now."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from docs.settings_page import PAGE, page
from foundation.compose import composed_config
from foundation.configuration import settings_of
from foundation.declared import CONFIGS, classes_of
from foundation.errors import InputError
from foundation.registry import registered


def test_the_page_of_settings_is_what_the_code_and_the_configurations_say() -> None:
    made = page()
    if PAGE.read_text() != made:
        there = set(PAGE.read_text().splitlines())
        new = [line for line in made.splitlines() if line not in there]
        pytest.fail("`make settings-page` writes it anew; new lines:\n" + "\n".join(new[:20]))


def test_every_configuration_has_its_classes_and_is_refused_for_what_it_lacks_alone() -> None:
    assert set(registered("SETTINGS")) == {path.stem for path in CONFIGS.glob("*.yaml")}
    for name in registered("SETTINGS"):
        config = composed_config(name, [])
        if OmegaConf.missing_keys(config):
            with pytest.raises(InputError, match="a value is needed"):
                settings_of(classes_of(name)[0], config)
