"""Checked settings: what no class describes is refused wherever it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from omegaconf import OmegaConf
from pydantic import TypeAdapter, ValidationError

from docs.settings_page import every_class
from foundation.configuration import settings_of
from foundation.declared import keys_of
from foundation.errors import InputError
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


def test_every_number_is_refused_beyond_its_bounds_and_taken_at_them() -> None:
    """One property of all settings classes; none is asked for it again elsewhere."""
    met = 0
    for kind in every_class().values():
        adapter = TypeAdapter(kind)
        schema = adapter.json_schema()
        schemas = schema.get("properties") or schema["$defs"][kind.__name__]["properties"]

        def is_refused(value: object, key: str, adapter: Any = adapter) -> bool:
            try:
                adapter.validate_python({key: value})
            except ValidationError as error:
                return any(each["loc"][:1] == (key,) for each in error.errors())
            return False

        numbers = (
            (key, each, field.default == float("inf"))
            for key, field in keys_of(kind).items()
            for each in schemas[key].get("anyOf", [schemas[key]])
            if each.get("type") in ("number", "integer")
        )
        for key, each, is_endless in numbers:
            met += 1
            for word, beyond in (("minimum", -1), ("maximum", 1)):
                strict = f"exclusive{word.capitalize()}"
                if word in each:
                    assert not is_refused(each[word], key), (kind, key)
                    assert is_refused(each[word] + beyond, key), (kind, key)
                assert strict not in each or is_refused(each[strict], key), (kind, key)
            for wrong in (True, "many", "1_0", float("nan")):
                assert is_refused(wrong, key), (kind, key, wrong)
            assert is_refused(float("inf"), key) != is_endless, (kind, key)
    assert met > 200


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
