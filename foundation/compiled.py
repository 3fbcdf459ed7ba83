"""Functions compiled to machine code by numba, kept on disk between processes.

numba drops a kept function when its own file changes, not when one that it calls in another file
does. So what is kept lies in a folder named after the content of every file that holds compiled
functions: no stale arithmetic is ever run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import config
from numba.extending import intrinsic, overload

from foundation.arrays import Records

Function = TypeVar("Function", bound=Callable[..., object])

ROOMS = ("foundation", "trainingdata", "forecasting", "sizing", "execution", "marketsimulator")


def compiled(function: Function) -> Function:
    """The function as machine code, compiled when it is first called and read from disk after that.

    Divisions by zero give inf or nan, as numpy's do. Only arrays, numbers and named tuples of them
    go in and out.
    """
    return _kept(function)


def inlined(function: Function) -> Function:
    """The same, for what a compiled loop calls at every step: it becomes part of its caller, which
    takes longer to compile.

    A call costs nothing then; without it every array among the arguments is counted in and out.
    """
    return _kept(function, forceinline=True)


def reordered(function: Function) -> Function:
    """The same as `compiled`, with sums in whatever order is fastest: the last bits depend on
    the processor.
    """
    return _kept(function, fastmath={"reassoc"})


def _kept(function: Function, **options: Any) -> Function:
    settings: Any = config
    before = settings.CACHE_DIR
    settings.CACHE_DIR = str(_folder())
    try:
        decorate = numba.njit(cache=True, error_model="numpy", nogil=True, **options)
        return cast(Function, decorate(function))
    finally:
        settings.CACHE_DIR = before


@cache
def _folder() -> Path:
    """Beside this file; where that cannot be written, numba falls back to the user's own folder."""
    here = Path(__file__).resolve().parent
    return here / "__pycache__" / f"compiled-{digest_of(here.parent)[:16]}"


def digest_of(root: Path) -> str:
    """Of every file under the rooms of `root`, wings included, that holds compiled functions."""
    digest = hashlib.sha256()
    for path in sorted(path for room in ROOMS for path in (root / room).rglob("*.py")):
        text = path.read_bytes()
        if b"foundation.compiled import" in text:
            digest.update(text)
    return digest.hexdigest()


def unowned(array: Records) -> Records:
    """The array, uncounted: for an argument of a compiled function that passes it on at every step
    of a loop.

    Counting who holds it, in and out of every call, is a fifth of a loop of small steps. It must
    not outlive its argument.
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
