"""What modules of the project execute, as one digest: the name of what is made from them.

Docstrings, comments and the places of lines are not executed, and are no part of it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import py_compile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import CodeType
from typing import cast

ROOMS = (
    "foundation",
    "trainingdata",
    "forecasting",
    "sizing",
    "execution",
    "marketsimulator",
    "option_spreads",
    "event_contracts",
)
HOUSE = Path(__file__).resolve().parent.parent
_CHECKED_HASH = (3).to_bytes(4, "little")


@cache
def digest_of(module: str, house: Path = HOUSE) -> str:
    """SHA-256 of what a module and the modules of the house that it imports execute.

    module: dotted name below `house`, the folder that has the rooms.
    """
    digest = hashlib.sha256()
    for name in sorted(imported_with(module, house)):
        digest.update(f"{name}\n".encode())
        digest.update(_own_digest(name, house))
    return digest.hexdigest()


@cache
def _own_digest(module: str, house: Path) -> bytes:
    digest = hashlib.sha256()
    for code in _codes(_code_of(module, house)):
        digest.update(repr(_executed(code)).encode())
    return digest.digest()


def is_of_the_house(module: str, house: Path = HOUSE) -> bool:
    return module in _files(house)


def imported_with(module: str, house: Path = HOUSE) -> set[str]:
    """A module and every module of the house that it imports, directly or not."""
    found: set[str] = set()
    waiting = {module}
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= _imports(name, house) - found
    return found


@cache
def _imports(module: str, house: Path) -> set[str]:
    """The modules that a module names: in imports, and in a package's tables."""
    files = _files(house)
    named = set()
    for code in _codes(_code_of(module, house)):
        words = {*code.co_names, *(each for each in code.co_consts if isinstance(each, str))}
        modules = words & files.keys()
        members = {f"{one}.{word}" for one in modules for word in code.co_names}
        named |= modules | (members & files.keys())
    return named


@cache
def _files(house: Path) -> dict[str, Path]:
    """The file of every module of the rooms, by its dotted name."""
    files = {}
    for room in ROOMS:
        for path in (house / room).rglob("*.py"):
            parts = path.relative_to(house).with_suffix("").parts
            files[".".join(parts).removesuffix(".__init__")] = path
    return files


@cache
def _code_of(module: str, house: Path) -> CodeType:
    """A module's code without docstrings, kept where Python keeps it, beside a hash of its source.

    See PEP 552 for the head of such a file.
    """
    path = _files(house)[module]
    source = path.read_bytes()
    head = importlib.util.MAGIC_NUMBER + _CHECKED_HASH + importlib.util.source_hash(source)
    kept = Path(importlib.util.cache_from_source(str(path), optimization=2))
    with suppress(OSError):
        data = kept.read_bytes()
        if data.startswith(head):
            return cast(CodeType, marshal.loads(data[len(head) :]))
    with suppress(OSError):
        py_compile.compile(
            str(path),
            optimize=2,
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH,
        )
    return compile(source, str(path), "exec", dont_inherit=True, optimize=2)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A piece of code and all that stand in it: functions, classes, comprehensions."""
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


def _executed(code: CodeType) -> tuple[object, ...]:
    """What a piece of code does, its own pieces left out."""
    constants = [each for each in code.co_consts if not isinstance(each, CodeType)]
    return (
        code.co_qualname,
        code.co_code,
        # A set's order is another one in every process.
        [sorted(map(repr, each)) if isinstance(each, frozenset) else each for each in constants],
        *(code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars),
        *(code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags),
    )
