"""Common base of all packages: errors, settings, command lines, files, compiled functions.

It has no market logic.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

VERSION = "0.9.0"  # CHANGELOG.md says when it becomes 1.0.0
# In the order of the layers, the lowest first; see pyproject.toml.
PACKAGES = (
    "foundation",
    "trainingdata",
    "forecasting",
    "sizing",
    "execution",
    "marketsimulator",
    "option_spreads",
    "event_contracts",
    "practice",
)


def lazy_exports(name: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` for a package that imports its names lazily.

    The exported names are the names that the package imports under `TYPE_CHECKING`.

    name: dotted name of the package.
    """
    package = sys.modules[name]
    assert package.__file__ is not None
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    homes = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{name}.")
        for alias in node.names
    }

    def load(attribute: str) -> Any:
        if attribute not in homes:
            raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
        value = getattr(importlib.import_module(homes[attribute] or ""), attribute)
        setattr(package, attribute, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(package), *homes})

    return load, names, sorted(homes)
