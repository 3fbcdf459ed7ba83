"""No stale machine code: what is kept is named after all that a compiled function executes."""

# Private access: digests are cached per process, and a disk is full while files are saved.
from __future__ import annotations

import ast
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from foundation import PACKAGES
from foundation import compiled as kept_code
from foundation.arrays import Array
from foundation.compiled import compiled

DECORATORS = {"compiled", "jit_fastmath", "jit_inline", "jit_inline_ir", "jit_or_python"}
ROOT = Path(__file__).resolve().parent.parent.parent
KERNEL = """from sizing.inner import inner
from foundation.compiled import compiled


@compiled
def double(x: float) -> float:
    \"\"\"Twice.\"\"\"
    return 2.0 * inner(x)
"""
INNER = "from execution.rates import RATE\n\n\ndef inner(x):\n    return RATE * x\n"
RATES = 'RATE = 0.5\nSIDES = frozenset({"buy", "sell", "short"})\n'


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A kernel, what it calls in another file, and a number that this takes from a third."""
    for room in ("sizing", "execution", "forecasting"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").touch()
    (tmp_path / "sizing" / "kernel.py").write_text(KERNEL)
    (tmp_path / "sizing" / "inner.py").write_text(INNER)
    (tmp_path / "execution" / "rates.py").write_text(RATES)
    (tmp_path / "forecasting" / "other.py").write_text("WORDS = 1\n")
    return tmp_path


def digest(house: Path) -> str:
    """As a new process takes it."""
    kept = kept_code.module_digest, kept_code._single_module_digest, kept_code._imported_modules
    for each in (*kept, kept_code._files, kept_code._load_module_code):
        each.cache_clear()
    return kept_code.module_digest("sizing.kernel", house)


@pytest.mark.parametrize(
    ("place", "before", "after", "anew"),
    [
        ("sizing/kernel.py", "2.0", "3.0", True),
        ("sizing/inner.py", "RATE * x", "RATE + x", True),
        ("execution/rates.py", "0.5", "0.25", True),
        ("execution/rates.py", "short", "cover", True),
        ("sizing/kernel.py", "Twice.", "Two times\n    its half.", False),
        ("sizing/inner.py", "def", "# why\n\n\ndef", False),
        ("forecasting/other.py", "1", "2", False),
    ],
)
def test_kernel_recompiles_only_when_its_executed_code_changes(
    house: Path, place: str, before: str, after: str, anew: bool
) -> None:
    first = digest(house)
    path = house / place
    path.write_text(path.read_text().replace(before, after))
    assert (digest(house) != first) == anew


def test_code_digest_is_the_same_in_every_process() -> None:
    code = (
        "from foundation.compiled import module_digest; print(module_digest('sizing.allocation'))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(found) == 1
    assert found != {""}


def test_compilation_is_logged_by_function_name(caplog: pytest.LogCaptureFixture) -> None:
    def doubled(x: float) -> float:
        return 2.0 * x

    with caplog.at_level(logging.INFO):
        assert compiled(doubled)(1.5) == 3.0
    assert [line.split(".")[-1] for line in caplog.messages] == ["enter", "doubled"]
    assert caplog.messages[0].startswith("compiling ")


def test_a_callee_is_compiled_at_its_first_call(caplog: pytest.LogCaptureFixture) -> None:
    @compiled
    def halved(x: float) -> float:
        return x / 2.0

    @compiled
    def magnitude(x: float) -> float:
        return halved(-x) if x < 0.0 else x

    def named() -> set[str]:
        return {line.split(".")[-1] for line in caplog.messages}

    with caplog.at_level(logging.INFO):
        assert magnitude(3.0) == 3.0
        assert "halved" not in named()
        assert magnitude(x=-3.0) == 1.5
        assert "halved" in named()


def test_compiled_callee_errors_reach_python() -> None:
    @compiled
    def checked(x: float) -> float:
        if x < 0.0:
            raise ValueError("below zero")
        return x

    @compiled
    def summed(values: Array) -> float:
        total = 0.0
        for value in values:
            total += checked(value)
        return total

    assert summed(np.array([1.0, 2.0])) == 3.0
    with pytest.raises(ValueError, match="below zero"):
        summed(np.array([1.0, -2.0]))


def test_compiled_result_not_matching_its_annotation_is_refused() -> None:
    @compiled
    def table(size: int) -> Array:
        return np.zeros((size, size))

    @compiled
    def first(size: int) -> float:
        return table(size)[0]

    text = r"table.*returns array\(float64, 2d, C\), but is annotated as array\(float64, 1d, C\)"
    with pytest.raises(TypeError, match=text):
        first(2)


CALL = """
import logging
import numpy as np
logging.basicConfig(level=logging.INFO)
from foundation.compiled import true_indices
print(true_indices(np.array([True, False, True])).tolist())
"""


@pytest.fixture
def call(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Return a function that starts a process, which calls a compiled function of a copy."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "foundation", tmp_path / "foundation", ignore=ignored)

    def start(**env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", CALL],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.mark.slow
def test_compiled_code_is_reused_by_another_process(
    call: Callable[..., subprocess.Popen[str]],
) -> None:
    first, second = (call().communicate() for _ in range(2))
    assert "compiling true_indices" in first[1]
    assert second == ("[0, 2]\n", "")


@pytest.mark.slow
def test_code_compiled_for_another_cpu_is_not_used(
    call: Callable[..., subprocess.Popen[str]],
) -> None:
    runs = [call(**env).communicate() for env in ({}, {"NUMBA_CPU_NAME": "generic"}, {})]
    assert [output for output, _ in runs] == ["[0, 2]\n"] * 3
    assert ["compiling true_indices" in said for _, said in runs] == [True, True, False]


@pytest.mark.slow
def test_interrupted_compilation_is_repeated(call: Callable[..., subprocess.Popen[str]]) -> None:
    with call() as killed:
        assert killed.stderr is not None
        assert "compiling true_indices" in killed.stderr.readline()
        killed.kill()
    output, said = call().communicate()
    assert output == "[0, 2]\n"
    assert "compiling true_indices" in said


@pytest.mark.slow
def test_two_processes_compile_a_function_once(call: Callable[..., subprocess.Popen[str]]) -> None:
    runs = [one.communicate() for one in [call(), call()]]
    assert [output for output, _ in runs] == ["[0, 2]\n"] * 2
    assert sum("compiling true_indices\n" in said for _, said in runs) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "content"), [("nbi", b""), ("nbc", b"\0" * 2000)])
def test_damaged_compilation_cache_is_recompiled(
    call: Callable[..., subprocess.Popen[str]], tmp_path: Path, suffix: str, content: bytes
) -> None:
    call().communicate()
    for path in tmp_path.rglob(f"*.{suffix}"):
        path.write_bytes(content)
    runs = [call().communicate() for _ in range(2)]
    assert [output for output, _ in runs] == ["[0, 2]\n"] * 2
    assert ["compiling true_indices" in said for _, said in runs] == [True, False]


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 1000])
def test_compiled_function_runs_despite_a_full_disk(
    call: Callable[..., subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
    monkeypatch.setattr(f"{__name__}.CALL", limit + CALL)
    assert call().communicate()[0] == "[0, 2]\n"


@pytest.mark.slow
def test_unwritable_compilation_cache_writes_no_files_beside_source(
    call: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    kept = tmp_path / "foundation" / "__pycache__" / "compiled"
    kept.parent.mkdir()
    kept.touch(0o755)  # a file: no folder can be made there, not by root either
    assert call(HOME=str(tmp_path)).communicate()[0] == "[0, 2]\n"
    assert not list(tmp_path.rglob("*.nbi"))


def test_compiled_code_of_two_signatures_never_shares_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = kept_code._CodeCacheFile(str(tmp_path), "function", "stamp")
    files.save("float", 1.0)
    (tmp_path / "function.nbi").unlink()  # as of a source whose comment changed
    with monkeypatch.context() as full:
        full.setattr(files, "_save_data", lambda name, data: (_ for _ in ()).throw(OSError(28)))
        with pytest.raises(OSError, match="28"):
            files.save("int", 1)
    assert files.load("int") is None
    files.save("int", 1)
    files.save("float", 2.0)
    assert (files.load("int"), files.load("float")) == (1, 2.0)


ENDLESS = """from foundation.compiled import jit_inline


@jit_inline
def endless(n):
    return 0 if n == 0 else endless(n - 1)
"""


@pytest.mark.slow
def test_endless_inlined_recursion_is_refused_without_hanging(
    call: Callable[..., subprocess.Popen[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "foundation" / "endless.py").write_text(ENDLESS)
    code = "from foundation.endless import endless; endless(1)"
    monkeypatch.setattr(f"{__name__}.CALL", code)
    with call() as process:
        try:
            assert "TypingError" in process.communicate(timeout=60)[1]
        finally:
            process.kill()


@pytest.mark.slow
def test_kernels_have_no_assertions_and_live_in_packages() -> None:
    """Compiled code contains no assertions, and code outside the packages is not cached."""
    decorated = re.compile(rf"^@({'|'.join(DECORATORS)})\b", re.MULTILINE)
    files = [
        path
        for path in ROOT.rglob("*.py")
        if not {".venv", "tests", "build"} & set(path.relative_to(ROOT).parts)
    ]
    kernels = [path for path in files if decorated.search(path.read_text())]
    assert len(kernels) > 20
    outside = [path for path in kernels if path.relative_to(ROOT).parts[0] not in PACKAGES]
    assert outside == []
    asserting = [
        path
        for path in kernels
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef) and _is_compiled(function)
        for each in ast.walk(function)
        if isinstance(each, ast.Assert)
    ]
    assert asserting == []


def _is_compiled(function: ast.FunctionDef) -> bool:
    names = {getattr(each, "id", "") for each in function.decorator_list}
    return bool(names & DECORATORS)
