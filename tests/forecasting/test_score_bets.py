"""Scores as bets: one an instant, known when the last outcome is, and never before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecasting.baseline import RandomWalk
from forecasting.evidence import MAX_SCORE_DIFFERENCE, score_evidence
from forecasting.forecast import ForecastTable
from forecasting.score_bets import ScoreBets, outcome_deadline, place_score_bets
from forecasting.scores import score_common_forecasts
from trainingdata.bars import Bars, build_panel
from trainingdata.source import DataSettings

DATA = DataSettings(start="2024-01-02", end="2024-03-08")
WALK, NARROW = RandomWalk(), RandomWalk(decay=0.8)


@pytest.fixture(scope="module")
def bars() -> Bars:
    """Two stocks and a coin; a bar in twenty is missing."""
    full = DATA.load_panel(("SYA", "SYB", "SYXUSD"), "2024-01-02", "2024-03-08")
    rng = np.random.default_rng(3)
    parts = []
    for s, item in enumerate(full.instruments):
        times, values = full.bars_of_symbol(s)
        kept = rng.random(len(times)) > 0.05
        parts.append((item, times[kept], values[kept]))
    return build_panel(parts, full.source)


def forecasts(bars: Bars) -> list[ForecastTable]:
    return [each.forecast(bars, bars.times[0]) for each in (WALK, NARROW)]


def bets_on(bars: Bars, horizon: int) -> ScoreBets:
    walk, narrow = forecasts(bars)
    return place_score_bets(bars, walk, [narrow], horizon)


@pytest.mark.parametrize("horizon", [1, 6])
def test_bet_is_known_once_every_outcome_is(horizon: int, bars: Bars) -> None:
    bets = bets_on(bars, horizon)
    assert bets.stream_count == 2 * horizon
    walk = forecasts(bars)[0].windows
    for t in np.flatnonzero(~np.isnan(bets.scores[0]))[::37]:
        latest = t
        for s in walk.symbol_index[walk.issued_at == bars.times[t]]:
            times = bars.bars_of_symbol(int(s))[0]
            target = int(np.searchsorted(times, bars.times[t])) + horizon
            at = times[target] if target < len(times) else np.datetime64("2100")
            latest = max(latest, int(np.searchsorted(bars.times, at)))
        assert bets.known_at[t] == latest


@given(st.integers(300, 900), st.sampled_from([1, 4]))
def test_no_outcome_counts_before_it_is_known(cut: int, horizon: int) -> None:
    full = DATA.load_panel(("SYA", "SYXUSD"), "2024-01-02", "2024-03-08")
    changed = full.values.copy()
    changed[:, cut + 1 :, :4] *= np.linspace(1.0, 1.5, len(full.times) - cut - 1)[:, None]
    after = bets_on(replace(full, values=changed), horizon)
    before = bets_on(full, horizon)
    for one, other in zip(before.evidence(), after.evidence(), strict=True):
        assert np.array_equal(one[: cut + 1], other[: cut + 1], equal_nan=True)
    shortened = bets_on(full.slice_rows(0, cut + 1), horizon).evidence()
    for one, other in zip(before.evidence(), shortened, strict=True):
        assert np.array_equal(one[: cut + 1], other, equal_nan=True)


def test_score_is_the_mean_loss_in_baseline_deviations(bars: Bars) -> None:
    """Ratios of the losses are those of `forecasting.scores`, whose unit differs."""
    one = bars.select(("SYXUSD",))
    tables = forecasts(one)
    bets = place_score_bets(one, tables[0], tables[1:], 3)
    frames = score_common_forecasts(one, tables, one.times[0], one.times[-1], [3])
    at = np.searchsorted(one.times, frames[0]["issued_at"].to_numpy())
    ratio = frames[1]["loss"].to_numpy() / frames[0]["loss"].to_numpy()
    assert bets.scores[1, at] / bets.scores[0, at] == pytest.approx(ratio)


def test_symbol_that_ends_frees_its_streams(bars: Bars) -> None:
    times, values = bars.bars_of_symbol(0)
    ended = len(times) // 2
    parts = [(item, *bars.bars_of_symbol(s)) for s, item in enumerate(bars.instruments)]
    parts[0] = (bars.instruments[0], times[:ended], values[:ended])
    panel = build_panel(parts, bars.source)
    bets = bets_on(panel, 2)
    last = int(np.searchsorted(panel.times, times[ended - 1]))
    deadline = outcome_deadline(panel.times[[last]], 2)[0]
    assert panel.times[bets.known_at[last]] >= deadline > panel.times[bets.known_at[last] - 1]
    assert bets.evidence().mean[-1] != bets.evidence().mean[last]


def test_withheld_instant_counts_as_the_largest_loss(bars: Bars) -> None:
    bets = bets_on(bars.select(("SYXUSD",)), 1)
    gap = np.array([700])
    kept, withheld = bets.evidence(), bets.evidence(gap_rows=gap)
    assert np.array_equal(kept.e_value[:700], withheld.e_value[:700])
    assert withheld.e_value[-1] < kept.e_value[-1]
    assert withheld.mean[-1] < kept.mean[-1] - 0.9 * MAX_SCORE_DIFFERENCE / len(kept.mean)


def test_better_forecaster_stays_in_the_confidence_set(bars: Bars) -> None:
    walk, narrow = forecasts(bars)
    wide = RandomWalk(decay=0.3).forecast(bars, bars.times[0])
    poor = replace(
        wide,
        quantiles=(
            0.3 * wide.all_quantiles
            + 0.7 * np.float32(1) * wide.price[:, None, None].astype(np.float32)
        ),
    )
    bets = place_score_bets(bars, walk, [narrow, poor, walk], 1)
    assert bets.confidence_set().tolist() == [True, False, True]


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_varying_delays_never_add_evidence_early(seed: int, streams: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.uniform(-0.3, 0.3, 40)
    known_at = np.arange(40) + rng.integers(1, 2 * streams + 1, 40)
    before = score_evidence(values, streams, known_at=known_at)
    changed = np.where(known_at > 20, rng.uniform(-0.3, 0.3, 40), values)
    after = score_evidence(changed, streams, known_at=known_at)
    assert np.array_equal(before.e_value[:21], after.e_value[:21])
