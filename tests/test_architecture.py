"""What ARCHITECTURE says of the code, held to the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from foundation import PACKAGES

ROOT = Path(__file__).resolve().parents[1]
OF_AN_ACCOUNT = {"cash", "equity", "positions"}
MOST_REPRESENTATIONS = 8  # between a bar and an order


def rows_under(heading: str) -> list[tuple[str, str]]:
    """Class and file of each row of the table whose first heading this is."""
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = text[text.index(f"| {heading} |") :].split("\n\n")[0]
    rows = [re.findall(r"`([^`]+)`", line) for line in table.splitlines()[2:]]
    return [(names[0], names[-1]) for names in rows]


def classes() -> Iterator[tuple[str, ast.ClassDef]]:
    """Every class of the product, with its file."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    yield path.relative_to(ROOT).as_posix(), node


def members(node: ast.ClassDef) -> set[str]:
    """Fields, properties, and whatever `__init__` sets, without leading underscores."""
    names = set()
    for each in node.body:
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            names.add(each.target.id)
        elif isinstance(each, ast.FunctionDef) and each.name == "__init__":
            attributes = [part for part in ast.walk(each) if isinstance(part, ast.Attribute)]
            names |= {part.attr for part in attributes if isinstance(part.ctx, ast.Store)}
        elif isinstance(each, ast.FunctionDef):
            decorators = {part.id for part in each.decorator_list if isinstance(part, ast.Name)}
            names |= {each.name} if decorators & {"property", "cached_property"} else set()
    return {name.lstrip("_") for name in names}


def test_architecture_document_lists_every_account_class() -> None:
    found = {
        (node.name, path) for path, node in classes() if len(members(node) & OF_AN_ACCOUNT) >= 2
    }
    assert found == set(rows_under("class"))


def test_architecture_lists_few_classes_between_bar_and_order() -> None:
    listed = rows_under("representation")
    assert len(listed) <= MOST_REPRESENTATIONS
    assert set(listed) <= {(node.name, path) for path, node in classes()}
