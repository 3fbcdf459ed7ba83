"""Entry points of this project and of any installed package.

    [project.entry-points."kelly_chronos.brokers"]
    mine = "my_package.broker:Connection"

products     packages whose `COMMANDS` are words of `kelly-chronos`, each with its `Command`, and
             whose `SETTINGS` are files of `configs`, each with its class, `module:Class`
jobs         words of `jobs=[…]` of the live loop: functions as `open_job`, each the context of a
             `ProductJob` (`execution/live/runner.py`), which brings its section of the page
brokers      words of `broker.name=…`: functions of settings and keys that return a
             `BrokerConnection` (`execution/brokers.py`); `BrokerContract` of `execution.testing`
             tests one
desks        classes as `OptionDesk`, for the practice Alpaca's instruments beside stocks and crypto
forecasters, strategies, correlations, ranks, fees
             words of `GROUP._target_=…` in place of `module.Name`

An entry point is imported when it is used. Those of this project are read from its pyproject.toml
in a source tree, whose metadata may be missing or old, without a search of installed packages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

PREFIX = "kelly_chronos."
_PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


@cache
def _own() -> Mapping[str, Mapping[str, str]]:
    """Return the entry points of a source tree, as text; none where the project is installed."""
    import tomllib

    if not _PROJECT.is_file():
        return {}
    groups: Mapping[str, Mapping[str, str]] = tomllib.loads(_PROJECT.read_text(encoding="utf-8"))[
        "project"
    ]["entry-points"]
    return groups


@cache
def _installed(kind: str) -> Mapping[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=PREFIX + kind)}


def offered(kind: str) -> list[str]:
    """Return the names of a kind, the project's first."""
    return list(dict.fromkeys([*_own().get(PREFIX + kind, ()), *_installed(kind)]))


def place_of(kind: str, name: str) -> str | None:
    """Return the `module:attribute` of a name of a kind; None for an unknown name."""
    if (own := _own().get(PREFIX + kind, {}).get(name)) is not None:
        return own
    point = _installed(kind).get(name)
    return None if point is None else point.value


def loaded(kind: str, name: str) -> Any:
    """Import and return the object of a name of a kind."""
    from importlib import import_module

    module, _, attribute = (place_of(kind, name) or "").partition(":")
    value: Any = import_module(module)
    return getattr(value, attribute) if attribute else value


def product_tables(table: str) -> Iterator[Mapping[str, Any]]:
    """Yield the `COMMANDS` or `SETTINGS` of every product, those of the project first.

    Installed packages are searched only after the project's own products.
    """
    for name in _own().get(f"{PREFIX}products", ()):
        yield getattr(loaded("products", name), table, {})
    for name in _installed("products"):
        if name not in _own().get(f"{PREFIX}products", ()):
            yield getattr(loaded("products", name), table, {})


def find(table: str, word: str) -> Any:
    """Return the entry of a word in a table of any product; None if there is none."""
    return next((each[word] for each in product_tables(table) if word in each), None)


def registered(table: str) -> dict[str, Any]:
    """Return a table merged over all products."""
    return {word: value for each in product_tables(table) for word, value in each.items()}
