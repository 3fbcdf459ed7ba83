"""Functions compiled to machine code by numba, cached on disk between processes.

numba invalidates its cache when a function's own file changes. It does not notice changes in other
files that the function calls or takes numbers from. This module therefore stores machine code under
a digest of the code of the function's module and of the modules that it imports. The digest ignores
docstrings, comments and line numbers. Stale machine code never runs; a changed docstring recompiles
at most the functions of its own file. Functions outside the project are not cached.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import hashlib
import importlib.util
import inspect
import logging
import marshal
import os
import py_compile
import subprocess
import sys
import time
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import cache
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
from foundation.threads import run_in_background

log = logging.getLogger(__name__)

PROJECT_ROOT = Path(__file__).resolve().parent.parent
EXPECTED_COMPILATIONS = 276  # number of compilations in a first backtest, both processes together
LINKED_CACHE_SUFFIX = "-linked"
_CHECKED_HASH_FLAGS = (3).to_bytes(4, "little")


@cache
def module_digest(module: str, project: Path = PROJECT_ROOT) -> str:
    """Return the SHA-256 of the code of a module and of the project's modules that it imports.

    module: dotted name; project: folder that contains the packages.
    """
    digest = hashlib.sha256()
    for name in sorted(transitive_imports(module, project)):
        digest.update(f"{name}\n".encode())
        digest.update(_single_module_digest(name, project))
    return digest.hexdigest()


@cache
def _single_module_digest(module: str, project: Path) -> bytes:
    digest = hashlib.sha256()
    for code in _codes(_load_module_code(module, project)):
        digest.update(repr(_executable_parts(code)).encode())
    return digest.digest()


def is_project_module(module: str, project: Path = PROJECT_ROOT) -> bool:
    """Return whether a dotted name is a module of the project."""
    return module in _files(project)


def transitive_imports(module: str, project: Path = PROJECT_ROOT) -> set[str]:
    """Return the names of a module and of the project modules that it imports, even indirectly."""
    found: set[str] = set()
    waiting = {module}
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= _imported_modules(name, project) - found
    return found


@cache
def _imported_modules(module: str, project: Path) -> set[str]:
    """Return the project modules that a module imports or that its text constants name.

    A package's table `COMMANDS` has such constants.
    """
    files = _files(project)
    named = set()
    for code in _codes(_load_module_code(module, project)):
        words = {*code.co_names, *(each for each in code.co_consts if isinstance(each, str))}
        modules = words & files.keys()
        members = {f"{one}.{word}" for one in modules for word in code.co_names}
        named |= modules | (members & files.keys())
    return named


@cache
def _files(project: Path) -> dict[str, Path]:
    """Map the dotted name of every module of the packages to its file."""
    files = {}
    for package in PACKAGES:
        for path in (project / package).rglob("*.py"):
            parts = path.relative_to(project).with_suffix("").parts
            files[".".join(parts).removesuffix(".__init__")] = path
    return files


@cache
def _load_module_code(module: str, project: Path) -> CodeType:
    """Return a module's code without docstrings, cached in a hash-based `.pyc` file (PEP 552)."""
    path = _files(project)[module]
    source = path.read_bytes()
    head = importlib.util.MAGIC_NUMBER + _CHECKED_HASH_FLAGS + importlib.util.source_hash(source)
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
    """Yield a code object and all nested ones: functions, classes, comprehensions."""
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


def _executable_parts(code: CodeType) -> tuple[object, ...]:
    """Return the parts of a code object that determine its behaviour, without nested code objects.

    They are the name, bytecode, constants, names of variables, numbers of arguments, and flags.
    """
    constants = [each for each in code.co_consts if not isinstance(each, CodeType)]
    return (
        code.co_qualname,
        code.co_code,
        # The order of a set differs between processes.
        [sorted(map(repr, each)) if isinstance(each, frozenset) else each for each in constants],
        *(code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars),
        *(code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags),
    )


Function = TypeVar("Function", bound=Callable[..., object])
Value = TypeVar("Value")
AnyArray = TypeVar("AnyArray", bound=np.ndarray[Any, Any])


def compiled(function: Function) -> Function:
    """Compile a function to its own machine code at its first call, and cache the code on disk.

    Compiled callers call it by address and contain no copy of its code. Division by zero gives inf
    or nan, as in numpy. Arguments and results are arrays, numbers and named tuples of them.
    """
    return cast(Function, _LinkedFunction(function, LINKED_CACHE_SUFFIX).to_python_function())


def jit_inline(function: Function) -> Function:
    """Inline a function's machine code into its compiled callers.

    Use it for functions called in a loop: other calls update the reference count of each array.
    """
    inlined = _InlinedFunction(function, "-inlined", forceinline=True)
    return cast(Function, inlined.to_python_function())


def jit_inline_ir(function: Function) -> Function:
    """Inline a function's source into its callers before their compilation.

    Use it for functions with a single caller; with several callers, compilation takes longer.
    """
    return _compile_with_cache(function, inline="always")


def jit_or_python(function: Function) -> Function:
    """Keep a function callable in Python, and inline its machine code into compiled callers.

    Compiled code computes with 64-bit numbers, Python with exact integers of any size.
    """
    return register_jitable(forceinline=True)(function)


def jit_fastmath(function: Function) -> Function:
    """Compile a function with reordered sums for speed; the last bits depend on the processor."""
    return _compile_with_cache(function, fastmath={"reassoc"})


def _compile_with_cache(
    function: Function, part: str = "", module: str = "", **options: Any
) -> Function:
    """Return a function compiled by numba; code of the project is cached on disk.

    part: suffix of the cache folder's name, which begins with a module's digest.
    module: dotted name of that module; empty: the function's own module.
    options: options of `numba.njit`.
    """
    # numba reads the cache folder from its settings when it decorates a function.
    settings: Any = config
    before = settings.CACHE_DIR
    module = module or function.__module__
    kept = is_project_module(module)
    try:
        if kept:
            settings.CACHE_DIR = str(_cache_folder() / f"{module_digest(module)[:16]}{part}")
        # C code never calls these functions; a wrapper for it takes 5 % of the compilation time.
        options |= {"nogil": True, "no_cfunc_wrapper": True}
        code: Any = numba.njit(error_model="numpy", **options)(function)
        if kept:
            with suppress(RuntimeError):  # no writable folder: nothing is kept
                code._cache = _MachineCodeCache(function)
        return cast(Function, code)
    finally:
        settings.CACHE_DIR = before


_caching: Any = caching


class _CodeCacheFile(_caching.IndexDataCacheFile):  # type: ignore[misc]
    """Files of a function's cache: an index by signature and processor, and one file per entry."""

    def save(self, key: Any, data: Any) -> None:
        """Write machine code to a separate file, then add the file's name to the index.

        numba itself writes the index first: if a process ends in between, or two write at once,
        one signature's entry could point to another signature's code.
        """
        number = int(hashlib.sha256(repr(key).encode()).hexdigest()[:12], 16)
        name = self._data_name(number)
        self._save_data(name, data)
        self._save_index({**self._load_index(), key: name})


class _DigestCacheImpl(_caching.CompileResultCacheImpl):  # type: ignore[misc]
    """A numba cache that uses only the given folder, which is named after the source digest.

    numba's default cache folders do not depend on the digest, and could return outdated code.
    """

    _locator_classes = (_caching.UserProvidedCacheLocator,)


class _MachineCodeCache(_caching.FunctionCache):  # type: ignore[misc]
    """A cache of a function's machine code on disk that tolerates damaged files and write errors.

    Code that cannot be read is compiled again. Both kinds of error are logged.
    """

    _impl_class = _DigestCacheImpl

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _CodeCacheFile(self._cache_path, self._impl.filename_base, stamp)

    def load_overload(self, signature: Any, target: Any) -> Any:
        try:
            return super().load_overload(signature, target)
        # A damaged file makes pickle raise any exception.
        except Exception as error:  # noqa: BLE001
            log.warning(
                "%s: cached machine code cannot be read, compiling again: %s", self._name, error
            )
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, signature: Any, code: Any) -> None:
        try:
            super().save_overload(signature, code)
        except OSError as error:
            log.warning("%s: machine code cannot be cached: %s", self._name, error)


ArgumentTypes = tuple[Any, ...]


class _CompiledFunction(ABC):
    """A function compiled once, without a wrapper for calls from Python.

    A second compiled function, the entry, unpacks the arguments for calls from Python.
    """

    def __init__(self, function: Callable[..., Any], part: str, **options: Any) -> None:
        self.function = function
        self.name = f"{function.__module__}:{function.__qualname__}"
        self.kept = is_project_module(function.__module__)
        if not self.kept:
            self.name += f":{id(self)}"  # several functions may share a name
        self.code: Any = _compile_with_cache(function, part, no_cpython_wrapper=True, **options)

    def to_python_function(self) -> Any:
        """Return a function that calls the compiled code; compiled callers use `emit_call`."""
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
            except _CompilationFailed as error:
                raise _compile_errors.pop() from error

        def infer_result_type(*types: Any) -> Any:
            return self.result_type(_unliteral_types(types))

        def enter(*arguments: Any) -> Any:
            return call(*arguments)

        enter.__qualname__ = f"{self.function.__qualname__}.enter"
        entry = _compile_with_cache(enter, "-entries", self.function.__module__)
        _compiled_functions[self.name] = self
        known: Any = infer_result_type
        known.__signature__ = signature
        type_callable(call)(lambda context: known)
        _lower(call, _types.VarArg(_types.Any))(self.emit_call)
        seen: Any = call
        seen.py_func = self.function
        return call

    def compile_for_types(self, types: ArgumentTypes) -> Any:
        """Return numba's compile result for argument types, compiled now or read from disk."""
        if types not in self.code.overloads:
            alone = _compile_lock(self.name) if self.kept else nullcontext()
            with global_compiler_lock, alone:
                self.code.compile(types)
        return self.code.overloads[types]

    def result_type(self, types: ArgumentTypes) -> Any:
        return self.compile_for_types(types).signature.return_type

    @abstractmethod
    def emit_address(self, context: Any, builder: Any, signature: Any) -> Any:
        """Emit code into a caller that obtains the address of the function's machine code."""

    def emit_call(self, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """Emit a call of the function into a caller's code; its errors reach the caller."""
        signature = signature.replace(args=_unliteral_types(signature.args))
        result, types = signature.return_type, signature.args
        address = self.emit_address(context, builder, signature)
        status, value = context.call_conv.call_function(builder, address, result, types, arguments)
        with _cgutils.if_unlikely(builder, status.is_error):
            context.call_conv.return_status_propagate(builder, status)
        return _new_reference(context, builder, result, value)


class _InlinedFunction(_CompiledFunction):
    """A function whose machine code is linked into each caller."""

    def emit_address(self, context: Any, builder: Any, signature: Any) -> Any:
        code = self.compile_for_types(signature.args)
        context.add_linking_libs([code.library])
        return context.declare_function(builder.module, code.fndesc)


class _LinkedFunction(_CompiledFunction):
    """A function called by its address, which each caller looks up at its first call."""

    def result_type(self, types: ArgumentTypes) -> Any:
        """Return the annotated result type, so that a caller can be compiled before this function.

        `_RESULT_TYPES` maps usual annotations to numba's types. Any other stands for the type of
        the parameters with the same annotation; if there is none, the function is compiled.
        """
        hints = typing.get_type_hints(self.function, include_extras=True)
        returned = hints.pop("return")
        by_class: dict[Any, set[Any]] = {}
        for hint, each in zip(hints.values(), types, strict=False):
            by_class.setdefault(hint, set()).add(each)
        same = {hint: next(iter(found)) for hint, found in by_class.items() if len(found) == 1}
        declared = _declared_type(returned, same | _RESULT_TYPES)
        return super().result_type(types) if declared is None else declared

    def emit_address(self, context: Any, builder: Any, signature: Any) -> Any:
        module = builder.module
        wanted = (self.name, signature.args, signature.return_type)
        # Each caller has its own cell: code that is read from disk looks its callees up again.
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
                module, ir.FunctionType(_POINTER, [python.pyobj]), _ADDRESS_SYMBOL
            )
            builder.store(builder.call(look_up, [described]), cell)
            python.decref(described)
            python.gil_release(locked)
            with _cgutils.if_unlikely(builder, _cgutils.is_null(builder, builder.load(cell))):
                context.call_conv.return_user_exc(builder, _CompilationFailed, (self.name,))
        kind = context.call_conv.get_function_type(signature.return_type, signature.args)
        return builder.bitcast(builder.load(cell), kind.as_pointer())


class _CompilationFailed(Exception):
    """Compiled code called a function that failed to compile; `_compile_errors` holds the cause."""


_compile_errors: list[BaseException] = []
_compiled_functions: dict[str, _CompiledFunction] = {}
_functions_in_compilation: set[str] = set()  # guarded by numba's compiler lock


@contextmanager
def _compile_lock(name: str) -> Iterator[None]:
    """Lock a function against other processes while this process compiles it.

    The others wait, then read the result from the cache. No deadlock can occur.
    """
    if name in _functions_in_compilation:
        yield
        return
    folder = _cache_folder()
    with ExitStack() as held:
        with suppress(OSError):  # without a writable cache each process compiles for itself
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock"
            fcntl.flock(held.enter_context(open(path, "a")), fcntl.LOCK_EX)
        _functions_in_compilation.add(name)
        held.callback(_functions_in_compilation.discard, name)
        yield


def _is_cached(module: str) -> bool:
    """Return whether the cache contains machine code of the current version of a module."""
    folder = _cache_folder() / f"{module_digest(module)[:16]}{LINKED_CACHE_SUFFIX}"
    return next(folder.rglob("*.nbi"), None) is not None


_cgutils: Any = cgutils
_lower: Any = lower_builtin
_new_reference: Any = imputils.impl_ret_new_ref
_types: Any = numba.types
_POINTER = ir.IntType(8).as_pointer()
_ADDRESS_SYMBOL = "kelly_chronos_address"
_RESULT_TYPES = {
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


def _declared_type(annotation: Any, known: Mapping[Any, Any]) -> Any:
    if typing.get_origin(annotation) is not tuple:
        return known.get(annotation)
    parts = [_declared_type(part, known) for part in typing.get_args(annotation)]
    return None if None in parts else _types.BaseTuple.from_types(parts)


def _unliteral_types(types: ArgumentTypes) -> ArgumentTypes:
    return tuple(_types.unliteral(each) for each in types)


def _compile_address(name: str, types: ArgumentTypes, expected: Any) -> int:
    code = _compiled_functions[name].compile_for_types(types)
    if code.signature.return_type != expected:
        found = code.signature.return_type
        raise TypeError(
            f"{name} returns {found}, but is annotated as {expected}; correct the annotation"
        )
    return int(code.library.get_pointer_to_function(code.fndesc.llvm_func_name))


def _look_up_address(wanted: tuple[str, ArgumentTypes, Any]) -> int | None:
    try:
        return _compile_address(*wanted)
    # `call` raises the error again after the compiled callers have returned.
    except BaseException as error:  # noqa: BLE001
        _compile_errors.append(error)
        return None


_address_callback = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(_look_up_address)
# Machine code uses this address until the process ends, even if this module is unloaded before.
ctypes.pythonapi.Py_IncRef(ctypes.py_object(_address_callback))
binding.add_symbol(
    _ADDRESS_SYMBOL, cast(int, ctypes.cast(_address_callback, ctypes.c_void_p).value)
)


class _CompilationListener(event.Listener):
    """A listener that logs the name of each compiled function and calls `listener` with it."""

    listener: Callable[[str], object] = str  # drops the name

    def on_start(self, event: event.Event) -> None:
        name = event.data["dispatcher"].py_func.__qualname__
        log.info("compiling %s", name)
        self.listener(name)

    def on_end(self, event: event.Event) -> None:
        """Do nothing, because only the start of a compilation is reported."""


_compilation_listener = _CompilationListener()
_events: Any = event
_events.register("numba:compile", _compilation_listener)


@contextmanager
def report_compilations(listener: Callable[[str], object]) -> Iterator[None]:
    """Call `listener` with the name of each function when its compilation begins, in any thread."""
    before = _compilation_listener.listener
    _compilation_listener.listener = listener
    try:
        yield
    finally:
        _compilation_listener.listener = before


@contextmanager
def report_compilation_progress(progress: Callable[[str, int, int], None]) -> Iterator[None]:
    """Report functions compiled during the block as progress, and at its end the seconds taken."""
    instants: list[float] = []

    def report_count(_: str) -> None:
        instants.append(time.monotonic())
        progress(
            "compiling (once per installation)",
            len(instants),
            max(len(instants), EXPECTED_COMPILATIONS),
        )

    with report_compilations(report_count):
        yield
    if instants:
        progress(f"compiled in {instants[-1] - instants[0]:.0f} s", len(instants), len(instants))


@contextmanager
def compile_in_background(program: str, cached_module: str) -> Iterator[None]:
    """Compile this process's functions in a second process during the block, to save time.

    It runs the module `program` and prints the name of each function that it compiles. It starts
    only if the cache has no machine code of `cached_module`, and ends with the block.
    """
    if _is_cached(cached_module):
        yield
        return
    path = f"sys.path.insert(0, {str(PROJECT_ROOT)!r})"
    code = f"{path}; runpy.run_module({program!r}, None, '__main__')"
    with subprocess.Popen(
        [sys.executable, "-P", "-c", f"import runpy, sys; {code}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:

        def report_compiled_names() -> None:
            for name in cast(IO[str], process.stdout):
                _compilation_listener.listener(name.strip())

        with run_in_background(report_compiled_names, process.terminate):
            yield


@cache
def _cache_folder() -> Path:
    """Return the cache folder next to this file; if it is not writable, the user's cache folder."""
    folder = Path(__file__).resolve().parent
    kept = folder / "__pycache__" / "compiled"
    existing = next(each for each in (kept, kept.parent, folder) if each.exists())
    if os.access(existing, os.W_OK | os.X_OK):
        return kept
    return user_cache_path("kelly-chronos") / "compiled"


@jit_inline
def copy_values(into: AnyArray, values: AnyArray) -> None:
    """Copy values [n] into an array of the same length; a slice would compile twenty functions."""
    for k in range(len(values)):
        into[k] = values[k]


@jit_inline
def any_true(mask: Mask) -> bool:
    """Return whether any entry of a mask [n] is true; `any` would compile six more functions."""
    for k in range(len(mask)):  # noqa: SIM110
        if mask[k]:
            return True
    return False


@compiled
def true_indices(mask: Mask) -> Index:
    """Return the increasing indices [m] of the true entries of a mask [n]."""
    count = 0
    for k in range(len(mask)):
        count += mask[k]
    numbers = np.empty(count, np.int64)
    place = 0
    for k in range(len(mask)):
        if mask[k]:
            numbers[place] = k
            place += 1
    return numbers


@jit_inline
def take(values: AnyArray, indices: Index) -> AnyArray:
    """Return the values at the indices `indices` [m] of an array [n]; the array itself if m = n."""
    if len(indices) == len(values):
        return values
    part: AnyArray = np.empty(len(indices), dtype=values.dtype)  # type: ignore[assignment]
    for a in range(len(indices)):
        part[a] = values[indices[a]]
    return part


@jit_inline
def take_columns(values: AnyArray, indices: Index) -> AnyArray:
    """Return the columns `indices` [m] of values [K, n]; the array itself if m = n."""
    if len(indices) == values.shape[1]:
        return values
    part: AnyArray = np.empty((len(values), len(indices)), dtype=values.dtype)  # type: ignore[assignment]
    for k in range(len(values)):
        for a in range(len(indices)):
            part[k, a] = values[k, indices[a]]
    return part


@jit_inline
def scatter_values(into: AnyArray, indices: Index, values: AnyArray) -> None:
    """Write values [m] to the indices `indices` [m] of an array [n]."""
    for a in range(len(indices)):
        into[indices[a]] = values[a]


def without_refcount(value: Value) -> Value:
    """Return an array, or a tuple of arrays, whose references compiled code does not count.

    Use it for an argument passed on in every iteration. The result must not outlive it.
    """
    return value


def _drop_owner_intrinsic(typing: Any, value: Any) -> Any:
    def emit_view(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _unowned_value(context, builder, signature.args[0], arguments[0])

    return value(value), emit_view


def _unowned_value(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    if isinstance(kind, _types.BaseTuple):
        parts = [
            _unowned_value(context, builder, part, builder.extract_value(value, k))
            for k, part in enumerate(kind)
        ]
        return context.make_tuple(builder, kind, parts)
    if isinstance(kind, _types.Array):
        view = context.make_array(kind)(context, builder, value=value)
        view.meminfo, view.parent = view.meminfo.type(None), view.parent.type(None)
        return view._getvalue()
    return value


_drop_owner: Any = intrinsic(_drop_owner_intrinsic)


@overload(without_refcount)
def _overload_without_refcount(value: Any) -> Any:
    def drop_owner(value: Any) -> Any:
        return _drop_owner(value)

    return drop_owner
