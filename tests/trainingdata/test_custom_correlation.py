"""A custom source of correlations is checked as other custom code is."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundation.errors import InputError
from tests.support.messages import refused
from tests.support.own_module import own_module
from trainingdata.stored_correlation import CorrelationSettings

SOURCE = """
def source(window: int = 60):
    raise AssertionError("called")
"""


@pytest.mark.parametrize("arguments", [{"windw": 5}, {"window": "long"}])
def test_wrong_arguments_of_correlations_are_refused(
    arguments: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = own_module(SOURCE, tmp_path, monkeypatch)
    settings = CorrelationSettings(kind=f"{module}.source", arguments=arguments)
    with refused(InputError, "correlation.arguments"):
        settings.build_source()
