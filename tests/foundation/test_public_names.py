"""Public names: each exported once, documented, loaded on first use, and with one meaning."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from foundation import PACKAGES

ROOT = Path(__file__).resolve().parents[2]
EXPORTING = [name for name in PACKAGES if hasattr(importlib.import_module(name), "__all__")]

# Words that had several meanings in this codebase, and the words that replaced them.
AMBIGUOUS = {
    "room": "headroom, tolerance, package, capacity, or bound of a constraint",
    "rooms": "bounds or capacities",
    "counted": "applied, included, or the name of what is counted",
    "again": "retry, second or resumed",
    "said": "message, reasons, remarks or details",
    "open": "unknown for an outcome, resting for an order, open_price, open_trades",
    "believe": "validate",
    "odd": "discrepancy",
    "look": "query or poll",
}
# An open price beside the builtin, a method that opens a stream.
SHADOWING = {"open_", "_open"}
# Names that stood for several objects, and the one file that defines each now.
UNIQUE = {
    "CLOSE": "trainingdata/bars.py",
    "ALL_SYMBOLS": "execution/decision/belief_building.py",
    "REL_TOL": "marketsimulator/results/drift/decisions.py",
}


def defined_names(tree: ast.Module) -> Iterator[str]:
    """Yield each name that a module defines: class, function, parameter, variable, attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


@cache
def names_by_file() -> dict[str, list[str]]:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert len(files) > 100
    return {
        str(path.relative_to(ROOT)): list(defined_names(ast.parse(path.read_text())))
        for path in files
    }


@pytest.mark.parametrize("name", EXPORTING)
def test_every_public_name_exists_and_is_documented(name: str) -> None:
    package = importlib.import_module(name)
    assert len(package.__all__) >= 5
    assert set(package.__all__) <= set(dir(package)), "completion offers them"
    for public in package.__all__:
        thing = getattr(package, public)
        assert thing.__name__ == public
        assert len(inspect.getdoc(thing) or "") > 20, public
        assert public in vars(package), "kept once it has been loaded"
    with pytest.raises(AttributeError, match=f"{name}.*no_such_name"):
        package.no_such_name  # noqa: B018


def test_no_public_name_is_an_ambiguous_word() -> None:
    found = {
        f"{path}: {name}": AMBIGUOUS[name.strip("_")]
        for path, names in names_by_file().items()
        for name in names
        if name.strip("_") in AMBIGUOUS and name not in SHADOWING
    }
    assert not found


def test_each_unique_constant_is_defined_once() -> None:
    places = defaultdict(list)
    for path, names in names_by_file().items():
        for name in set(names) & set(UNIQUE):
            places[name].append(path)
    assert places == {name: [path] for name, path in UNIQUE.items()}
