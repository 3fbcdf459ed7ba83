"""Mutants of a file: each is one change of its syntax tree."""

import ast
import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple, TypeGuard

SWAPS = (  # an operator, and its replacements
    "Lt LtE GtE,LtE Lt Gt,Gt GtE LtE,GtE Gt Lt,Eq NotEq,NotEq Eq,Is IsNot,IsNot Is,In NotIn,"
    "NotIn In,Add Sub,Sub Add,Mult Div,Div Mult,FloorDiv Mult,Mod Mult,Pow Mult,BitAnd BitOr,"
    "BitOr BitAnd,And Or,Or And"
)
OTHERS = {words.split()[0]: words.split()[1:] for words in SWAPS.split(",")}
PAIRS = (("min", "max"), ("floor", "ceil"), ("minimum", "maximum"), ("any", "all"))
TWINS = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])}
TOLERANCE = 1e-5  # smaller numbers guard against rounding and stay
SILENT = (ast.Raise, ast.Import, ast.ImportFrom, ast.Assert, ast.JoinedStr)
WORDS = ("log", "progress", "cast", "TypeVar")  # calls whose arguments no test judges
GUARDS = ("dtype", "strict", "copy")  # keywords that change no result
TYPES = ("annotation", "returns", "decorator_list", "bases", "type_params")  # fields of a tree
FACTS = ast.Name | ast.Attribute | ast.Call | ast.Subscript  # conditions that are no comparison
NUMBERS = (ast.Constant, ast.Tuple, ast.UnaryOp, ast.BinOp, ast.operator, ast.unaryop, ast.Load)
DECORATORS = (
    "compiled",
    "jit_inline",
    "jit_inline_ir",
    "jit_fastmath",
    "jit_or_python",
)  # of foundation.compiled


class Mutant(NamedTuple):
    """A file with one change: the text of a function's statement before and after it."""

    file: str
    function: str
    before: str
    after: str  # these four are the key of equivalents, because lines move
    line: int
    code: CodeType


class Change(NamedTuple):
    """A replacement value of a field of the tree, with the changed statement around it."""

    function: str
    statement: ast.stmt
    changed: ast.AST
    line: int
    parent: ast.AST
    field: str
    value: Any


def mutants(root: Path, file: str, number: int, seed: int) -> list[Mutant]:
    """Return random mutants of a file, `number` of them, in the order of its lines."""
    tree = ast.parse((root / file).read_text())
    changes = list(_changes(tree, "", "", ast.Pass(lineno=0)))
    drawn = random.Random(f"{seed} {file}").sample(changes, min(number, len(changes)))
    return sorted((_mutant(tree, root, file, change) for change in drawn), key=lambda m: m.line)


def without_mutants(root: Path, file: str) -> list[str]:
    """Return the file if it has no mutants, and each of its compiled functions without any."""
    tree = ast.parse((root / file).read_text())
    changed = {change.function for change in _changes(tree, "", "", ast.Pass(lineno=0))}
    compiled = (node for node in ast.walk(tree) if _is_compiled(node))
    none = [f"{file} {function.name}" for function in compiled if function.name not in changed]
    return none if changed else [file, *none]


def keys(root: Path, file: str) -> set[tuple[str, str, str, str]]:
    """Return the keys of all possible mutants of a file."""
    tree = ast.parse((root / file).read_text())
    changes = _changes(tree, "", "", ast.Pass(lineno=0))
    return {(file, change.function, *_words(change)) for change in changes}


def _mutant(tree: ast.Module, root: Path, file: str, change: Change) -> Mutant:
    with _made(change):
        code = compile(ast.fix_missing_locations(tree), str(root / file), "exec")
    return Mutant(file, change.function, *_words(change), change.line, code)


def _words(change: Change) -> tuple[str, str]:
    before = ast.unparse(change.statement).splitlines()
    with _made(change):
        after = ast.unparse(change.changed).splitlines()
    pairs = [(a.strip(), b.strip()) for a, b in zip(before, after, strict=False)]
    return next((pair for pair in pairs if pair[0] != pair[1]), pairs[0])


@contextmanager
def _made(change: Change) -> Iterator[None]:
    """Apply a change to the tree within the context."""
    old = getattr(change.parent, change.field)
    setattr(change.parent, change.field, change.value)
    yield
    setattr(change.parent, change.field, old)


def _changes(node: ast.AST, function: str, answers: str, statement: ast.stmt) -> Iterator[Change]:
    """Yield every change below a node that a test could detect.

    answers: return type of the function.
    """
    for field, value in ast.iter_fields(node):
        if field in TYPES or (isinstance(node, ast.ClassDef) and field == "keywords"):
            continue
        for k, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, ast.AST) or _unseen(child, top=isinstance(node, ast.Module)):
                continue
            here = child if isinstance(child, ast.stmt) else statement
            line = getattr(child, "lineno", here.lineno)
            for new in _replacements(child, answers):
                ast.copy_location(new, child)
                other = [*value[:k], new, *value[k + 1 :]] if isinstance(value, list) else new
                changed = new if here is child and isinstance(new, ast.stmt) else here
                yield Change(function, here, changed, line, node, field, other)
            inner, returned = function, answers
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inner = ".".join(filter(None, (function, child.name)))
                returns: ast.expr | None = getattr(child, "returns", None)
                returned = ast.unparse(returns) if returns else ""
            inside = [*_changes(child, inner, returned, here)]
            yield from inside
            if not inside and _is_compiled(child):
                yield from _swapped(child, inner)


def _swapped(function: ast.FunctionDef, name: str) -> Iterator[Change]:
    """Yield the swap of the first two arguments that a function only passes on."""
    match function.body[-1]:
        case ast.Return(value=ast.Call(args=[first, second, *rest]) as call) as statement:
            other = _like(call, args=[second, first, *rest])
            changed = _like(statement, value=other)
            yield Change(name, statement, changed, statement.lineno, statement, "value", other)


def _is_compiled(node: ast.AST) -> TypeGuard[ast.FunctionDef]:
    words = getattr(node, "decorator_list", ())
    return isinstance(node, ast.FunctionDef) and bool({*map(ast.unparse, words)} & {*DECORATORS})


def _unseen(node: ast.AST, *, top: bool) -> bool:
    """Return whether no test can detect a change of a node.

    These are messages, types, non-numeric module names, and main blocks.
    """
    match node:
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
            return True
        case ast.Expr(value=ast.Constant()) | ast.FunctionDef(name="__repr__" | "__str__"):
            return True
        case ast.keyword(arg=str() as name):
            return name in GUARDS
        case ast.Expr(value=ast.Call() as call) | (ast.Call() as call):
            return ast.unparse(call.func).split(".")[0] in WORDS
        case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value) if top:
            return not all(isinstance(part, NUMBERS) for part in ast.walk(value))
    return isinstance(node, SILENT)


def _replacements(node: Any, answers: str) -> Iterator[ast.AST]:
    """Yield the replacements of a node."""
    match node:
        case ast.Compare(ops=ops):
            for k, op in enumerate(ops):
                yield from (_like(node, ops=[*ops[:k], o, *ops[k + 1 :]]) for o in _others(op))
        case ast.BinOp() | ast.AugAssign() | ast.BoolOp():
            yield from (_like(node, op=other) for other in _others(node.op))
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.Constant():
            yield from map(ast.Constant, _other_values(node.value))
        case ast.Call():
            yield from _other_calls(node)
        case ast.IfExp() | ast.If() | ast.While() if isinstance(node.test, FACTS):
            yield _like(node, test=ast.UnaryOp(ast.Not(), node.test))
    yield from _other_statements(node, answers)


def _other_statements(node: ast.AST, answers: str) -> Iterator[ast.AST]:
    """Yield another result of a return; nothing in place of a statement with a side effect."""
    match node:
        case ast.Return(value=ast.expr() as value) if answers == "bool":
            yield _like(node, value=ast.UnaryOp(ast.Not(), value))
        case ast.Return(value=ast.expr() as value) if answers in ("int", "float"):
            one = ast.Constant(1 if answers == "int" else 1.0)
            yield _like(node, value=ast.BinOp(value, ast.Add(), one))
        case ast.Assign(targets=targets):
            if all(isinstance(part, ast.Attribute | ast.Subscript) for part in targets):
                yield ast.Pass()
        case ast.AugAssign() | ast.Continue() | ast.Expr(value=ast.Call()):
            yield ast.Pass()


def _other_values(value: object) -> tuple[Any, ...]:
    if isinstance(value, bool):
        return (not value,)
    if isinstance(value, int):
        return (value + 1, value - 1) if value > 0 else (value + 1,)
    if isinstance(value, float) and not 0 < abs(value) < TOLERANCE:
        return (2 * value, value / 2) if value else (1.0,)
    return ()


def _other_calls(node: ast.Call) -> Iterator[ast.AST]:
    """Yield the opposite function, the bare argument, and the call without a keyword."""
    module, _, name = ast.unparse(node.func).rpartition(".")
    if name in TWINS and module in ("", "np"):
        yield _like(node, func=ast.parse(f"{module}.{TWINS[name]}".strip("."), mode="eval").body)
    elif name in {"": ("abs",), "np": ("abs", "rint", "sqrt", "log")}.get(module, ()):
        yield node.args[0]
    for k, keyword in enumerate(node.keywords):
        if keyword.arg and keyword.arg not in GUARDS:
            yield _like(node, keywords=node.keywords[:k] + node.keywords[k + 1 :])


def _others(op: ast.AST) -> Iterator[Any]:
    return (getattr(ast, name)() for name in OTHERS.get(type(op).__name__, ()))


def _like(node: ast.AST, **changes: Any) -> Any:
    other = copy.copy(node)
    vars(other).update(changes)
    return other
