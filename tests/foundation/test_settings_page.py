"""A table of settings says of every field its default, what else it takes and its meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from docs.settings_page import HEAD, classes_of, plain_schemas, plain_value, table_of
from foundation.settings import about, setting, settings_class


@settings_class()
class Inner:
    """A group."""

    name: Annotated[str, about("needed")]
    share: float | None = setting(None, "of a dollar", gt=0, le=1)


@settings_class()
class Outer:
    """Settings."""

    inner: Inner = setting(Inner("a"), "a group")
    rows: tuple[Inner, ...] = setting((), "several")
    style: Literal["one", "two"] = setting("one", "a word | or another")
    pairs: tuple[tuple[int, float], ...] = setting(((1, 0.5),), "both")
    moves: Mapping[str, float] = setting({}, "by symbol")
    count: int = setting(3, "of them", ge=1)
    on: bool = setting(True, "whether")
    edges: float | None = setting(1, "both", gt=0, lt=2)
    kinds: tuple[Literal["a", "b"], ...] = setting((), "some")
    note: str | None = setting(None, "a text")
    way: Literal["left", "right"] | Annotated[int, Field(le=-1)] | None = setting(None, "where")


def test_every_field_has_a_row_and_every_class_is_there_once() -> None:
    assert classes_of(Outer) == {"Outer": Outer, "Inner": Inner}
    assert table_of(Outer).splitlines() == [
        *HEAD.splitlines(),
        "`inner` | [Inner](#inner) | a group",
        "`rows` | `[]` of [Inner](#inner) | several",
        "`style` | `one`, `two` | a word \\| or another",
        "`pairs` | `[[1, 0.5]]` | both",
        "`moves` | `{}` | by symbol",
        "`count` | `3` ≥1 | of them",
        "`on` | `true` | whether",
        "`edges` | `1.0` >0…<2, `null` | both",
        "`kinds` | `[]` of `a`, `b` | some",
        "`note` | `null` | a text",
        "`way` | `null`, `left`, `right`, whole ≤-1 | where",
    ]
    assert table_of(Inner).splitlines()[2:] == [
        "`name` | needed: text | needed",
        "`share` | `null`, >0…1 | of a dollar",
    ]


def test_a_default_is_plain_and_of_settings_what_differs_from_their_class() -> None:
    schemas = plain_schemas(Outer)
    assert schemas["inner"] == {"$ref": "Inner", "description": "a group", "default": {"name": "a"}}
    assert schemas["pairs"]["default"] == [[1, 0.5]]
    assert plain_schemas(Inner) == {
        "name": {"type": "string", "description": "needed"},
        "share": {
            "anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": 1}, {"type": "null"}],
            "description": "of a dollar",
            "default": None,
        },
    }
    assert plain_value((Inner("a"), Inner("b", 0.5))) == [
        {"name": "a"},
        {"name": "b", "share": 0.5},
    ]
