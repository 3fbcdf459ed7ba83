"""Runs side by side: the leads, the curves and the totals have one end; who is best of all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketsimulator.results.comparison import Comparison
from marketsimulator.results.comparison import compared as compared_records
from marketsimulator.results.comparison_page import coloured, growth_chart
from marketsimulator.results.run_record import read_run
from marketsimulator.results.run_set import best_first, length_remarks, separation, set_verdict
from tests.marketsimulator.run_folder_files import write_run
from tests.marketsimulator.test_run_comparison import set_of

NOISE = np.random.default_rng(7).normal(0.0005, 0.01, (6, 80))


def compared(*folders: Path) -> Comparison:
    return compared_records(list(map(read_run, folders)))


def test_what_is_ahead_and_where_curves_end_is_what_the_totals_say(tmp_path: Path) -> None:
    tails = (0.05, -0.04, 0.0)
    found = compared(
        *(write_run(tmp_path / f"r{k}", returns=NOISE[k], tail=tails[k]) for k in range(3))
    )
    runs, totals = found.runs, found.table["total_return"].to_numpy()
    at, growth = runs.growth()
    assert (at[-1], len(at)) == (runs.at[-1] + np.timedelta64(3, "h"), runs.days + 2)
    np.testing.assert_allclose(growth[:, -1], totals, rtol=1e-12)
    chart = growth_chart(runs, coloured(runs))
    assert all(f"{name} {total:.2%}" in chart.text
               for name, total in zip(runs.names, totals, strict=True))  # fmt: skip
    told = separation(runs)
    for k, lead in enumerate(told.leads):
        if lead is not None:
            ahead = (1 + totals[k]) / (1 + totals[told.best]) - 1
            assert lead.ahead == pytest.approx(ahead, rel=1e-9)
    assert [row["lead"] is None for row in found.summary()["runs"]] == [True, False, False]


def test_runs_that_end_at_other_hours_are_compared_to_the_last_close_of_both(
    tmp_path: Path,
) -> None:
    one = write_run(tmp_path / "one", returns=NOISE[0], tail=0.2)
    other = write_run(tmp_path / "other", returns=NOISE[1], tail=-0.2, hours=4)
    found = compared(one, other)
    assert found.runs.end == found.runs.at[-1]
    totals = np.prod(1 + NOISE[:2], axis=1) - 1
    np.testing.assert_allclose(found.table["total_return"], totals, rtol=1e-9)
    assert any("not over the same hours" in warning for warning in found.warnings)


def test_what_differs_after_the_last_close_alone_is_not_the_same() -> None:
    runs = set_of(NOISE[[0, 0]])
    assert separation(runs).relations == ("best", "same")
    end = runs.end + np.timedelta64(3, "h")
    runs = replace(runs, end=end, final=runs.final * [1.0, 0.99])
    assert separation(runs).relations == ("best", "untold")


def test_a_run_that_is_ruined_after_the_last_close_is_ruined() -> None:
    runs = set_of(NOISE[:2])
    runs = replace(runs, final=runs.final * [1.0, 0.0])
    assert separation(runs).relations == ("best", "ruined")


@pytest.mark.slow
@given(st.integers(0, 10_000))
def test_where_all_lost_the_best_is_the_one_that_lost_the_least(seed: int) -> None:
    rng = np.random.default_rng(seed)
    swings = rng.normal(0, 1, (4, 30)) * rng.uniform(0.001, 0.02, (4, 1))
    runs = set_of(swings + rng.choice([-0.004, 0.0]))
    totals = runs.totals
    best = separation(runs).best
    if (totals < 0).all():
        assert best == totals.argmax()
        assert "All lost: the best is the one that lost the least" in (
            set_verdict(runs, separation(runs)).rest
        )
    else:
        assert best == runs.sharpes.argmax()
        assert "highest Sharpe ratio" in set_verdict(runs, separation(runs)).rest


def test_more_risk_makes_no_loss_the_best() -> None:
    # Both lose; the second loses more, with so much more risk that its ratio is the higher one.
    swing = np.tile([0.001, -0.001], 15)
    runs = set_of(np.array([swing - 0.001, 30 * swing - 0.002]))
    assert runs.sharpes[1] > runs.sharpes[0]
    assert runs.ranking() == [0, 1]
    [remark] = length_remarks(runs)
    assert remark.endswith("in the order of returns, as all lost.")
    assert best_first(runs.sharpes, runs.totals) == [0, 1]
    assert best_first(runs.sharpes, runs.totals + 1.0) == [1, 0]


def test_many_that_are_not_told_apart_are_any_of_the_others() -> None:
    level = np.random.default_rng(1).normal(0, 0.01, (4, 120))
    runs = set_of(level - level.mean(axis=1, keepdims=True) + 0.0003)
    claim = set_verdict(runs, separation(runs)).claim
    assert claim.endswith("cannot be told apart from any of the 3 others.")


def test_no_interval_is_explained_where_there_is_none() -> None:
    runs = set_of(NOISE[:3, :12])
    assert "Intervals" not in set_verdict(runs, separation(runs)).rest
