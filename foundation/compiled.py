"""Functions compiled to machine code by numba, kept on disk between processes.

numba drops a function from its cache when the function's own file changes, not when a function that
it calls in another file does. So the cache lies in a folder named after the content of every file
that holds compiled functions: no stale arithmetic is ever run.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core import config, event
from numba.extending import intrinsic, overload
from platformdirs import user_cache_path

log = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., object])
AnyArray = TypeVar("AnyArray", bound=np.ndarray[Any, Any])

ROOMS = ("foundation", "trainingdata", "forecasting", "sizing", "execution", "marketsimulator")


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


def reordered(function: Function) -> Function:
    """The function as machine code, with sums in whatever order is fastest.

    The last bits of its results depend on the processor.
    """
    return _with_cache(function, fastmath={"reassoc"})


def _with_cache(function: Function, **options: Any) -> Function:
    # numba takes the folder of its cache from its settings, when the function is decorated.
    settings: Any = config
    before = settings.CACHE_DIR
    settings.CACHE_DIR = str(_cache_folder())
    try:
        decorate = numba.njit(cache=True, error_model="numpy", nogil=True, **options)
        return cast(Function, decorate(function))
    finally:
        settings.CACHE_DIR = before


class _CompilationLog(event.Listener):
    """Names every function that is compiled: the first ones of an installation take a minute."""

    def on_start(self, event: event.Event) -> None:
        """Log that a function begins to be compiled."""
        log.info("compiling %s", event.data["dispatcher"].py_func.__qualname__)

    def on_end(self, event: event.Event) -> None:
        """Nothing: the next function's line says so."""


_events: Any = event
_events.register("numba:compile", _CompilationLog())


@cache
def _cache_folder() -> Path:
    """The cache beside this file, or the user's own where that cannot be written.

    Its name has the digest of the code in either place: numba's own second choice has none, and
    would go on with what was compiled before an upgrade.
    """
    room = Path(__file__).resolve().parent
    name = f"compiled-{digest_of(room.parent)[:16]}"
    beside = room / "__pycache__"
    if os.access(beside if beside.exists() else room, os.W_OK | os.X_OK):
        return beside / name
    return user_cache_path("kelly-chronos") / name


def digest_of(root: Path) -> str:
    """SHA-256 of every file under the rooms of `root`, wings included, with compiled functions."""
    digest = hashlib.sha256()
    paths = [path for room in ROOMS for path in (root / room).rglob("*.py")]
    for path in sorted(paths):
        text = path.read_bytes()
        if b"foundation.compiled import" in text:
            digest.update(text)
    return digest.hexdigest()


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
