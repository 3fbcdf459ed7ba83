"""Functions compiled to machine code by numba, kept on disk between processes.

numba drops a function from its cache when the function's own file changes, not when a function or a
number that it takes from another file does. So what is kept lies under the digest of all that the
function's module and the modules that it imports execute: no stale arithmetic is ever run, and
another docstring compiles its own file again at most. Docstrings, comments and the places of lines
are no part of the digest. Functions outside the project are not kept.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import marshal
import os
import py_compile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core import config, event
from numba.extending import intrinsic, overload, register_jitable
from platformdirs import user_cache_path

from foundation import PACKAGES
from foundation.arrays import Index

log = logging.getLogger(__name__)

PROJECT = Path(__file__).resolve().parent.parent
_CHECKED_HASH = (3).to_bytes(4, "little")


@cache
def digest_of(module: str, project: Path = PROJECT) -> str:
    """Return the SHA-256 of the code of a module and of the project's modules that it imports.

    module: dotted name below `project`, the folder that has the packages.
    """
    digest = hashlib.sha256()
    for name in sorted(imported_with(module, project)):
        digest.update(f"{name}\n".encode())
        digest.update(_own_digest(name, project))
    return digest.hexdigest()


@cache
def _own_digest(module: str, project: Path) -> bytes:
    digest = hashlib.sha256()
    for code in _codes(_code_of(module, project)):
        digest.update(repr(_executed(code)).encode())
    return digest.digest()


def is_project_module(module: str, project: Path = PROJECT) -> bool:
    return module in _files(project)


def imported_with(module: str, project: Path = PROJECT) -> set[str]:
    """Return a module and every module of the project that it imports, directly or not."""
    found: set[str] = set()
    waiting = {module}
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= _imports(name, project) - found
    return found


@cache
def _imports(module: str, project: Path) -> set[str]:
    """Return the modules that a module names, in imports and in a package's tables."""
    files = _files(project)
    named = set()
    for code in _codes(_code_of(module, project)):
        words = {*code.co_names, *(each for each in code.co_consts if isinstance(each, str))}
        modules = words & files.keys()
        members = {f"{one}.{word}" for one in modules for word in code.co_names}
        named |= modules | (members & files.keys())
    return named


@cache
def _files(project: Path) -> dict[str, Path]:
    """The file of every module of the packages, by its dotted name."""
    files = {}
    for package in PACKAGES:
        for path in (project / package).rglob("*.py"):
            parts = path.relative_to(project).with_suffix("").parts
            files[".".join(parts).removesuffix(".__init__")] = path
    return files


@cache
def _code_of(module: str, project: Path) -> CodeType:
    """A module's code without docstrings, kept where Python keeps it, beside a hash of its source.

    See PEP 552 for the head of such a file.
    """
    path = _files(project)[module]
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
    """Return what a piece of code executes, without the pieces nested in it."""
    constants = [each for each in code.co_consts if not isinstance(each, CodeType)]
    return (
        code.co_qualname,
        code.co_code,
        # A set's order is another one in every process.
        [sorted(map(repr, each)) if isinstance(each, frozenset) else each for each in constants],
        *(code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars),
        *(code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags),
    )


Function = TypeVar("Function", bound=Callable[..., object])
AnyArray = TypeVar("AnyArray", bound=np.ndarray[Any, Any])


def compiled(function: Function) -> Function:
    """The function as machine code, compiled when it is first called and read from disk after that.

    Divisions by zero give inf or nan, as numpy's do. Only arrays, numbers and named tuples of them
    go in and out.
    """
    return _with_cache(function)


def inlined(function: Function) -> Function:
    """The function compiled into its callers, for what a loop calls at every step.

    A call then costs nothing; otherwise the references to every array among the arguments are
    counted in and out. The caller takes longer to compile.
    """
    return _with_cache(function, forceinline=True)


def merged(function: Function) -> Function:
    """The function written into its caller before that is compiled, for a part with one caller.

    It is compiled once. What is `inlined` is compiled alone as well, and its arguments are made
    ready for a call from Python that never comes. What many places call takes longer this way.
    """
    return _with_cache(function, inline="always")


def shared(function: Function) -> Function:
    """The function as Python has it, which compiled code takes in as `inlined` does.

    For a rule that both ask: compiled code with 64 bits, Python with numbers that are exact however
    large.
    """
    return register_jitable(forceinline=True)(function)


def reordered(function: Function) -> Function:
    """The function as machine code, with sums in whatever order is fastest.

    The last bits of its results depend on the processor.
    """
    return _with_cache(function, fastmath={"reassoc"})


def _with_cache(function: Function, **options: Any) -> Function:
    # numba takes the folder of its cache from its settings, when the function is decorated.
    settings: Any = config
    before = settings.CACHE_DIR
    kept = is_project_module(function.__module__)
    try:
        if kept:
            settings.CACHE_DIR = str(_cache_folder() / digest_of(function.__module__)[:16])
        # Calls from C come never; to be ready for them takes a twentieth of the compiling.
        options |= {"cache": kept, "nogil": True, "no_cfunc_wrapper": True}
        decorate = numba.njit(error_model="numpy", **options)
        return cast(Function, decorate(function))
    finally:
        settings.CACHE_DIR = before


class _CompilationLog(event.Listener):
    """Names every function that is compiled: the first ones of an installation take a minute."""

    def on_start(self, event: event.Event) -> None:
        log.info("compiling %s", event.data["dispatcher"].py_func.__qualname__)

    def on_end(self, event: event.Event) -> None:
        """Nothing: the next function's line says so."""


_events: Any = event
_events.register("numba:compile", _CompilationLog())


@cache
def _cache_folder() -> Path:
    """Return the cache beside this file, or the user's if that cannot be written."""
    folder = Path(__file__).resolve().parent
    beside = folder / "__pycache__"
    if os.access(beside if beside.exists() else folder, os.W_OK | os.X_OK):
        return beside / "compiled"
    return user_cache_path("kelly-chronos") / "compiled"


@inlined
def copy_row(into: AnyArray, values: AnyArray) -> None:
    """Write values [n] into an array of their length.

    numba's own assignment of a slice brings twenty functions along, for the words of an error.
    """
    for k in range(len(values)):
        into[k] = values[k]


@inlined
def picked(values: AnyArray, chosen: Index) -> AnyArray:
    """Values [n] of those chosen [m], by number; the array itself where that is all of them."""
    if len(chosen) == len(values):
        return values
    part: AnyArray = np.empty(len(chosen), dtype=values.dtype)  # type: ignore[assignment]
    for a in range(len(chosen)):
        part[a] = values[chosen[a]]
    return part


@inlined
def picked_columns(values: AnyArray, chosen: Index) -> AnyArray:
    """`picked` for every row of values [K, n]."""
    if len(chosen) == values.shape[1]:
        return values
    part: AnyArray = np.empty((len(values), len(chosen)), dtype=values.dtype)  # type: ignore[assignment]
    for k in range(len(values)):
        for a in range(len(chosen)):
            part[k, a] = values[k, chosen[a]]
    return part


@inlined
def spread(into: AnyArray, chosen: Index, values: AnyArray) -> None:
    for a in range(len(chosen)):
        into[chosen[a]] = values[a]


def unowned(array: AnyArray) -> AnyArray:
    """The array without a count of its references, in compiled code.

    For an argument of a compiled function that passes it on at every step of a loop: counting who
    holds it, in and out of every call, is a fifth of a loop of small steps. It must not outlive the
    argument.
    """
    return array


def _without_owner(typing: Any, array: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, value=arguments[0])
        view.meminfo, view.parent = view.meminfo.type(None), view.parent.type(None)
        return view._getvalue()

    return array(array), code


_uncounted: Any = intrinsic(_without_owner)


@overload(unowned)
def _unowned(array: Any) -> Any:
    def same(array: Any) -> Any:
        return _uncounted(array)

    return same
