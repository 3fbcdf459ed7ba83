"""Kelly over a history without costs, and solvers that fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import InputError
from sizing.kelly import SizingProblem, SolverFailed, failure_text, kelly_weights
from sizing.solver.active_set import INFEASIBLE


def history(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 30))
    n = int(rng.integers(1, 9))
    factors = rng.normal(0, 0.01, (count, n, n + 2))
    crypto = rng.random(n) < 0.3
    return {
        "mu": rng.normal(0, 1e-3, (count, n)),
        "covariance": factors @ factors.transpose(0, 2, 1) / n,
        "lower": np.where(crypto, 0.0, -0.6),
        "upper": np.full((count, n), 0.6),
        "groups": [(~crypto, rng.choice([2.0, 4.0], count)), (crypto, 1.0)],
    }


@given(st.integers(0, 100_000))
def test_a_history_is_its_instants_one_by_one(seed: int) -> None:
    p = history(seed)
    together = kelly_weights(**p, fraction=0.25)
    for t in range(len(p["mu"])):
        groups = [(p["groups"][0][0], p["groups"][0][1][t]), p["groups"][1]]
        alone = kelly_weights(
            p["mu"][t],
            p["covariance"][t],
            fraction=0.25,
            lower=p["lower"],
            upper=p["upper"][t],
            groups=groups,
        )
        np.testing.assert_array_equal(together[t], alone)
    one = kelly_weights(p["mu"], p["covariance"][0], lower=p["lower"], upper=p["upper"][0])
    np.testing.assert_array_equal(
        one[0], kelly_weights(p["mu"][0], p["covariance"][0], lower=p["lower"], upper=p["upper"][0])
    )


def test_a_failure_is_named_and_keeps_its_problem(tmp_path: Path) -> None:
    bounds = {"lower": [0.0, 0.5], "upper": [1.0, 1.0], "groups": [([1.0, 1.0], 0.2)]}
    with pytest.raises(
        SolverFailed, match="2 symbols has no answer: their lower bounds exceed a ceiling"
    ) as failed:
        kelly_weights([1e-3, 0.0], np.eye(2) * 1e-4, fraction=0.25, cost=[1e-4, 1e-4], **bounds)
    assert str(failed.value) == failure_text(INFEASIBLE, 2)
    failed.value.problem.save(tmp_path / "problem.npz")
    kept = SizingProblem.read(tmp_path / "problem.npz")
    assert kept.fraction == 0.25
    assert kept.mu.tolist() == [[1e-3, 0.0]]
    assert kept.limits.tolist() == [0.2]
    assert kept.solve()[0] == failed.value.problem.solve()[0]
    with pytest.raises(SolverFailed, match="row 1: "):
        kelly_weights(
            np.zeros((2, 1)),
            [[1.0]],
            lower=np.array([[0.0], [0.5]]),
            upper=[1.0],
            groups=[([1.0], 0.2)],
        )
    for name, content in (("none.npz", None), ("text.npz", b"no archive"), ("empty.npz", b"")):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            SizingProblem.read(tmp_path / name)
