"""What is wrong with a strategy of one's own is one line: the symbol, or the file and its line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from foundation.errors import InputError
from sizing.conformance import check_strategy, random_situation
from sizing.kelly import SolverFailed
from sizing.limits import Limits
from sizing.situation import Situation
from sizing.strategies import named
from tests.own_module import own_module

CODE = """
from dataclasses import dataclass, replace
import numpy as np
import pandas as pd
from sizing import SolverFailed
from sizing.strategies import Kelly
def complex_weights(s): return s.held + 0.1j
def nan(s): return np.where(np.arange(len(s.held)) == len(s.held) - 1, np.nan, 0.1)
def infinite(s): return np.full(len(s.held), np.inf)
def senseless(s): return np.full(len(s.held), -1e9)
def three(s): return np.zeros(3)
def square(s): return np.diag(s.held)
def nothing(s): pass
def words(s): return ["0.1"] * len(s.held)
def ragged(s): return [[0.1], [0.1, 0.2]]
def absent(s): return {"NVDA": 0.3}
def keyed(s): return {symbol: 0.1 for symbol in s.symbols}
def series(s): return pd.Series(0.1, index=s.symbols[::-1])
def sums_singular(s):
    np.linalg.inv(np.zeros((2, 2)))
def exits(s): raise SystemExit(3)
def tree(s): return tree(s)
def writes(s):
    s.covariance[0, 0] = 1.0
    return s.held
def writes_later(s):
    for array in s.later_blocks: array *= 2
    return s.held
def renames(s):
    s.mu = s.held
def in_order(s): return pd.Series(0.01, index=s.symbols)
calls = []
def hundredth(s):
    calls.append(s)
    if len(calls) == 100:
        raise OSError("the feed is gone")
    return s.held
class Own(Kelly):
    pass
class Complex(Own):
    def allocate(self, s, limits):
        a = super().allocate(s, limits)
        return replace(a, target=a.target + 0j)
class Listed(Own):
    def allocate(self, s, limits):
        a = super().allocate(s, limits)
        return replace(a, target=a.target.tolist())
class Wordy(Own):
    def allocate(self, s, limits):
        a = super().allocate(s, limits)
        return replace(a, binding=tuple({"cap": "much"} for _ in a.binding))
class Nan(Own):
    def allocate(self, s, limits):
        a = super().allocate(s, limits)
        return replace(a, target=np.where(s.deciding, np.nan, a.target))
class Boundless(Own):
    def allocate(self, s, limits):
        a = super().allocate(s, limits)
        return replace(a, unlimited=np.full(len(s.held), np.inf))
class Nameless(Own):
    def phrase(self, kind, ceiling): return self.words[kind]
class Failing(Own):
    def allocate(self, s, limits): raise SolverFailed("no answer", None)
def noarg(): return 0.1
def paired(s, limits): return s.held
class Callable:
    def __call__(self): return 0.1
called = Callable()
class Limitless(Own):
    def allocate(self, s: object) -> object: return super().allocate(s)
class Selfless(Own):
    def allocate(): pass
class Mute(Own):
    def phrase(self): return "mute"
class NoArgument:
    def __init__(): pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of strategies, in the working folder."""
    return own_module(CODE, tmp_path, monkeypatch)


def book(later: bool = True) -> Situation:
    """ACME and ZINC at an instant."""
    rng = np.random.default_rng(0)
    while True:
        found = random_situation(rng)
        if len(found.held) == 2 and (found.later is not None) == later:
            break
    values = {name: getattr(found, name) for name in Situation.__dataclass_fields__}
    at = np.datetime64("2024-03-04T15:30", "ns")
    deciding = np.ones(2, dtype=bool)
    return Situation(**values | {"symbols": ("ACME", "ZINC"), "at": at, "deciding": deciding})


BAD = [
    ("complex_weights", r"must return 2 finite weights, one a symbol \(ACME, ZINC\); it returned"),
    ("complex_weights", r"it returned complex numbers$"),
    ("nan", r"it returned NaN for ZINC at 2024-03-04T15:30Z$"),
    ("infinite", r"it returned inf for ACME at 2024-03-04T15:30Z$"),
    ("senseless", r"it returned -1e\+09 for ACME at"),
    ("three", r"it returned an array of shape \(3,\)"),
    ("square", r"it returned an array of shape \(2, 2\)"),
    ("nothing", r"it returned None$"),
    ("words", r"it returned \['0.1', '0.1'\]$"),
    ("ragged", r"it returned \[\[0.1\], \[0.1, 0.2\]\]$"),
    ("absent", r"it returned a dict that names NVDA, which is none of them$"),
    ("keyed", r"it returned a dict: an array in the order of situation.symbols is needed$"),
    ("series", r"it returned a Series: an array in the order of situation.symbols is needed$"),
    ("sums_singular", r":sums_singular fails in OWN\.py line 20: LinAlgError: Singular matrix$"),
    ("exits", r":exits fails in OWN\.py line 21: SystemExit: 3$"),
    ("tree", r":tree fails in OWN\.py line 22: RecursionError"),
    ("writes", r"it writes into covariance in OWN\.py line 24; write into a copy of it$"),
    ("writes_later", r"it writes into later.mu in OWN\.py line 27; write into a copy of it$"),
    ("renames", r":renames fails in OWN\.py line 30: FrozenInstanceError"),
    ("Complex", r": target must be an array of real numbers, it is complex128$"),
    ("Listed", r": target must be an array of real numbers, it is list$"),
    ("Wordy", r": binding must be a mapping for each of 2 symbols, of names to numbers$"),
    ("Nan", r": a target is not finite: NaN for ACME at 2024-03-04T15:30Z$"),
    ("Boundless", r": unlimited is infinite for ACME at 2024-03-04T15:30Z$"),
    ("Nameless", r":Nameless fails in OWN\.py line \d+: AttributeError"),
    ("noarg", r": it is called as noarg\(situation\) and is defined as noarg\(\)$"),
    ("paired", r": it is called as paired\(situation\) and is defined as paired\(s, limits\)$"),
    ("called", r": it is called as called\(situation\) and is defined as called\(\)$"),
    (
        "Limitless",
        r": it is called as allocate\(self, situation, limits\) and is defined as"
        r" allocate\(self, s\)$",
    ),
    ("Selfless", r": it is called as allocate\(self, .* and is defined as allocate\(\)$"),
    (
        "Mute",
        r": it is called as phrase\(self, kind, stock_ceiling\) and is defined as phrase\(self\)$",
    ),
    ("NoArgument", r":NoArgument\(\) fails: TypeError: NoArgument\.__init__\(\) takes 0 pos"),
]


@pytest.mark.parametrize(("name", "line"), BAD)
def test_a_bad_strategy_is_one_line_in_a_run(own: str, name: str, line: str) -> None:
    with pytest.raises(InputError) as caught:
        named(f"{own}:{name}").allocate(book(), Limits())
    said = str(caught.value)
    assert said.startswith(f"sizing.strategy: {own}:{name}")
    assert re.search(line.replace("OWN", own), said), said
    assert "\n" not in said
    assert "checked.py" not in said


@pytest.mark.parametrize("name", [*dict(BAD), "hundredth"])
def test_the_check_finds_it_too(own: str, name: str) -> None:
    try:
        faults = check_strategy(named(f"{own}:{name}"))
    except InputError as error:
        faults = (str(error),)
    assert faults
    assert all("\n" not in fault for fault in faults)


def test_the_hundredth_call_that_fails_is_named_like_the_first(own: str) -> None:
    strategy = named(f"{own}:hundredth")
    for _ in range(99):
        strategy.allocate(book(), Limits())
    with pytest.raises(InputError, match=r"line 36: OSError: the feed is gone$"):
        strategy.allocate(book(), Limits())


def test_a_series_in_the_order_of_the_symbols_is_an_array(own: str) -> None:
    named(f"{own}:in_order").allocate(book(), Limits())


def test_a_program_without_an_answer_stays_the_traders_affair(own: str) -> None:
    """The trader takes no new risk then, or asks its fallback; the run does not end."""
    with pytest.raises(SolverFailed):
        named(f"{own}:Failing").allocate(book(), Limits())
