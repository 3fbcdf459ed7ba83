"""One name, one meaning: names that once had several meanings are gone and stay out."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from foundation import PACKAGES

ROOT = Path(__file__).resolve().parents[1]
# Each had several meanings in the project, or none without reading the code.
AMBIGUOUS = {
    "room", "rooms_of", "counted", "again", "CLOSE", "open", "beside", "told", "noted",
    "answered", "reckoned", "come_to", "loose", "whys", "GROUND", "COUNTED", "ODD", "EVERYTHING",
    "NO_LIMITS", "MOST", "NEAR", "FAR", "SAME", "KEPT", "SHOWN", "TENTH", "TWICE", "silent",
    "undivided", "side_by_side", "none_of", "is_own", "believe", "believed", "BarBelief",
    "MarkBelief", "Unbelieved", "Said", "Asked", "Door", "Owned", "Look", "way", "house", "wire",
}  # fmt: skip


def defined(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield each function, class, parameter, field and constant of a module, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from ((one.arg, one.lineno) for one in (*node.args.args, *node.args.kwonlyargs))
        if isinstance(node, ast.ClassDef | ast.Module):
            for each in node.body:
                targets = each.targets if isinstance(each, ast.Assign) else []
                if isinstance(each, ast.AnnAssign):
                    targets = [each.target]
                yield from ((one.id, one.lineno) for one in targets if isinstance(one, ast.Name))


@pytest.mark.parametrize("package", PACKAGES)
def test_source_defines_no_ambiguous_names(package: str) -> None:
    paths = sorted((ROOT / package).rglob("*.py"))
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in paths
        for name, line in defined(ast.parse(path.read_text(encoding="utf-8")))
        if name in AMBIGUOUS
    ]
    assert paths
    assert found == []
