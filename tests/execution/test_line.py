"""The line from a reading to an order goes one way: nothing of execution is handed a callable."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
CONTRACT = ROOT / "execution" / "testing.py"  # tests of a broker, which move its venue's clock
SOURCES = sorted({*(ROOT / "execution").rglob("*.py")} - {CONTRACT})

CALLS = re.compile(r"\b(Callable|FunctionType|MethodType|partial)\b")


@cache
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in SOURCES}


@cache
def callables_of_execution() -> set[str]:
    return callable_names([*trees().values()])


def callable_names(parsed: list[ast.Module]) -> set[str]:
    """Names of types that can be called: aliases of Callable, and classes with `__call__`."""
    names: set[str] = set()
    while True:
        found = {name for tree in parsed for name in _callable_names(tree, names)}
        if found == names:
            return names
        names = found


def _callable_names(tree: ast.Module, known: set[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            methods = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
            bases = {ast.unparse(base).partition("[")[0] for base in node.bases}
            if "__call__" in methods or bases & known:
                yield node.name
        elif isinstance(node, ast.Assign) and _is_type(node.value) and _calls(node.value, known):
            yield from (each.id for each in node.targets if isinstance(each, ast.Name))
        elif (
            isinstance(node, ast.AnnAssign)
            and ast.unparse(node.annotation) == "TypeAlias"
            and node.value is not None
            and _calls(node.value, known)
        ):
            yield ast.unparse(node.target)


def _is_type(value: ast.expr) -> bool:
    """Whether an assigned value is a type expression: a name, or one with parameters."""
    return isinstance(value, ast.Name | ast.Attribute | ast.Subscript | ast.BinOp)


def _calls(annotation: ast.expr, known: set[str]) -> bool:
    text = re.sub(r"Literal\[[^]]*\]", "", ast.unparse(annotation))  # words, not types
    return bool(CALLS.search(text)) or bool(set(re.findall(r"\w+", text)) & known)


def handed(tree: ast.Module, known: set[str]) -> Iterator[tuple[str, str]]:
    """Constructor parameters and fields, by class, that are annotated as something to call."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        for each in node.body:
            if isinstance(each, ast.FunctionDef) and each.name in ("__init__", "__new__"):
                parameters = (*each.args.posonlyargs, *each.args.args, *each.args.kwonlyargs)
                for one in parameters:
                    if one.annotation is not None and _calls(one.annotation, known):
                        yield node.name, one.arg
                for inner in ast.walk(each):
                    if isinstance(inner, ast.AnnAssign) and _calls(inner.annotation, known):
                        yield node.name, ast.unparse(inner.target)
            elif isinstance(each, ast.AnnAssign) and _calls(each.annotation, known):
                yield node.name, ast.unparse(each.target)


@pytest.mark.parametrize(
    "source",
    [
        "class A:\n def __init__(self, ask: Callable[[], int] | None = None): ...",
        "Ask = Callable[[], int]\nclass A:\n def __init__(self, *, ask: Ask): ...",
        "Ask = Callable[[], int]\nMore = Ask | None\nclass A:\n asks: list[More]",
        "class Ask:\n def __call__(self): ...\nclass A:\n def __init__(self, ask: Ask): ...",
        "class Ask:\n def __call__(self): ...\nclass B(Ask): ...\nclass A:\n ask: B",
        "class A:\n def __init__(self):\n  self.asks: list[Callable[[], int]] = []",
    ],
)  # fmt: skip
def test_callable_parameters_are_detected_in_every_form(source: str) -> None:
    tree = ast.parse(source)
    assert [name for name, _ in handed(tree, callable_names([tree]))] == ["A"]


def test_no_execution_class_takes_a_callable() -> None:
    known = callables_of_execution()
    found = {each for tree in trees().values() for each in handed(tree, known)}
    assert found == set()


def imported(path: Path) -> set[str]:
    return {
        node.module
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module
    }


def test_broker_and_reconciler_do_not_import_each_other() -> None:
    for path in (ROOT / "execution" / "alpaca").glob("*.py"):
        assert not {name for name in imported(path) if name.startswith("execution.live")}, path
    reconciler = imported(ROOT / "execution" / "live" / "reconciler.py")
    wire = ("execution.alpaca", "execution.live.account", "execution.live.guarded_broker")
    assert not {name for name in reconciler if name.startswith(wire)}


LINE = ("account", "cycle", "expected_positions", "exposure", "guarded_broker", "guards",
        "overnight", "reconciler", "resumption", "trading", "validation")  # fmt: skip


@pytest.mark.parametrize("name", LINE)
def test_functions_of_the_live_cycle_take_no_callables(name: str) -> None:
    tree = ast.parse((ROOT / "execution" / "live" / f"{name}.py").read_text())
    known = callables_of_execution()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for one in (*node.args.args, *node.args.kwonlyargs):
                assert one.annotation is None or not _calls(one.annotation, known), node.name
