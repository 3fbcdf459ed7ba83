"""Functions compiled to machine code by numba, kept on disk between processes.

numba drops a function from its cache when the function's own file changes, not when a function or a
number that it takes from another file does. So what is kept lies under the digest of all that the
function's module and the modules that it imports execute: no stale arithmetic is ever run, and
another docstring compiles its own file again at most. Functions outside the house are not kept.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core import config, event
from numba.extending import intrinsic, overload, register_jitable
from platformdirs import user_cache_path

from foundation.arrays import Index
from foundation.executed import digest_of, is_of_the_house

log = logging.getLogger(__name__)

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
    kept = is_of_the_house(function.__module__)
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
    """The cache beside this file, or the user's own where that cannot be written."""
    room = Path(__file__).resolve().parent
    beside = room / "__pycache__"
    if os.access(beside if beside.exists() else room, os.W_OK | os.X_OK):
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
