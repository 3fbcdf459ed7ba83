"""What rooms register: tables of words, in a room's own `__init__`.

A room that offers a place for what comes from others asks here who has registered for it:

COMMANDS   words of `kelly-chronos`, and the `Command` of each
SETTINGS   files of `configs`, and the settings class of each, `module:Class`
JOBS       words of `jobs=[…]` of the live loop; the module has `open_job`, the context of
           a `ProductJob` (`execution/live/runner.py`), which brings its section of the page
BROKERS    words of `broker.name=…`; the module has `ACCOUNT`, which settings and keys make a
           `BrokerAccount` of (`execution/brokers.py`)
DESKS      what the practice Alpaca trades beside stocks and coins; the module has
           `PracticeSettings` and `OptionDesk`

Nothing that is registered is imported before somebody asks for it.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from foundation import PACKAGES


def registered(kind: str) -> dict[str, Any]:
    """What rooms register as one kind, by its words: names of modules, or commands."""
    tables = [getattr(import_module(room), kind, {}) for room in PACKAGES]
    return {word: module for table in tables for word, module in table.items()}


def registered_module(kind: str, word: str) -> ModuleType:
    return import_module(registered(kind)[word])
