"""What docs/STUDIES.md says of estimation error holds in a small run of its scripts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from tests.studies import daily_estimates, drawdown_markets, estimation_error
from tests.studies.drawdown_markets import chances, shocks
from tests.studies.estimation_error import MARGIN, STEPS, World


def bets(world: World) -> dict[str, estimation_error.Figures]:
    """The figures of 60 decisions of one world."""
    return estimation_error.study([world], decisions=60, paths=300, seed=0)[world]


@pytest.fixture(scope="module")
def worthless() -> dict[str, estimation_error.Figures]:
    """Forecasts that are noise."""
    return bets(World(1, None, noisy=True, coefficient=0.0))


def test_every_plug_in_loses_on_noise_and_a_calibration_stays_out(
    worthless: dict[str, estimation_error.Figures],
) -> None:
    for name in ("plug-in, full", "plug-in, half", "distribution, half", "risk-constrained"):
        assert worthless[name].growth < -4 * worthless[name].error, name
        assert worthless[name].falls > 0.3
    assert worthless["calibrated, half"].growth == 0 == worthless["calibrated, half"].falls
    assert worthless["Baker–McHale, half"].growth > 0.7 * worthless["plug-in, half"].growth


def test_an_exact_small_edge_leaves_nothing_for_the_whole_distribution_to_find() -> None:
    found = bets(World(1, 4.0, noisy=False, coefficient=0.05))
    for size in ("full", "half"):
        quadratic, whole = found[f"plug-in, {size}"], found[f"distribution, {size}"]
        assert quadratic.share == pytest.approx(whole.share, abs=0.02)
    assert found["distribution, full"].share == pytest.approx(1.0, abs=0.01)
    assert found["plug-in, half"].share == pytest.approx(0.75, abs=0.06)
    assert found["plug-in, half"].falls < found["plug-in, full"].falls / 2


def test_an_error_of_the_mean_costs_more_than_all_tails() -> None:
    exact = bets(World(1, 4.0, noisy=False, coefficient=0.05))
    noisy = bets(World(1, 4.0, noisy=True, coefficient=0.05))
    assert exact["plug-in, full"].share - noisy["plug-in, full"].share > 0.3
    assert noisy["Baker–McHale, full"].share > noisy["plug-in, full"].share + 0.2
    assert noisy["Baker–McHale, full"].falls < noisy["plug-in, full"].falls


def test_without_the_margin_the_whole_distribution_ruins_less() -> None:
    world = World(1, 4.0, noisy=False, coefficient=0.3)
    found = estimation_error.study([world], 60, 300, 0, margin=np.inf)[world]
    assert found["distribution, full"].ruins < found["plug-in, full"].ruins / 3
    assert found["risk-constrained"].ruins < found["plug-in, half"].ruins / 3


def test_a_study_of_one_seed_is_one_study() -> None:
    world = World(8, 4.0, noisy=True, coefficient=0.1)
    first, second = (estimation_error.forecasts(world, 5, 3) for _ in range(2))
    assert (first.stated == second.stated).all()
    assert (first.bets(fraction=0.5) == second.bets(fraction=0.5)).all()


def test_the_forecasts_of_a_world_have_its_coefficient_and_slope() -> None:
    for noisy in (False, True):
        world = World(8, None, noisy=noisy, coefficient=0.1)
        f = estimation_error.forecasts(world, 20_000, 0)
        stated, true = f.stated.ravel(), f.true.ravel()
        assert (stated * true).mean() / stated.std() == pytest.approx(0.1, abs=0.005)
        assert (stated * true).mean() / (stated**2).mean() == pytest.approx(world.slope, abs=0.02)


@pytest.mark.parametrize("tails", [None, 4.0])
def test_nothing_ruins_within_the_margin(tails: float | None) -> None:
    outcomes = estimation_error.returns_of(8, tails, 1024, 0)
    assert np.cov(outcomes.T, bias=True) == pytest.approx(estimation_error.correlated(8))
    wild = np.random.default_rng(0).normal(size=(50, 8))
    kept = estimation_error.kept_to(wild, MARGIN)
    assert (1 + kept @ outcomes.T).min() > 0.1
    small = estimation_error.kept_to(wild * 1e-3, MARGIN)
    assert small == pytest.approx(wild * 1e-3)


def test_the_chance_of_a_fall_by_the_formula_of_brownian_motion() -> None:
    paths = shocks(np.random.default_rng(0), 4000 * STEPS * 4, 1, None).reshape(4000, -1)
    drift, deviation = np.array([2e-4, 0.0]), np.array([0.01, 0.0])
    found = chances(drift, deviation, paths, 0.8)
    level, years = np.log(0.8), paths.shape[1]
    slope, spread = drift[0] - deviation[0] ** 2 / 2, deviation[0] * np.sqrt(years)
    exact = norm.cdf((level - slope * years) / spread) + np.exp(
        2 * slope * level / deviation[0] ** 2
    ) * norm.cdf((level + slope * years) / spread)
    # A walk passes the level later than a motion that is looked at all the time.
    assert exact - 0.03 < found[0] < exact + 0.015
    assert found[1] == 0


@pytest.mark.parametrize("symbols", [1, 8])
def test_the_drawdown_bound_holds_in_markets_with_estimated_means_for_a_proven_mean_alone(
    symbols: int,
) -> None:
    paths = shocks(np.random.default_rng(1), 200 * 1000, 1, None).reshape(200, -1)
    found = drawdown_markets.study(symbols, None, 0.05, 150, paths, 0)
    proven = found["… proven mean (1.645 errors)"]
    assert proven.holds >= drawdown_markets.HOLDS - 0.03  # 1.7 standard errors of 150 markets
    assert found["risk-constrained, parameters known"].holds >= drawdown_markets.HOLDS
    for name in ("risk-constrained", "… the mean's error as variance", "… Baker–McHale"):
        assert found[name].holds < 0.75, name
        assert found[name].share > proven.share, name


def test_a_week_of_real_bars_is_sized_by_the_days_before_it_alone() -> None:
    rng = np.random.default_rng(0)
    days = 0.001 + 0.01 * rng.normal(size=(160, 3))
    later = days.copy()
    later[140:] *= -3
    for name, rule in daily_estimates.RULES.items():
        weeks = daily_estimates.earned(days, rule, 100)
        assert len(weeks) == 12
        assert (daily_estimates.earned(later, rule, 100)[:8] == weeks[:8]).all(), name


def test_equal_weights_pay_for_coming_in_once() -> None:
    days = np.full((110, 2), 0.01)
    weeks = daily_estimates.earned(days, daily_estimates.RULES["equal weights"], 100)
    assert weeks == pytest.approx([(1 - daily_estimates.COST) * 1.01**5 - 1, 1.01**5 - 1])
