"""The measurement itself, on a room of one file."""

from __future__ import annotations

import pytest

from tests.mutants.changes import Mutant, mutants
from tests.mutants.children import Farm, Verdict
from tests.mutants.measure import Equivalents, measure, report

# One worker runs them all: what their fixture makes takes half a minute.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("mutants")]

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


Found = list[tuple[Mutant, Verdict]]


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Farm:
    root = tmp_path_factory.mktemp("toy")
    for name, text in {
        "toy/__init__.py": "",
        "toy/sums.py": SUMS,
        "tests/test_sums.py": TESTS,
    }.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    return Farm(root, frozenset({"toy"}))


@pytest.fixture(scope="module")
def every(farm: Farm) -> Found:
    return measured(farm, {})[0]


def measured(farm: Farm, known: Equivalents) -> tuple[Found, list[Mutant]]:
    return measure(
        farm, {"toy/sums.py": ("tests/test_sums.py",)}, known, 100, 1, patience=(1.5, 0.0)
    )


def test_what_no_test_watches_survives_and_the_rest_is_caught(every: Found) -> None:
    passed = {(m.before, m.after): verdict.passed for m, verdict in every}
    assert passed["return max(value * RATE, least)", "return min(value * RATE, least)"] is False
    assert passed["RATE = 0.5", "RATE = 0.25"] is False
    assert passed["value -= 1", "pass"] is False, "an endless loop ends"
    assert passed["return value - 7", "return value - 8"] is True
    assert passed["return value - 7", "return value + 7"] is False
    text, enough = report(every, [])
    assert "toy/sums.py:12 unwatched: return value - 7  →  return value - 8" in text
    assert not enough


def test_what_is_known_to_make_no_difference_is_no_mutant(farm: Farm, every: Found) -> None:
    known = {mutant.key: "toy" for mutant, verdict in every if not verdict.passed}
    found, same = measured(farm, known)
    assert {mutant.key for mutant in same} == set(known)
    assert [mutant.key for mutant, _ in found] == [
        mutant.key for mutant, verdict in every if verdict.passed
    ]
    text, _ = report(found, same)
    assert f"{len(same)} more make no difference" in text


def test_words_and_types_are_no_mutants_and_a_seed_draws_the_same(farm: Farm) -> None:
    every = mutants(farm.root, "toy/sums.py", 100, 1)
    assert {m.line for m in every} == {3, 8, 12, 16, 17, 18}
    drawn = [m.key for m in mutants(farm.root, "toy/sums.py", 4, 1)]
    assert drawn == [m.key for m in mutants(farm.root, "toy/sums.py", 4, 1)]
    assert len(set(drawn)) == 4
    assert drawn != [m.key for m in mutants(farm.root, "toy/sums.py", 4, 2)]


def test_tests_that_fail_unchanged_measure_nothing(farm: Farm) -> None:
    """Last: it spoils the toy."""
    (farm.root / "tests" / "test_sums.py").write_text(TESTS + "    assert False\n")
    with pytest.raises(SystemExit, match="fail though nothing is changed"):
        measured(farm, {})
