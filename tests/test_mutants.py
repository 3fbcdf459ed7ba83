"""The mutation tester itself, on a room of one file; and its list of what no test can notice."""

from __future__ import annotations

import shutil
import tomllib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from tools.mutants.changes import keys, mutants
from tools.mutants.measure import HERE, measure, report

SUMS = '''"""Sums."""

RATE = 0.5


def fee(value: float, least: float) -> float:
    """A rate of 3 %."""
    return max(value * RATE, least)


def unwatched(value: int) -> int:
    return value - 7


def runs_down(value: int) -> int:
    while value > 0:
        value -= 1
    return value
'''
TESTS = """
from toy.sums import fee, runs_down, unwatched

def test_a_fee():
    assert [fee(4.0, 1.0), fee(1.0, 1.0)] == [2.0, 1.0]
    assert unwatched(1) < 0

def test_it_ends():
    assert runs_down(3) == 0
"""
ROOT = HERE.parent.parent
LIST = {"toy/sums.py": ["tests/test_sums.py"]}
MOST = (1.5, 0.0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy")
    for name, text in {
        "toy/__init__.py": "",
        "toy/sums.py": SUMS,
        "tests/test_sums.py": TESTS,
    }.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    return root


def measured(*given: Any, **limits: Any) -> tuple[dict[tuple[str, str], bool | None], str, bool]:
    """Whether each mutant passed, and the report, from a process of its own.

    A worker of the tests has threads, and a fork of it may wait for a lock that one of them held.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measured, *given, **limits).result()


def _measured(*given: Any, **limits: Any) -> tuple[dict[tuple[str, str], bool | None], str, bool]:
    every = measure(*given, **limits)
    return {(m.before, m.after): verdict.passed for m, verdict in every}, *report(every)


CAUGHT = [
    ("return max(value * RATE, least)", "return min(value * RATE, least)"),
    ("RATE = 0.5", "RATE = 0.25"),
    ("value -= 1", "pass"),  # an endless loop ends
    ("return value - 7", "return value + 7"),
]
SURVIVES = ("return value - 7", "return value - 8")


@pytest.mark.slow
def test_mutation_run_reports_survivors_and_skips_equivalent_mutants(root: Path) -> None:
    drawn = {m[:4] for m in mutants(root, "toy/sums.py", 100, 1)}
    wanted = {key for key in drawn if key[2:] in {*CAUGHT, SURVIVES}}
    passed, text, enough = measured(root, LIST, drawn - wanted, number=100, most=MOST)
    assert passed == {**dict.fromkeys(CAUGHT, False), SURVIVES: True}
    assert "toy/sums.py:12 unwatched: return value - 7  →  return value - 8" in text
    assert not enough
    with pytest.raises(SystemExit, match=r"no mutant of toy/sums\.py but equivalents"):
        measure(root, LIST, drawn, number=100, most=MOST)


def test_strings_and_types_are_unmutated_and_seeds_reproducible(root: Path) -> None:
    every = mutants(root, "toy/sums.py", 100, 1)
    assert {m.line for m in every} == {3, 8, 12, 16, 17, 18}
    drawn = [m[:4] for m in mutants(root, "toy/sums.py", 4, 1)]
    assert drawn == [m[:4] for m in mutants(root, "toy/sums.py", 4, 1)]
    assert len(set(drawn)) == 4
    assert drawn != [m[:4] for m in mutants(root, "toy/sums.py", 4, 2)]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ('"""Nothing."""\n', "no mutant of toy/sums.py$"),
        (f"{SUMS}\n@compiled\ndef same(x):\n    return x\n", "no mutant of toy/sums.py same$"),
    ],
)
def test_mutation_run_fails_for_code_without_mutants(
    root: Path, tmp_path: Path, code: str, said: str
) -> None:
    copy = shutil.copytree(root, tmp_path / "copy")
    (copy / "toy" / "sums.py").write_text(code)
    with pytest.raises(SystemExit, match=said):
        measure(copy, LIST)


def test_compiled_wrappers_are_mutated_by_swapping_arguments(root: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(root, tmp_path / "copy")
    (copy / "toy" / "sums.py").write_text("@jit_inline\ndef both(a, b):\n    return pair(a, b)\n")
    (found,) = mutants(copy, "toy/sums.py", 100, 1)
    assert found[:4] == ("toy/sums.py", "both", "return pair(a, b)", "return pair(b, a)")


@pytest.mark.slow
def test_failing_unmutated_tests_abort_the_measurement(root: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(root, tmp_path / "copy")
    (copy / "tests" / "test_sums.py").write_text(f"{TESTS}    assert False\n")
    with pytest.raises(SystemExit, match="fail though nothing is changed"):
        measured(copy, LIST)


@pytest.mark.slow
def test_every_listed_equivalent_mutant_still_exists() -> None:
    """An entry for removed code is obsolete."""
    entries = tomllib.loads((HERE / "equivalent.toml").read_text())["mutant"]
    known = {(e["file"], e["function"], e["before"], e["after"]) for e in entries}
    every = set[tuple[str, ...]]().union(
        *(keys(ROOT, file) for file in {e["file"] for e in entries})
    )
    assert known <= every, sorted(known - every)
