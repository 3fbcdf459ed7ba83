"""What rooms register: tables of words and modules, in a room's own `__init__`.

A room that offers a place for what comes from others asks here who has registered for it:

COMMANDS   words of `kelly-chronos`; the module runs as `python -m`
JOBS       words of `jobs=[…]` of the live loop; the module has `open_job`
FEES       words of `fees=…` beside those of stocks and coins; the module has `SCHEDULE`
DESKS      what the practice Alpaca trades beside stocks and coins; the module has
           `PracticeSettings` and `OptionDesk`

Nothing that is registered is imported before somebody asks for it.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from foundation.executed import ROOMS


def registered(kind: str) -> dict[str, str]:
    """Names of the modules that rooms register as one kind, by their words."""
    tables = [getattr(import_module(room), kind, {}) for room in ROOMS]
    return {word: module for table in tables for word, module in table.items()}


def registered_module(kind: str, word: str) -> ModuleType:
    """The module that a room registers as one kind under a word."""
    return import_module(registered(kind)[word])
