"""A room's public names, each loaded from its module when it is first used."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def public(room: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """The lazy `__getattr__`, the `__dir__` and the `__all__` of a package.

    The names are those that it imports from its own modules, where type checkers alone look.
    """
    package = sys.modules[room]
    assert package.__file__ is not None
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    homes = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{room}.")
        for alias in node.names
    }

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(homes[name] or ""), name)
        setattr(package, name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(package), *homes})

    return load, names, sorted(homes)
