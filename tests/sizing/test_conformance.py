"""A strategy of one's own that breaks what the system relies on is told so, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from foundation.errors import InputError
from sizing.allocation import Allocation
from sizing.conformance import check_strategy, random_situation
from sizing.kelly import SolverFailed
from sizing.limits import Limits
from sizing.situation import Situation
from sizing.strategies import NAMES, Kelly, named
from tests.own_module import own_module
from trainingdata.instruments import Kind


@pytest.mark.parametrize("name", NAMES)
def test_the_systems_own_strategies_conform(name: str) -> None:
    assert check_strategy(named(name), tries=30) == ()


@dataclass(frozen=True)
class Bent:
    """Half-Kelly whose answer is changed before it is handed over."""

    change: Callable[[Situation, Allocation], object]
    holding: str | None = None
    uses_forecast: object = True
    uses_premium: bool = True
    text: str = "bent sizing"

    def allocate(self, situation: Situation, limits: Limits) -> object:
        return self.change(situation, Kelly().allocate(situation, limits))

    def phrase(self, kind: Kind, stock_ceiling: float) -> str:
        return self.text


def moved(change: Callable[[Situation, np.ndarray], np.ndarray]) -> Bent:
    """Half-Kelly whose targets are changed."""
    return Bent(lambda s, a: replace(a, target=change(s, a.target)))


def _spoil(situation: Situation, allocation: Allocation) -> Allocation:
    situation.held[:] = 0.123
    return allocation


CHANCE = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("strategy", "fault"),
    [
        (Bent(lambda s, a: a, uses_forecast="yes"), "uses_forecast must be True or False"),
        (Bent(lambda s, a: a, holding="week"), "holding must be one of"),
        (Bent(lambda s, a: a, text="two\nlines"), "phrase must be one line"),
        (Bent(lambda s, a: a.target), "returns a ndarray instead of an Allocation"),
        (Bent(_spoil), "changes the situation"),
        (Bent(lambda s, a: replace(a, binding=())), "binding must be a mapping for each"),
        (Bent(lambda s, a: replace(a, unlimited=np.zeros(1))), "unlimited must have a weight"),
        (Bent(lambda s, a: Kelly().allocate(s, Limits())), "beyond its symbol's bounds"),
        (moved(lambda s, w: w * np.nan), "a target is not finite"),
        (
            moved(lambda s, w: np.where(s.deciding, w * CHANCE.random(), w)),
            "sized by what was sized before",
        ),
        (moved(lambda s, w: w + 0.01), "does not decide is moved"),
        (moved(lambda s, w: np.where(s.deciding, 3.0, w)), "beyond its symbol's bounds"),
        (moved(lambda s, w: np.where(s.deciding, 0.05, w)), "above the ceiling"),
        (
            moved(lambda s, w: np.where(s.deciding & ~s.long_only, -0.5, w)),
            "above the ceiling stock_gross",
        ),
    ],
)
def test_each_fault_is_named(strategy: Bent, fault: str) -> None:
    faults = check_strategy(strategy)  # type: ignore[arg-type]
    assert any(fault in sentence for sentence in faults), faults


class Seldom(Kelly):
    """Half-Kelly that has no answer to some books."""

    def __init__(self, unanswered: Callable[[Situation], bool]) -> None:
        super().__init__()
        object.__setattr__(self, "unanswered", unanswered)

    def allocate(self, situation: Situation, limits: Limits) -> Allocation:
        answer = super().allocate(situation, limits)
        if self.unanswered(situation):  # type: ignore[attr-defined]
            raise SolverFailed("no\nanswer", None)  # type: ignore[arg-type]
        return answer


def test_a_strategy_without_answers_is_told_so() -> None:
    for unanswered in (lambda s: True, lambda s: len(s.held) == 1):
        (fault,) = check_strategy(Seldom(unanswered))
        assert "of 100 books have no answer, and at most 5% may" in fault
        assert "SolverFailed: no answer (book " in fault
    assert check_strategy(Seldom(lambda s: True))[0].startswith("100 of 100 books")
    assert check_strategy(Seldom(lambda s: len(s.held) == 1 and not s.deciding.all())) == ()


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of strategies of one's own, in the working folder."""
    code = (
        "import numpy as np\n"
        "from sizing.strategies import Kelly, named\n"
        "def up(s): return np.where(s.mu > 0, 0.1, 0.0)\n"
        "def short(s): return np.zeros(1)\n"
        "class Half(Kelly): pass\n"
        "quarter = Kelly(0.25)\n"
        "premium = named('premium_50')\n"
        "number = 3\n"
        "class Wild(Kelly):\n"
        "    def allocate(self, situation, limits):\n"
        "        from dataclasses import replace\n"
        "        answer = super().allocate(situation, limits)\n"
        "        return replace(answer, target=np.where(situation.deciding, 9.0, situation.held))\n"
        "class Weekly:\n"
        "    uses_forecast = uses_premium = True\n"
        "    holding = 'week'\n"
        "    def allocate(self, situation, limits): return None\n"
        "    def phrase(self, kind, ceiling): return 'weekly'\n"
        "def writes(s):\n"
        "    s.held[:] = 0.5\n"
        "    return s.held\n"
    )
    return own_module(code, tmp_path, monkeypatch)


def test_a_function_a_class_and_a_value_of_ones_own_are_strategies(own: str) -> None:
    for attribute in ("up", "Half", "quarter"):
        assert check_strategy(named(f"{own}:{attribute}"), tries=10) == ()
    assert named(f"{own}:up").phrase(Kind.STOCK, 4.0) == f"{own}:up sizing"
    assert named(f"{own}:quarter").uses_forecast
    assert not named(f"{own}:premium").uses_forecast
    situation = random_situation(np.random.default_rng(3))
    quarter = named(f"{own}:quarter").allocate(situation, Limits())
    np.testing.assert_array_equal(quarter.target, Kelly(0.25).allocate(situation, Limits()).target)


def test_what_a_strategy_of_ones_own_answers_is_looked_at_in_every_run(own: str) -> None:
    """One that goes beyond the limits, or says nonsense of itself, makes no orders."""
    situation = random_situation(np.random.default_rng(3))
    with pytest.raises(InputError, match=r"sizing\.strategy: .*:Wild: a target lies beyond"):
        named(f"{own}:Wild").allocate(situation, Limits())
    with pytest.raises(InputError, match=r"sizing\.strategy: .*:Weekly: holding must be one of"):
        named(f"{own}:Weekly")
    before = situation.held.copy()
    with pytest.raises(
        InputError, match=rf"it writes into held in {own}\.py line 20; write into a"
    ):
        named(f"{own}:writes").allocate(situation, Limits())
    np.testing.assert_array_equal(situation.held, before)


def test_what_is_no_strategy_is_refused_by_name(own: str) -> None:
    with pytest.raises(InputError, match="is no strategy, class or function but int"):
        named(f"{own}:number")
    with pytest.raises(InputError, match=r"must return .* finite weights"):
        check_strategy(named(f"{own}:short"))
    with pytest.raises(InputError, match=r"sizing.fraction: .*:up has none"):
        named(f"{own}:up", fraction=0.3)
    with pytest.raises(InputError, match="or module:function"):
        named("martingale")
