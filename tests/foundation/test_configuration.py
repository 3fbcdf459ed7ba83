"""Checked settings: what no class describes is refused wherever it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from omegaconf import OmegaConf

from foundation.configuration import settings_of
from foundation.errors import InputError


@dataclass(frozen=True, slots=True)
class Part:
    """A group of settings."""

    share: float = 0.0
    name: str = ""
    rates: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Whole:
    """Settings with groups in every place where there may be one."""

    one: Part = field(default_factory=Part)
    maybe: Part | None = None
    listed: tuple[Part, ...] = ()
    named: Mapping[str, Part] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    anything: Mapping[str, Any] = field(default_factory=dict)


def settings(**values: object) -> Whole:
    return settings_of(Whole, OmegaConf.create(values))


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"one": {"shar": 1}}, "one"),
        ({"maybe": {"shar": 1}}, "maybe"),
        ({"listed": [{"share": 1}, {"shar": 1}]}, "listed.1"),
        ({"named": {"A": {"shar": 1}}}, "named.A"),
    ],
)
def test_a_mistyped_key_is_refused_with_its_place_and_what_is_meant(
    values: dict[str, object], place: str
) -> None:
    with pytest.raises(InputError) as refused:
        settings(**values)
    said = f"{place}.shar: there is no such setting; did you mean {place}.share?"
    assert str(refused.value) == said


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"listed": [{"share": True}]}, "listed.0.share: true is no number"),
        ({"named": {"A": {"share": False}}}, "named.A.share: false is no number"),
        ({"numbers": {"A": True}}, "numbers.A: true is no number"),
        ({"one": {"rates": [1, True]}}, "one.rates.1: true is no number"),
        ({"listed": [{"share": "1_000"}]}, "listed.0.share: '1_000' is no number, write it"),
        ({"listed": [{"rates": [float("nan")]}]}, "listed.0.rates.0: nan is no number"),
        ({"listed": [3]}, "listed.0: 3 is no group of settings; write {key: value}"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_its_place(
    values: dict[str, object], says: str
) -> None:
    with pytest.raises(InputError) as refused:
        settings(**values)
    assert str(refused.value).startswith(says)


def test_a_mapping_takes_any_key() -> None:
    given = {"x_1": {"deep": [{"any": True}]}, "word": "1_000"}
    assert settings(anything=given).anything == given
    assert settings(numbers={"A": 1.5}, named={"B": {"share": 2}}).named == {"B": Part(2.0)}
