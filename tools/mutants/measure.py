"""Share of mutants in the money and decision code that its tests catch: `make mutants`.

A mutant is a file with one change, drawn at random. It is held in memory and is caught by the first
test that fails. An endless loop ends at a limit of processor time, and is caught as well. Compiled
functions run as Python if they are changed or call a changed one. files.toml lists the files and
their tests. equivalent.toml lists mutants that no test could catch, with a reason; they are not
drawn.
"""

import argparse
import ast
import importlib
import os
import resource
import signal
import sys
import tempfile
import tomllib
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import partial, wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

import hypothesis
import numpy as np
import pytest

from tools.mutants.changes import DECORATORS, Mutant, mutants, without_mutants

HERE = Path(__file__).resolve().parent
HEAVY = "pandas pyarrow.parquet scipy.stats numba exchange_calendars pydantic hydra aiohttp torch"
IN_ALL, IN_A_FILE = 0.92, 0.85  # minimum shares caught, in total and in a file
KERNELS = "foundation.compiled"
OPTIONS = "-x -q -p no:cacheprovider -p no:xdist -W ignore::pytest.PytestAssertRewriteWarning"


class Job(NamedTuple):
    """Tests of a file to run within `seconds`, with `code` in place of its own (None: its own)."""

    file: str
    code: CodeType | None
    tests: Sequence[str]
    seconds: float


class Verdict(NamedTuple):
    """Result of a job: passed (None without tests), duration, and last output."""

    passed: bool | None
    seconds: float
    words: str


def verdicts(root: Path, jobs: Sequence[Job], workers: int) -> Iterator[tuple[int, Verdict]]:
    """Yield each job's number and verdict, in the order of completion."""
    waiting, living = list(range(len(jobs))), dict[int, int]()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            while waiting or living:
                while waiting and len(living) < workers:
                    place = f"{folder}/{waiting[0]}"
                    child = os.fork() or _live(root, jobs[waiting[0]], place)
                    living[child] = waiting.pop(0)
                child, status, used = os.wait4(-1, 0)
                _end(child)
                if child in living:
                    number, code = living.pop(child), os.waitstatus_to_exitcode(status)
                    passed = {0: True, 4: None, 5: None}.get(code, False)
                    words = Path(f"{folder}/{number}.txt").read_text(errors="replace")
                    yield number, Verdict(passed, used.ru_utime + used.ru_stime, words)
        finally:
            for child in living:
                _end(child)


def _end(child: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # including processes started by its tests


def _live(root: Path, job: Job, place: str) -> int:
    """Fork a child that loads the code, runs the tests and ends as pytest does."""
    status = 70
    try:
        os.setpgid(0, 0)
        words = os.open(f"{place}.txt", os.O_CREAT | os.O_WRONLY)
        os.dup2(words, 1)
        os.dup2(words, 2)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CPU, (int(job.seconds) + 1, int(job.seconds) + 1))
        signal.alarm(60 + 10 * int(job.seconds))  # some tests sleep, and machines are shared
        os.chdir(root)
        sys.path.insert(0, str(root))
        sys.dont_write_bytecode = True
        os.environ["HYPOTHESIS_PROFILE"] = "mutants"
        phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
        every = list(hypothesis.HealthCheck)
        profile = hypothesis.settings(
            hypothesis.settings.get_profile("ci"), max_examples=40, phases=phases
        )
        hypothesis.settings.register_profile("mutants", profile, suppress_health_check=every)
        sys.meta_path.insert(0, Changed(root, job))
        status = int(pytest.main([*OPTIONS.split(), f"--basetemp={place}", *job.tests]))
    finally:
        if sys.exc_info()[0]:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(status)


class Changed(MetaPathFinder):
    """Importer that replaces a job's file and runs affected compiled functions as Python."""

    def __init__(self, root: Path, job: Job) -> None:
        self.rooms = {path.parent.name for path in root.glob("*/__init__.py")} - {"tests"}
        imports = {}
        for path in (path for room in self.rooms for path in (root / room).rglob("*.py")):
            nodes = ast.walk(ast.parse(path.read_text()))
            imports[_module(path.relative_to(root))] = {getattr(n, "module", None) for n in nodes}
        compiled = {name for name, imported in imports.items() if KERNELS in imported}
        self.code = {_module(Path(job.file)): job.code}
        self.plain = set(self.code) & compiled
        while more := {name for name in compiled - self.plain if imports[name] & self.plain}:
            self.plain |= more

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        """Return the spec of a module of the project, with the changing loader."""
        spec = PathFinder.find_spec(name, path) if name.split(".")[0] in self.rooms else None
        if spec and isinstance(spec.loader, SourceFileLoader):
            spec.loader = Loader(name, spec.loader.path)
            spec.loader.changed = self
        return spec

    def decorated(self, decorate: Callable[[Any], Any], function: Callable[..., Any]) -> Any:
        """Return a function compiled, or as Python in an affected module or a test."""
        module = function.__module__
        if module not in self.plain and module.split(".")[0] in self.rooms:
            return decorate(function)

        @wraps(function)
        def as_machine_code(*args: Any) -> Any:
            with np.errstate(all="ignore"):  # a division by zero is inf or nan without a warning
                answer = function(*args)
            return np.float64(answer) if type(answer) is float else answer

        return as_machine_code


class Loader(SourceFileLoader):
    """Loader of a changed module, whose records have attributes as in machine code."""

    changed: Changed

    def get_code(self, fullname: str) -> CodeType | None:
        """Return a module's code, or a job's."""
        return self.changed.code.get(fullname) or super().get_code(fullname)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module, and adapt its records and compiled functions."""
        super().exec_module(module)
        for name, value in list(vars(module).items()) if self.changed.plain else ():
            if isinstance(value, np.dtype) and value.fields:
                setattr(module, name, np.dtype((np.record, value)))
            elif module.__name__ in self.changed.plain and hasattr(value, "py_func"):
                setattr(module, name, _with_attributes(value))
            elif module.__name__ == KERNELS and name in DECORATORS:
                setattr(module, name, partial(self.changed.decorated, value))


def _with_attributes(compiled: Callable[..., Any]) -> Callable[..., Any]:
    return wraps(compiled)(lambda *args: _as_records(compiled(*args)))


def _as_records(answer: Any) -> Any:
    """Return a compiled function's result with attributes of records, also inside tuples."""
    if isinstance(answer, np.ndarray) and answer.dtype.fields:
        return answer.view(np.dtype((np.record, answer.dtype)))
    if isinstance(answer, tuple):
        parts = map(_as_records, answer)
        return answer._make(parts) if hasattr(answer, "_make") else tuple(parts)
    return answer


def _module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts)


def measure(
    root: Path,
    tests: dict[str, list[str]],
    equivalents: Collection[tuple[str, ...]] = (),
    number: int = 9,
    seed: int = 1,
    workers: int = 2,
    most: tuple[float, float] = (4.0, 10.0),
) -> list[tuple[Mutant, Verdict]]:
    """Return every mutant with its verdict.

    It ends if tests fail without a change, and if a file, or one of its compiled functions, has no
    mutant.

    most: limit of a mutant's processor time: multiple of its unchanged file's, and seconds added.
    """
    if none := [name for file in tests for name in without_mutants(root, file)]:
        raise SystemExit(f"no mutant of {', '.join(none)}")
    calm = dict[str, float]()
    whole = [Job(file, None, names, 3_600.0) for file, names in tests.items()]
    for k, verdict in verdicts(root, whole, workers):
        if not verdict.passed:
            raise SystemExit(
                f"{whole[k].file}: its tests fail though nothing is changed\n{verdict.words}"
            )
        calm[whole[k].file] = most[1] + most[0] * verdict.seconds
    drawn = [m for file in tests for m in mutants(root, file, number, seed)]
    drawn = [m for m in drawn if m[:4] not in equivalents]
    if none := sorted(set(tests) - {mutant.file for mutant in drawn}):
        raise SystemExit(f"no mutant of {', '.join(none)} but equivalents: draw more")
    found = {}
    jobs = [Job(m.file, m.code, tests[m.file], calm[m.file]) for m in drawn]
    for k, verdict in verdicts(root, jobs, workers):
        # Its tests passed on the unchanged file: a mutant that they cannot even import is caught.
        found[k] = drawn[k], verdict
        outcome = "SURVIVED" if verdict.passed else "caught"
        print(
            f"{len(found)}/{len(jobs)} {outcome} {mutant_text(drawn[k])}",
            file=sys.stderr,
            flush=True,
        )
    return [found[k] for k in sorted(found)]


def mutant_text(mutant: Mutant) -> str:
    """Return a mutant in one line."""
    return f"{mutant.file}:{mutant.line} {mutant.function}: {mutant.before}  →  {mutant.after}"


def report(found: Sequence[tuple[Mutant, Verdict]]) -> tuple[str, bool]:
    """Return the survivors and the shares caught, and whether these suffice."""
    counts: dict[str, list[bool]] = {}
    for mutant, verdict in found:
        counts.setdefault(mutant.file, []).append(not verdict.passed)
    counts["all"] = [not verdict.passed for _, verdict in found]
    lines = [mutant_text(mutant) for mutant, verdict in found if verdict.passed]
    lines = [f"{len(lines)} survivors", *lines, f"\n{'file':44} mutants  caught   share"]
    shares = {name: sum(caught) / max(len(caught), 1) for name, caught in counts.items()}
    low = {name for name in shares if shares[name] < (IN_ALL if name == "all" else IN_A_FILE)}
    for name, caught in counts.items():
        below = "  too few" if name in low else ""
        lines.append(f"{name:44}{len(caught):8}{sum(caught):8}{shares[name]:8.1%}{below}")
    return "\n".join(lines), not low


def main() -> None:
    """Measure, print, and exit with 1 if too few were caught."""
    data = tomllib.loads((HERE / "files.toml").read_text())
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", choices=[[], *data["tests"]], metavar="file")
    for name, default in (("number", 9), ("seed", 1), ("workers", 2)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{default} by default")
    asked = vars(parser.parse_args())
    left_out = [f"--deselect={name}" for name in data["left_out"]]
    chosen = asked.pop("files") or data["tests"]
    tests = {file: [*data["tests"][file], *left_out] for file in chosen}
    known = tomllib.loads((HERE / "equivalent.toml").read_text())["mutant"]
    equivalents = {(e["file"], e["function"], e["before"], e["after"]) for e in known}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    for name in HEAVY.split():
        importlib.import_module(name)
    text, enough = report(measure(HERE.parent.parent, tests, equivalents, **asked))
    print(text)
    sys.exit(not enough)


if __name__ == "__main__":
    main()
