"""The watch's rule: two readings that agree, one action, no false alarms."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.decision.watch import (
    MAX_DISAGREEMENT,
    WatchSettings,
    WatchState,
    halt_end,
    next_watch_state,
)

BEGIN = np.datetime64("2024-02-20T15:00", "ns")
MINUTE = np.timedelta64(1, "m")
LIMITS = WatchSettings(daily_loss=0.05, drawdown=0.1, margin=1.1)


def actions(
    indexes: list[float], settings: WatchSettings = LIMITS, margins: list[float] | None = None
) -> list[str]:
    """Why the watch acts at each reading, a minute apart, after a first one at 100."""
    state, reasons = WatchState.first(BEGIN, 100.0), []
    for k, index in enumerate(indexes):
        margin = 0.0 if margins is None else margins[k]
        state, why = next_watch_state(state, BEGIN + (k + 1) * MINUTE, index, margin, settings)
        reasons.append(why)
    return reasons


def test_watch_acts_at_the_second_reading() -> None:
    assert actions([94.9, 94.8, 94.7])[0] == ""
    assert actions([94.9, 94.8])[1] == (
        "daily_loss 0.052 after 0.051 has reached watch.daily_loss, 0.05"
    )
    assert actions([95.1, 94.9, 95.1, 94.9, 95.1]) == [""] * 5
    assert "margin 1.2" in actions([100, 100], margins=[1.2, 1.2])[1]


def test_one_wrong_reading_changes_nothing() -> None:
    for wrong in (1.0, 50.0, 1000.0, 1e9):
        assert actions([100.0, wrong, 100.0, 99.9, 100.0]) == [""] * 5, wrong


def test_two_readings_that_disagree_do_not_act() -> None:
    assert actions([94.0, 94.0 * (1 - MAX_DISAGREEMENT) - 1]) == ["", ""]


def test_readings_of_one_instant_count_once() -> None:
    state = WatchState.first(BEGIN, 100.0)
    for _ in range(3):
        state, why = next_watch_state(state, BEGIN + MINUTE, 80.0, 0.0, LIMITS)
        assert why == ""


def test_daily_loss_counts_from_the_last_close() -> None:
    state = WatchState.first(BEGIN, 100.0)
    for hours, index in ((20, 96.0), (21, 96.0), (44, 92.0), (45, 92.0)):
        state, why = next_watch_state(state, BEGIN + hours * 60 * MINUTE, index, 0.0, LIMITS)
        assert why == ""
    assert state.values_by_limit["drawdown"] == pytest.approx(0.08)
    assert state.values_by_limit["daily_loss"] == pytest.approx(1 - 92 / 96)


@pytest.mark.parametrize(
    "seeds", [range(20), pytest.param(range(20, 1000), marks=pytest.mark.slow)]
)
def test_quiet_schedules_raise_no_alarm(seeds: range) -> None:
    """A thousand days of minutes with deposits left out, one of twenty readings wrong."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        quiet = 100 * np.exp(np.cumsum(rng.normal(0, 2e-4, 390)))
        quiet = np.clip(quiet, 96.0, 104.0)
        wrong = np.flatnonzero(rng.random(390) < 0.05)
        wrong = wrong[np.diff(wrong, prepend=-2) > 1]
        readings = quiet.copy()
        readings[wrong] *= rng.choice([0.01, 0.5, 0.89, 1.5, 100.0], len(wrong))
        assert not any(actions(readings.tolist())), seed


@given(st.lists(st.floats(0.01, 1e6), min_size=2, max_size=30))
def test_every_action_follows_two_readings_beyond_the_limit(indexes: list[float]) -> None:
    """Whatever the readings: both are below the highest pair of neighbours, less the limit."""
    reasons = actions(indexes, WatchSettings(drawdown=0.1))
    values = [100.0, *indexes]
    for k, why in enumerate(reasons, start=1):
        if why:
            peak = max([100.0, *(min(pair) for pair in pairwise(values[: k + 1]))])
            assert max(values[k - 1 : k + 1]) <= 0.9 * peak * (1 + 1e-9)


@pytest.mark.parametrize(
    ("raised", "end"),
    [
        ("2024-02-20T15:00", "2024-02-21T21:00"),  # a Tuesday's loss: through Wednesday
        ("2024-02-21T04:00", "2024-02-21T21:00"),  # a coin's loss in the night
        ("2024-02-23T20:00", "2024-02-26T21:00"),  # a Friday's: through Monday
    ],
)
def test_halt_lasts_through_the_next_session(raised: str, end: str) -> None:
    at = np.datetime64(raised, "ns")
    assert halt_end("daily_loss 0.06", at) == np.datetime64(end, "ns")
    assert halt_end("drawdown 0.2", at) is None
