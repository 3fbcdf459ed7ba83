"""A mutant's life: a forked process that loads the changed module in a file's place, and runs
tests until one fails.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.abc
import importlib.machinery
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

HEAVY = (
    "numpy pandas pyarrow.parquet scipy.stats numba exchange_calendars pydantic hydra aiohttp"
    " alpaca.trading.client torch"
)
DECORATORS = "foundation.compiled"
EXAMPLES = 40  # of a property whose test names no number
WAITS = (
    10.0  # seconds of a clock for one of processor time: some tests sleep, and machines are shared
)


class Job(NamedTuple):
    """Tests to run with a mutant's code in a file's place, None for the file's own; seconds of
    processor time it may take.
    """

    file: str
    code: CodeType | None
    tests: tuple[str, ...]
    seconds: float


class Verdict(NamedTuple):
    """What became of a job. passed: every test did; None where none could be run. seconds: of
    processor time.
    """

    passed: bool | None
    seconds: float
    words: str


@dataclass(frozen=True)
class Farm:
    """Runs jobs on a tree of sources, `workers` at a time; rooms: its packages."""

    root: Path
    rooms: frozenset[str]
    workers: int = 2

    def verdicts(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Verdict]]:
        """Each job's number and verdict, as they end."""
        waiting = list(enumerate(jobs))[::-1]
        living = dict[int, tuple[int, float]]()
        folder = Path(tempfile.mkdtemp())
        try:
            while waiting or living:
                while waiting and len(living) < self.workers:
                    number, job = waiting.pop()
                    child = self._born(job, folder / str(number))
                    living[child] = number, time.monotonic() + 60 + WAITS * job.seconds
                child, status, used = os.wait4(-1, os.WNOHANG)
                if child in living:
                    number, _ = living.pop(child)
                    yield (
                        number,
                        _verdict(status, used.ru_utime + used.ru_stime, folder / str(number)),
                    )
                    continue
                for late in [
                    child for child, (_, ends) in living.items() if ends < time.monotonic()
                ]:
                    os.killpg(late, signal.SIGKILL)
                time.sleep(0.02)
        finally:
            for child in living:
                with suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)
            shutil.rmtree(folder, ignore_errors=True)

    def _born(self, job: Job, folder: Path) -> int:
        folder.mkdir()
        if child := os.fork():
            with suppress(OSError):
                os.setpgid(child, child)
            return child
        status = 70
        try:
            with suppress(OSError):
                os.setpgid(0, 0)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CPU, (int(job.seconds) + 1, int(job.seconds) + 1))
            status = self._live(job, folder)
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            sys.stdout.flush()
            os._exit(status)

    def _live(self, job: Job, folder: Path) -> int:
        words = os.open(folder / "words", os.O_CREAT | os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(words, stream)
        os.chdir(self.root)
        sys.path.insert(0, str(self.root))
        sys.dont_write_bytecode = True
        os.environ["HYPOTHESIS_PROFILE"] = "mutants"
        import hypothesis
        import pytest

        hypothesis.settings.register_profile(
            "mutants",
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        plain = plain_modules(self.root, self.rooms, job.file)
        sys.meta_path.insert(0, Changed(self.rooms, _module(job.file), job.code, plain))
        options = [
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            f"--basetemp={folder / 'files'}",
        ]
        loaded = [
            "-W",
            "ignore::pytest.PytestAssertRewriteWarning",
        ]  # hypothesis is there before pytest is
        return int(pytest.main([*options, *loaded, *job.tests]))


def load_what_is_heavy() -> None:
    """Libraries that children then need not load, each for itself."""
    for name in (*HEAVY.split(), "hypothesis", "pytest"):
        with suppress(ImportError):
            importlib.import_module(name)


def _verdict(status: int, seconds: float, folder: Path) -> Verdict:
    """What passes ends with 0; 4 and 5 say that there was no test to run."""
    words = (folder / "words").read_text(errors="replace") if (folder / "words").exists() else ""
    code = os.waitstatus_to_exitcode(status)
    shutil.rmtree(folder, ignore_errors=True)
    return Verdict({0: True, 4: None, 5: None}.get(code, False), seconds, words)


def plain_modules(root: Path, rooms: frozenset[str], file: str) -> frozenset[str]:
    """Modules whose compiled functions run as Python: the changed one's, and those that call
    into it.
    """
    calls: dict[str, set[str | None]] = {}
    for path in (path for room in rooms for path in (root / room).rglob("*.py")):
        imported = {
            node.module
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom)
        }
        if DECORATORS in imported:
            calls[_module(str(path.relative_to(root)))] = imported
    found: set[str] = {_module(file)} & set(calls)
    while more := {name for name, imported in calls.items() if imported & found} - found:
        found |= more
    return frozenset(found)


def _module(file: str) -> str:
    return file.removesuffix(".py").replace("/", ".")


@dataclass(frozen=True)
class Changed(importlib.abc.MetaPathFinder):
    """Loads a module `name` from a mutant's code; functions of `plain` modules, and of tests beside
    them, stay Python.

    Their records then have attributes, as machine code sees them.
    """

    rooms: frozenset[str]
    name: str
    code: CodeType | None
    plain: frozenset[str]

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> Any:
        """Where the module is, with a loader that does so."""
        room = name.split(".")[0]
        spec = importlib.machinery.PathFinder.find_spec(name, path) if room in self.rooms else None
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(name, spec.loader.path, self)
        return spec

    def stays_python(self, function: Callable[..., Any]) -> bool:
        """Whether a function that asks to be compiled is not."""
        module = function.__module__
        return bool(self.plain) and (module in self.plain or module.split(".")[0] not in self.rooms)


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, changed: Changed) -> None:
        super().__init__(name, path)
        self._changed = changed

    def get_code(self, fullname: str) -> CodeType | None:
        mine = self._changed.code is not None and fullname == self._changed.name
        return self._changed.code if mine else super().get_code(fullname)

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        if not self._changed.plain:
            return
        import numpy as np

        for name, value in list(vars(module).items()):
            if isinstance(value, np.dtype) and value.fields:
                setattr(module, name, np.dtype((np.record, value)))
            if module.__name__ in self._changed.plain and hasattr(value, "py_func"):
                setattr(module, name, _with_attributes(value))
            if module.__name__ == DECORATORS and name in ("compiled", "inlined", "reordered"):
                setattr(module, name, functools.partial(_decorated, value, self._changed))


def _with_attributes(compiled: Callable[..., Any]) -> Callable[..., Any]:
    """A compiled function for a caller in Python: records that it makes have attributes there
    too.
    """
    import numpy as np

    @functools.wraps(compiled)
    def called(*args: Any) -> Any:
        answer = compiled(*args)
        records = isinstance(answer, np.ndarray) and answer.dtype.fields
        return answer.view(np.dtype((np.record, answer.dtype))) if records else answer

    return called


def _decorated(
    compiled: Callable[..., Any], changed: Changed, function: Callable[..., Any]
) -> Callable[..., Any]:
    if not changed.stays_python(function):
        return compiled(function)
    import numpy as np

    @functools.wraps(function)
    def as_machine_code(*args: Any) -> Any:
        """Divisions by zero give inf or nan, in silence; what is a float of Python's would
        raise.
        """
        with np.errstate(all="ignore"):
            answer = function(*args)
        return np.float64(answer) if type(answer) is float else answer

    return as_machine_code
