"""Checked settings: what no class describes is refused wherever it stands."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import pytest
from omegaconf import OmegaConf
from pydantic_core import ValidationError

from foundation.compose import settings_classes
from foundation.errors import InputError
from foundation.plugin import merge_product_tables
from foundation.settings import (
    setting,
    setting_fields,
    settings_class,
    settings_class_in_annotation,
    settings_error,
    settings_from_config,
)
from tests.support.messages import refused


@settings_class()
class Part:
    """A group of settings."""

    share: float = setting(0.0, "a share", ge=0, lt=1)
    name: str = ""
    rates: tuple[float, ...] = ()


@settings_class()
class Whole:
    """Settings with groups in every place where there may be one."""

    one: Part = setting(Part(), "a group")
    maybe: Part | None = None
    listed: tuple[Part, ...] = ()
    named: Mapping[str, Part] = setting({}, "groups")
    numbers: Mapping[str, float] = setting({}, "numbers")
    anything: Mapping[str, Any] = setting({}, "whatever")


def settings(**values: object) -> Whole:
    return settings_from_config(Whole, OmegaConf.create(values))


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        ({"one": {"shar": 1}}, ("one.shar",)),
        ({"maybe": {"shar": 1}}, ("maybe.shar",)),
        ({"listed": [{"share": 0}, {"shar": 1}]}, ("listed.1.shar",)),
        ({"named": {"A": {"shar": 1}}}, ("named.A.shar",)),
        ({"listed": [{"share": True}]}, ("listed.0.share",)),
        ({"numbers": {"A": True}}, ("numbers.A",)),
        ({"one": {"rates": [1, True]}}, ("one.rates.1",)),
        ({"listed": [{"rates": [float("nan")]}]}, ("listed.0.rates.0",)),
        ({"one": {"share": 1}}, ("one.share", "1")),
        ({"one": {"share": [20, "000"]}}, ("one.share", "20,000", "20000")),
        ({"one": {"share": "1,234,567.50"}}, ("one.share", "1,234,567.50", "1234567.50")),
        ({"one": {"share": [1, 2]}}, ("one.share", "1", "2")),
        ({"one": {"share": -0.5}}, ("one.share", "-0.5", "0")),
        ({"one": {"name": None}}, ("one.name",)),
        ({"listed": [3]}, ("listed.0", "3")),
    ],
)
def test_unknown_settings_are_refused_with_their_path(
    values: dict[str, object], facts: tuple[str, ...]
) -> None:
    with refused(InputError, *facts):
        settings(**values)


NUMBERS = {int, float, int | None, float | None, type(None)}


def numbers_of(kind: Any, place: tuple[str, ...] = ()) -> Iterator[Any]:
    """(place, bounds) of every number among the keys of a class, its groups' included."""
    for key, about in setting_fields(kind).items():
        if (inner := settings_class_in_annotation(about.annotation)) is not None:
            if dataclasses.is_dataclass(about.annotation):
                yield from numbers_of(inner, (*place, key))
        elif {about.annotation, *get_args(about.annotation)} <= NUMBERS:
            yield (
                (*place, key),
                {
                    word: getattr(bound, word)
                    for bound in about.metadata
                    for word in ("ge", "gt", "le", "lt")
                    if getattr(bound, word, None) is not None
                },
            )


@pytest.mark.parametrize("name", merge_product_tables("SETTINGS"))
def test_every_number_is_refused_beyond_its_bounds(name: str) -> None:
    """One property covers all settings classes; no other test repeats it."""
    kind = settings_classes(name)[0]
    found = list(numbers_of(kind))
    assert found or name in ("drift",)
    for place, bounds in found:

        def check(value: object, place: tuple[str, ...] = place) -> str:
            """Return what is refused of the key; a value alone may not go with the others."""
            for key in reversed(place):
                value = {key: value}
            try:
                kind.__pydantic_validator__.validate_python(value)
            except ValidationError as error:
                places = [each["loc"] for each in error.errors()]
                return str(settings_error(error, kind)) if place in places else ""
            return ""

        dotted = ".".join(place)
        for word, beyond in (("ge", -1), ("le", 1)):
            if word in bounds:
                value = bounds[word]
                assert not re.match(rf"{dotted}: .* is (above|below)", check(value))
                assert check(value + beyond).startswith(f"{dotted}: {value + beyond}")
        for word in ("gt", "lt"):
            if word in bounds:
                assert check(bounds[word]).startswith(f"{dotted}: {bounds[word]}")
        for wrong in (True, "many", "1_0", float("nan"), float("inf")):
            assert check(wrong).startswith(f"{dotted}: "), (dotted, wrong)


def test_mapping_setting_accepts_any_key() -> None:
    given = {"x_1": {"deep": [{"any": True}]}, "word": "1_000"}
    assert settings(anything=given).anything == given
    assert settings(numbers={"A": 1.5}, named={"B": {"share": 0}}).named == {"B": Part(0.0)}


def test_single_value_for_a_list_setting_is_accepted() -> None:
    assert settings(one={"rates": 0.5}).one.rates == (0.5,)


def test_error_of_a_settings_class_names_the_key() -> None:
    @settings_class("group")
    class Grouped:
        share: float = setting(0.5, "a share", gt=0)
        secret: str = setting("abc123", "of an account", hidden=True)

    with refused(InputError, "group.share", "-1", "0"):
        Grouped(share=-1)
    with refused(InputError, "group.shar"):
        Grouped(shar=1)  # type: ignore[call-arg]
    assert "abc123" not in repr(Grouped())
