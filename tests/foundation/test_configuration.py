"""Checked settings: what no class describes is refused wherever it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from omegaconf import OmegaConf

from foundation.compose import composed_config
from foundation.configuration import check_values, settings_of
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
    ("values", "place"),
    [
        ({"one": {"shar": 1}}, "one"),
        ({"maybe": {"shar": 1}}, "maybe"),
        ({"listed": [{"share": 0}, {"shar": 1}]}, "listed.1"),
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
        ({"listed": [{"rates": [float("nan")]}]}, "listed.0.rates.0: nan is no finite number"),
        ({"one": {"share": 1}}, "one.share: 1 is not below 1"),
        ({"one": {"share": -0.5}}, "one.share: -0.5 is below 0"),
        ({"one": {"share": "inf"}}, "one.share: 'inf' is no finite number"),
        ({"one": {"name": None}}, "one.name: null is no word, and one is needed"),
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
    with pytest.raises(InputError, match=r"^group\.shar: there is no such setting; did you mean"):
        Grouped(shar=1)  # type: ignore[call-arg]
    assert "key" not in repr(Grouped())


def test_the_folder_of_a_user_who_is_none_is_refused_wherever_it_stands() -> None:
    config = composed_config("backtest", ["data.dir=[a,~/b]"])
    check_values("backtest", config)
    beside = OmegaConf.merge(config, {"data": {"dir": ["a", "~nobody_at_all/b"]}})
    says = r"^data\.dir\.1: ~nobody_at_all/b: there is no user nobody_at_all$"
    with pytest.raises(InputError, match=says):
        check_values("backtest", beside)
