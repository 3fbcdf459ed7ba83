"""The small faults that a file could have: each is one change of its tree."""

from __future__ import annotations

import ast
import copy
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

COMPARISONS: Mapping[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATORS: Mapping[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
PAIRS = (("min", "max"), ("floor", "ceil"), ("minimum", "maximum"), ("any", "all"))
TWINS = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])}
ONE_MORE = {"int": 1, "float": 1.0}
TOLERANCE = 1e-5  # numbers below it guard against rounding: they stay

SILENT = (ast.Raise, ast.Import, ast.ImportFrom, ast.Assert, ast.JoinedStr)
WORDS = ("log", "progress", "cast", "TypeVar")  # calls whose arguments no test judges
GUARDS = ("dtype", "strict", "copy")  # keywords that change no answer
TYPES = ("annotation", "returns", "decorator_list", "bases", "type_params")  # fields of a tree
FACTS = (ast.Name, ast.Attribute, ast.Call, ast.Subscript)  # conditions that are no comparison
NUMBERS = (ast.Constant, ast.Tuple, ast.UnaryOp, ast.BinOp, ast.operator, ast.unaryop, ast.Load)


class Change(NamedTuple):
    """`parent.field[index]` becomes `new`, in a function and a statement; index None: the field
    itself.
    """

    function: str
    statement: ast.stmt
    parent: ast.AST
    field: str
    index: int | None
    new: ast.AST

    def make(self) -> ast.AST:
        """Changes the tree; what stood there before."""
        there = getattr(self.parent, self.field)
        if self.index is None:
            setattr(self.parent, self.field, self.new)
            return there
        old = there[self.index]
        there[self.index] = self.new
        return old


class Mutant(NamedTuple):
    """A file with one change: what a statement of a function said before, and what it says now."""

    file: str
    line: int
    function: str
    before: str
    after: str
    code: CodeType

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What the list of equivalents knows it by: lines move."""
        return self.file, self.function, self.before, self.after


def mutants(root: Path, file: str, number: int, seed: int) -> list[Mutant]:
    """So many mutants of a file, drawn at random, in the order of its lines."""
    tree = ast.parse((root / file).read_text())
    changes = list(_changes(tree, "", "", ast.Pass()))
    drawn = random.Random(f"{seed} {file}").sample(changes, min(number, len(changes)))
    return sorted(
        (_mutant(tree, root, file, change) for change in drawn), key=lambda mutant: mutant.line
    )


def _mutant(tree: ast.Module, root: Path, file: str, change: Change) -> Mutant:
    before = ast.unparse(change.statement).splitlines()
    old = change.make()
    whole = (
        change.new
        if isinstance(change.new, ast.stmt) and old is change.statement
        else change.statement
    )
    after = ast.unparse(whole).splitlines()
    code = compile(ast.fix_missing_locations(tree), str(root / file), "exec")
    change._replace(new=old).make()
    pairs = zip(before, after, strict=False)
    at = next((k for k, (one, other) in enumerate(pairs) if one != other), 0)
    line = getattr(old, "lineno", change.statement.lineno)
    return Mutant(file, line, change.function, before[at].strip(), after[at].strip(), code)


def _changes(node: ast.AST, function: str, answers: str, statement: ast.stmt) -> Iterator[Change]:
    """Every change below a node whose effect a test could see. answers: the type that the
    function returns.
    """
    for field, value in ast.iter_fields(node):
        if field in TYPES or (isinstance(node, ast.ClassDef) and field == "keywords"):
            continue
        for k, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, ast.AST) or _unseen(child, top=isinstance(node, ast.Module)):
                continue
            within = child if isinstance(child, ast.stmt) else statement
            index = k if isinstance(value, list) else None
            for new in _replacements(child, answers):
                yield Change(function, within, node, field, index, ast.copy_location(new, child))
            inner = function
            returned = answers
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                inner = ".".join(filter(None, (function, child.name)))
                returned = ast.unparse(child.returns) if getattr(child, "returns", None) else ""
            yield from _changes(child, inner, returned, within)


def _unseen(node: ast.AST, *, top: bool) -> bool:
    """Words for people, types, and names of a module; not its numbers.

    What runs in a process of its own.
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


def _replacements(node: ast.AST, answers: str) -> Iterator[ast.AST]:
    """What may stand in a node's place."""
    match node:
        case ast.Compare(ops=ops):
            for k, op in enumerate(ops):
                yield from (
                    _like(node, ops=[*ops[:k], other(), *ops[k + 1 :]])
                    for other in COMPARISONS[type(op)]
                )
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in OPERATORS:
            yield _like(node, op=OPERATORS[type(op)]())
        case ast.BoolOp(op=op):
            yield _like(node, op=ast.Or() if isinstance(op, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.Constant(value=value):
            yield from map(ast.Constant, _other_values(value))
        case ast.Call():
            yield from _other_calls(node)
        case ast.IfExp(test=test) | ast.If(test=test) | ast.While(test=test) if isinstance(
            test, FACTS
        ):
            yield _like(node, test=ast.UnaryOp(ast.Not(), test))
    yield from _other_statements(node, answers)


def _other_statements(node: ast.AST, answers: str) -> Iterator[ast.AST]:
    """Another answer; nothing, where a statement writes to an object or is there for its effect."""
    match node:
        case ast.Return(value=ast.expr() as value) if answers == "bool":
            yield _like(node, value=ast.UnaryOp(ast.Not(), value))
        case ast.Return(value=ast.expr() as value) if answers in ONE_MORE:
            yield _like(node, value=ast.BinOp(value, ast.Add(), ast.Constant(ONE_MORE[answers])))
        case ast.Assign(targets=targets) if all(
            isinstance(part, (ast.Attribute, ast.Subscript)) for part in targets
        ):
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
    """The opposite function; the argument without its function; the call without one of its
    keywords.
    """
    match node.func:
        case ast.Name(id=name) if name in TWINS:
            yield _like(node, func=ast.Name(TWINS[name], ast.Load()))
        case ast.Attribute(value=ast.Name(id="np"), attr=name) if name in TWINS:
            yield _like(node, func=_like(node.func, attr=TWINS[name]))
        case (
            ast.Name(id="abs")
            | ast.Attribute(value=ast.Name(id="np"), attr="abs" | "rint" | "sqrt" | "log")
        ):
            yield node.args[0]
    for k, keyword in enumerate(node.keywords):
        if keyword.arg and keyword.arg not in GUARDS:
            yield _like(node, keywords=node.keywords[:k] + node.keywords[k + 1 :])


def _like(node: ast.AST, **changes: Any) -> Any:
    other = copy.copy(node)
    for field, value in changes.items():
        setattr(other, field, value)
    return other
