"""A strategy in Python that compiled code calls: its inputs, and its errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import InputError
from marketsimulator.runs.simulate import simulate_trading
from marketsimulator.runs.strategy_calls import SharedProblemArrays, write_problem
from sizing.problem import DecisionProblem, GroupConstraints
from tests.sizing.books import changed, random_inputs
from tests.support.eager_runs import believing
from tests.support.own_module import own_module

FAILS_LATER = """
import numpy as np

def rule(s):
    if str(s.decision_time) >= "2024-02-20":
        raise KeyboardInterrupt("stop")
    return s.held_weight

def refused(s):
    return np.full(len(s.mu), np.nan if str(s.decision_time) >= "2024-02-20" else 0.0)
"""


def leaves(problem: DecisionProblem) -> list[np.ndarray]:
    """The arrays and numbers of a problem, in order."""
    found: list[np.ndarray] = []
    for part in problem:
        for value in part:
            found += list(map(np.asarray, value if isinstance(value, tuple) else [value]))
    return found


@given(st.integers(0, 2**32 - 1), st.integers(0, 3), st.integers(0, 2), st.integers(0, 2))
def test_sizing_problem_survives_flattening_into_arrays(
    seed: int, absent: int, gross: int, net: int
) -> None:
    """The copy agrees to the bit, also with fewer symbols than the panel."""
    rng = np.random.default_rng(seed)
    s = random_inputs(rng)
    n, periods = len(s.mu), len(s.problem.returns.mu)
    groups = GroupConstraints(
        rng.normal(size=(gross, n)),
        rng.random(gross),
        rng.normal(size=(net, n)),
        rng.random(net),
        -1,
    )
    problem = changed(s, group_constraints=groups).problem
    chosen = np.sort(rng.choice(n + absent, n, replace=False))
    shared = SharedProblemArrays.allocate(periods, n + absent, groups)
    write_problem(shared, problem, chosen)
    copy = shared.read_problem(n, periods, groups)
    for array in shared:
        array[:] = 1
    assert type(copy) is DecisionProblem
    for written, read in zip(leaves(problem), leaves(copy), strict=True):
        assert (read.dtype, read.shape) == (written.dtype, written.shape)
        assert read.flags.c_contiguous
        assert read.tobytes() == written.tobytes()


def test_strategy_error_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = own_module(FAILS_LATER, tmp_path, monkeypatch)
    settings, market, trader = believing(f"sizing.strategy={module}.rule")
    with pytest.raises(KeyboardInterrupt, match="stop"):
        simulate_trading(settings, market, "x", trader)
    settings, market, trader = believing(f"sizing.strategy={module}.refused")
    with pytest.raises(InputError, match="SYA at 2024-02-20"):
        simulate_trading(settings, market, "x", trader)
