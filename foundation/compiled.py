"""Functions compiled to machine code by numba, kept on disk between processes.

numba drops a function from its cache when the function's own file changes, not when a function or a
number that it takes from another file does. So what is kept lies under the digest of all that the
function's module and the modules that it imports execute: no stale arithmetic is ever run, and
another docstring compiles its own file again at most. Docstrings, comments and the places of lines
are no part of the digest. Functions outside the project are not kept.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import gc
import hashlib
import importlib.util
import inspect
import logging
import marshal
import os
import py_compile
import subprocess
import sys
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import cache
from itertools import count
from pathlib import Path
from types import CodeType
from typing import IO, Any, TypeVar, cast

import numba
import numpy as np
from llvmlite import binding, ir
from numba.core import caching, cgutils, config, event, imputils
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic, lower_builtin, overload, register_jitable, type_callable
from platformdirs import user_cache_path

from foundation import PACKAGES
from foundation.arrays import Array, Cube, Index, Mask, Matrix
from foundation.threads import beside

log = logging.getLogger(__name__)

PROJECT = Path(__file__).resolve().parent.parent
COMPILATIONS = 240  # about as many as a first backtest makes
LINKED = "-linked"
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
    """The function as machine code of its own, compiled when it is first called and kept on disk.

    Compiled code calls it at its address, as one calls a function of a shared library: no caller
    takes a copy in, and nobody waits for the code of what is never called. Divisions by zero give
    inf or nan, as numpy's do. Only arrays, numbers and named tuples of them go in and out.
    """
    return cast(Function, _Linked(function, LINKED).as_function())


def inlined(function: Function) -> Function:
    """The function compiled into its callers, for what a loop calls at every step.

    A call then costs nothing; otherwise the references to every array among the arguments are
    counted in and out. The caller takes longer to compile.
    """
    return cast(Function, _Inlined(function, "-inlined", forceinline=True).as_function())


def merged(function: Function) -> Function:
    """The function written into its caller before that is compiled, for a part with one caller.

    It is compiled once. What many places call takes longer this way.
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


def _with_cache(function: Function, part: str = "", module: str = "", **options: Any) -> Function:
    """The function by numba, kept below the digest of a module, its own if none is named."""
    # numba takes the folder of its cache from its settings, when the function is decorated.
    settings: Any = config
    before = settings.CACHE_DIR
    module = module or function.__module__
    kept = is_project_module(module)
    try:
        if kept:
            settings.CACHE_DIR = str(_cache_folder() / f"{digest_of(module)[:16]}{part}")
        # Calls from C come never; to be ready for them takes a twentieth of the compiling.
        options |= {"nogil": True, "no_cfunc_wrapper": True}
        code: Any = numba.njit(error_model="numpy", **options)(function)
        if kept:
            with suppress(RuntimeError):  # no folder can be written: each process compiles its own
                code._cache = _KeptCode(function)
        return cast(Function, code)
    finally:
        settings.CACHE_DIR = before


_caching: Any = caching


class _KeptFiles(_caching.IndexDataCacheFile):  # type: ignore[misc]
    """An index of machine code by signature and processor, and a file of each."""

    def save(self, key: Any, data: Any) -> None:
        """Write machine code to a file of its own, then its name into the index.

        numba writes the index first and gives the next free number: a process that ends in between
        leaves one signature's name on another's code, and so do two that write at once.
        """
        number = int(hashlib.sha256(repr(key).encode()).hexdigest()[:12], 16)
        name = self._data_name(number)
        self._save_data(name, data)
        self._save_index({**self._load_index(), key: name})


class _UnderDigest(_caching.CompileResultCacheImpl):  # type: ignore[misc]
    """Never keeps code where numba would otherwise: no digest tells there what is stale."""

    _locator_classes = (_caching.UserProvidedCacheLocator,)


class _KeptCode(_caching.FunctionCache):  # type: ignore[misc]
    """A function's machine code on disk; where that fails it is compiled, and the call goes on."""

    _impl_class = _UnderDigest

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _KeptFiles(self._cache_path, self._impl.filename_base, stamp)

    def load_overload(self, signature: Any, target: Any) -> Any:
        try:
            return super().load_overload(signature, target)
        # A damaged file makes pickle raise whatever it likes.
        except Exception as error:  # noqa: BLE001
            log.warning("%s: compiled again, its file cannot be read: %s", self._name, error)
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, signature: Any, code: Any) -> None:
        try:
            super().save_overload(signature, code)
        except OSError as error:
            log.warning("%s: its machine code cannot be kept: %s", self._name, error)


Types = tuple[Any, ...]


class _Unit(ABC):
    """A function compiled once, without what only a call from Python needs.

    Taking a named tuple of twenty arrays from Python is half of the code of a short function. Where
    Python does call one, a second function takes the arguments and hands them on.
    """

    def __init__(self, function: Callable[..., Any], part: str, **options: Any) -> None:
        self.function = function
        self.name = f"{function.__module__}:{function.__qualname__}"
        self.kept = is_project_module(function.__module__)
        if not self.kept:
            self.name += f":{id(self)}"  # several may have one name
        self.code: Any = _with_cache(function, part, no_cpython_wrapper=True, **options)

    def as_function(self) -> Any:
        """Return the function for Python and for compiled code, which calls `write_call`."""
        signature = inspect.signature(self.function)
        parameters = len(signature.parameters)

        @functools.wraps(self.function)
        def call(*arguments: Any, **named: Any) -> Any:
            if named or len(arguments) < parameters:
                bound = signature.bind(*arguments, **named)
                bound.apply_defaults()
                arguments = bound.args
            try:
                return entry(*arguments)
            except _NotCompiled as error:
                raise _why_not.pop() from error

        def result(*types: Any) -> Any:
            return self.result_type(_unliteral(types))

        def enter(*arguments: Any) -> Any:
            return call(*arguments)

        enter.__qualname__ = f"{self.function.__qualname__}.enter"
        entry = _with_cache(enter, "-entries", self.function.__module__)
        _units[self.name] = self
        known: Any = result
        known.__signature__ = signature
        type_callable(call)(lambda context: known)
        _lower(call, _types.VarArg(_types.Any))(self.write_call)
        seen: Any = call
        seen.py_func = self.function
        return call

    def compiled_for(self, types: Types) -> Any:
        """Return what numba keeps of the code for arguments of these types, compiled or read."""
        if types not in self.code.overloads:
            alone = _one_process(self.name) if self.kept else nullcontext()
            with global_compiler_lock, _garbage_kept(), alone:
                self.code.compile(types)
        return self.code.overloads[types]

    def result_type(self, types: Types) -> Any:
        return self.compiled_for(types).signature.return_type

    @abstractmethod
    def write_address(self, context: Any, builder: Any, signature: Any) -> Any:
        """Write into a caller's code where the function's code is."""

    def write_call(self, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """Write a call into a caller's code; what the function raises the caller raises."""
        signature = signature.replace(args=_unliteral(signature.args))
        result, types = signature.return_type, signature.args
        address = self.write_address(context, builder, signature)
        status, value = context.call_conv.call_function(builder, address, result, types, arguments)
        with _cgutils.if_unlikely(builder, status.is_error):
            context.call_conv.return_status_propagate(builder, status)
        return _new_reference(context, builder, result, value)


class _Inlined(_Unit):
    """A function whose code each caller takes in."""

    def write_address(self, context: Any, builder: Any, signature: Any) -> Any:
        code = self.compiled_for(signature.args)
        context.add_linking_libs([code.library])
        return context.declare_function(builder.module, code.fndesc)


class _Linked(_Unit):
    """A function called at its address, which a caller's first call looks up."""

    def result_type(self, types: Types) -> Any:
        """Return the type that the annotation says, so that a caller compiles without the callee.

        That of any other class is the type of the parameters of that class. Where there is none,
        or they differ, the function is compiled.
        """
        hints = typing.get_type_hints(self.function, include_extras=True)
        returned = hints.pop("return")
        by_class: dict[Any, set[Any]] = {}
        for hint, each in zip(hints.values(), types, strict=False):
            by_class.setdefault(hint, set()).add(each)
        same = {hint: next(iter(found)) for hint, found in by_class.items() if len(found) == 1}
        declared = _declared(returned, same | _RESULTS)
        return super().result_type(types) if declared is None else declared

    def write_address(self, context: Any, builder: Any, signature: Any) -> Any:
        module = builder.module
        wanted = (self.name, signature.args, signature.return_type)
        # A cell of each caller's own: code that is read from disk finds its own callees anew.
        cell_name = f"{self.name}.{hashlib.sha256(repr(wanted).encode()).hexdigest()[:16]}"
        cell = module.globals.get(cell_name)
        if cell is None:
            cell = ir.GlobalVariable(module, _POINTER, cell_name)
            cell.linkage, cell.initializer = "internal", _POINTER(None)
        with _cgutils.if_unlikely(builder, _cgutils.is_null(builder, builder.load(cell))):
            python = context.get_python_api(builder)
            locked = python.gil_ensure()
            described = python.unserialize(python.serialize_object(wanted))
            look_up = _cgutils.get_or_insert_function(
                module, ir.FunctionType(_POINTER, [python.pyobj]), _LOOK_UP
            )
            builder.store(builder.call(look_up, [described]), cell)
            python.decref(described)
            python.gil_release(locked)
            with _cgutils.if_unlikely(builder, _cgutils.is_null(builder, builder.load(cell))):
                context.call_conv.return_user_exc(builder, _NotCompiled, (self.name,))
        kind = context.call_conv.get_function_type(signature.return_type, signature.args)
        return builder.bitcast(builder.load(cell), kind.as_pointer())


class _NotCompiled(Exception):
    """Compiled code called a function that could not be compiled; `_why_not` has the reason."""


_why_not: list[BaseException] = []
_units: dict[str, _Unit] = {}
_compiling: set[str] = set()  # changed by whoever has numba's compiler lock


@contextmanager
def _one_process(name: str) -> Iterator[None]:
    """Keep other processes from compiling a function while this one does: they wait and read it.

    A function waits only for functions that it calls, so that no two wait for each other; nor does
    one wait for itself.
    """
    if name in _compiling:
        yield
        return
    folder = _cache_folder()
    with ExitStack() as held:
        with suppress(OSError):  # where nothing can be kept each process compiles its own
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock"
            fcntl.flock(held.enter_context(open(path, "a")), fcntl.LOCK_EX)
        _compiling.add(name)
        held.callback(_compiling.discard, name)
        yield


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Pause the garbage collector, which takes a tenth of the compiling and finds little."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _is_kept(module: str) -> bool:
    """Return whether the cache holds machine code of a module's present code."""
    folder = _cache_folder() / f"{digest_of(module)[:16]}{LINKED}"
    return next(folder.rglob("*.nbi"), None) is not None


_cgutils: Any = cgutils
_lower: Any = lower_builtin
_new_reference: Any = imputils.impl_ret_new_ref
_types: Any = numba.types
_POINTER = ir.IntType(8).as_pointer()
_LOOK_UP = "kelly_chronos_address"
_RESULTS = {
    type(None): _types.none,
    bool: _types.boolean,
    float: _types.float64,
    int: _types.int64,
    Array: _types.float64[::1],
    Matrix: _types.float64[:, ::1],
    Cube: _types.float64[:, :, ::1],
    Index: _types.int64[::1],
    Mask: _types.boolean[::1],
}


def _declared(annotation: Any, known: Mapping[Any, Any]) -> Any:
    if typing.get_origin(annotation) is not tuple:
        return known.get(annotation)
    parts = [_declared(part, known) for part in typing.get_args(annotation)]
    return None if None in parts else _types.BaseTuple.from_types(parts)


def _unliteral(types: Types) -> Types:
    return tuple(_types.unliteral(each) for each in types)


def _address(name: str, types: Types, expected: Any) -> int:
    code = _units[name].compiled_for(types)
    if code.signature.return_type != expected:
        raise TypeError(f"{name} returns {code.signature.return_type}, its annotation {expected}")
    return int(code.library.get_pointer_to_function(code.fndesc.llvm_func_name))


def _looked_up(wanted: tuple[str, Types, Any]) -> int | None:
    try:
        return _address(*wanted)
    # It is raised again once the callers have returned.
    except BaseException as error:  # noqa: BLE001
        _why_not.append(error)
        return None


_look_up = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(_looked_up)
# Machine code holds this address for as long as the process lives, also if this module does not.
ctypes.pythonapi.Py_IncRef(ctypes.py_object(_look_up))
binding.add_symbol(_LOOK_UP, cast(int, ctypes.cast(_look_up, ctypes.c_void_p).value))


class _Compilations(event.Listener):
    """Names every function that is compiled, in the log and to whoever is told."""

    told: Callable[[str], None] | None = None

    def on_start(self, event: event.Event) -> None:
        name = event.data["dispatcher"].py_func.__qualname__
        log.info("compiling %s", name)
        self.tell(name)

    def tell(self, name: str) -> None:
        if self.told is not None:
            self.told(name)

    def on_end(self, event: event.Event) -> None:
        """Nothing: the next function's line says so."""


_compilations = _Compilations()
_events: Any = event
_events.register("numba:compile", _compilations)


@contextmanager
def compilations_told(told: Callable[[str], None]) -> Iterator[None]:
    """Tell the name of every function whose compiling begins in this process; from any thread."""
    before = _compilations.told
    _compilations.told = told
    try:
        yield
    finally:
        _compilations.told = before


@contextmanager
def compilations_counted(progress: Callable[[str, int, int], None]) -> Iterator[None]:
    """Show the number of compiled functions as progress."""
    numbers = count(1)

    def tell(_: str) -> None:
        done = next(numbers)
        progress("compiling, once after an installation:", done, max(done, COMPILATIONS))

    with compilations_told(tell):
        yield


@contextmanager
def compiled_beside(program: str, unless: str) -> Iterator[None]:
    """Have a second process run a module of the project, which compiles what this one will call.

    It prints the name of each function that it compiles. It is not started where machine code of
    the module `unless` is kept already, and ended with the block.
    """
    if _is_kept(unless):
        yield
        return
    code = f"sys.path.insert(0, {str(PROJECT)!r}); runpy.run_module({program!r}, None, '__main__')"
    with subprocess.Popen(
        [sys.executable, "-P", "-c", f"import runpy, sys; {code}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:

        def tell() -> None:
            for name in cast(IO[str], process.stdout):
                _compilations.tell(name.strip())

        with beside(tell, process.terminate):
            yield


@cache
def _cache_folder() -> Path:
    """Return the cache beside this file, or the user's if that cannot be written."""
    folder = Path(__file__).resolve().parent
    kept = folder / "__pycache__" / "compiled"
    existing = next(each for each in (kept, kept.parent, folder) if each.exists())
    if os.access(existing, os.W_OK | os.X_OK):
        return kept
    return user_cache_path("kelly-chronos") / "compiled"


@inlined
def copy_row(into: AnyArray, values: AnyArray) -> None:
    """Write values [n] into an array of their length.

    numba's own assignment of a slice brings twenty functions along, for the words of an error.
    """
    for k in range(len(values)):
        into[k] = values[k]


@inlined
def any_of(marked: Mask) -> bool:
    """Whether any of a row of marks [n] is set; numba's own takes six functions for it."""
    for k in range(len(marked)):  # noqa: SIM110
        if marked[k]:
            return True
    return False


@compiled
def numbers_of(marked: Mask) -> Index:
    """Return the numbers [m] of the marks [n] that are set, rising."""
    count = 0
    for k in range(len(marked)):
        count += marked[k]
    numbers = np.empty(count, np.int64)
    place = 0
    for k in range(len(marked)):
        if marked[k]:
            numbers[place] = k
            place += 1
    return numbers


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
