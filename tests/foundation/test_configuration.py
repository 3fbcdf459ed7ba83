"""Checked settings: what no class describes is refused wherever it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from omegaconf import OmegaConf
from pydantic_core import ValidationError

from foundation.configuration import settings_of
from foundation.declared import declared, keys_in, keys_of
from foundation.errors import InputError
from foundation.refusals import refusal, validator_of
from foundation.settings import setting, settings_class


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
    return settings_of(Whole, OmegaConf.create(values))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"one": {"shar": 1}}, "one.shar: there is no such setting"),
        ({"maybe": {"shar": 1}}, "maybe.shar: there is no such setting"),
        ({"listed": [{"share": 0}, {"shar": 1}]}, "listed.1.shar: there is no such setting"),
        ({"named": {"A": {"shar": 1}}}, "named.A.shar: there is no such setting"),
        ({"listed": [{"share": True}]}, "listed.0.share: True is no number"),
        ({"numbers": {"A": True}}, "numbers.A: True is no number"),
        ({"one": {"rates": [1, True]}}, "one.rates.1: True is no number"),
        ({"listed": [{"rates": [float("nan")]}]}, "listed.0.rates.0: nan is no finite number"),
        ({"one": {"share": 1}}, "one.share: 1 is not below 1"),
        ({"one": {"share": -0.5}}, "one.share: -0.5 is below 0"),
        ({"one": {"name": None}}, "one.name: None is no word"),
        ({"listed": [3]}, "listed.0: 3 "),
    ],
)
def test_what_no_class_describes_is_refused_with_its_place(
    values: dict[str, object], says: str
) -> None:
    with pytest.raises(InputError) as refused:
        settings(**values)
    assert str(refused.value).startswith(says)


def numbers_of(keys: Mapping[str, Any], place: tuple[str, ...] = ()) -> Iterator[Any]:
    """(place, schema) of every number among the keys of a configuration, its groups' included."""
    for key, schema in keys.items():
        if "$ref" in schema:
            yield from numbers_of(keys_in(schema["$ref"]), (*place, key))
        for each in schema.get("anyOf", [schema]):
            if each.get("type") in ("number", "integer"):
                yield (*place, key), each


@pytest.mark.parametrize("name", declared()["configurations"])
def test_every_number_is_refused_beyond_its_bounds_by_its_key_and_taken_at_them(name: str) -> None:
    """One property of all configurations; no settings class is asked for it again elsewhere."""
    for place, schema in numbers_of(keys_of(name)):

        def check(value: object, place: tuple[str, ...] = place) -> str:
            for key in reversed(place):
                value = {key: value}
            try:
                validator_of(name).validate_python(value)
            except ValidationError as error:
                return str(refusal(error, None))
            return ""

        dotted = ".".join(place)
        for word, beyond in (("minimum", -1), ("maximum", 1)):
            strict = f"exclusive{word.capitalize()}"
            if word in schema:
                assert check(schema[word]) == ""
                assert check(schema[word] + beyond).startswith(f"{dotted}: {schema[word] + beyond}")
            if strict in schema:
                assert check(schema[strict]).startswith(f"{dotted}: {schema[strict]}")
        for wrong in (True, "many", "1_0", float("nan"), float("inf")):
            assert check(wrong).startswith(f"{dotted}: "), (dotted, wrong)


def test_a_mapping_takes_any_key() -> None:
    given = {"x_1": {"deep": [{"any": True}]}, "word": "1_000"}
    assert settings(anything=given).anything == given
    assert settings(numbers={"A": 1.5}, named={"B": {"share": 0}}).named == {"B": Part(0.0)}


def test_one_value_where_several_may_stand_is_a_list_of_one() -> None:
    assert settings(one={"rates": 0.5}).one.rates == (0.5,)


def test_a_class_made_in_python_refuses_the_same_with_its_group() -> None:
    @settings_class("group")
    class Grouped:
        share: float = setting(0.5, "a share", gt=0)
        secret: str = setting("key", "of an account", hidden=True)

    with pytest.raises(InputError, match=r"^group\.share: -1 is not above 0$"):
        Grouped(share=-1)
    with pytest.raises(InputError, match=r"^group\.shar: there is no such setting"):
        Grouped(shar=1)  # type: ignore[call-arg]
    assert "key" not in repr(Grouped())
