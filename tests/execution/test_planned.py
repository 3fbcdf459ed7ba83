"""The decision over a plan: what it rests on, how far it looks, and what it does not depend on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from execution.beliefs import Belief, Blocks
from execution.decision import Decision
from execution.fees import TradingCosts
from execution.lending import MarginTerms
from execution.outlook import belief_table
from execution.trader import SizingSettings, Trader
from forecasting.baseline import RandomWalk
from forecasting.forecast import HORIZON, ForecastTable, Progress, silent
from forecasting.moments import variance_until
from foundation.errors import InputError
from sizing.allocation import Allocation
from sizing.limits import Limits
from sizing.premium import PriorSettings
from sizing.situation import Situation
from sizing.strategies import Kelly
from tests.execution.traders import account_in, trader_of
from trainingdata.bars import Bars
from trainingdata.instruments import Kind
from trainingdata.market import Market
from trainingdata.slow_variance import slow_variances
from trainingdata.timeframe import HOURLY

MIDDAY = "2024-03-05T17:30"
LAST = "2024-03-05T20:30"
NIGHT = "2024-03-06T03:00"
FREE = TradingCosts(0, 0, 0, 0, 0, 0)
STOCKS = ("SYA", "SYB", "SYC")


@dataclass(frozen=True)
class Persistent(RandomWalk):
    """A random walk whose median rises by so many basis points in the first step, of which a
    share is left a bar later.
    """

    left: float = 0.0
    skill: float = 0.0
    basis_points: Mapping[str, float] = field(default_factory=dict)

    def forecast(self, bars: Bars, since: Any, progress: Progress = silent) -> ForecastTable:
        table = super().forecast(bars, since)
        tilt = np.array([self.basis_points.get(s, 0.0) for s in bars.symbols])[table.windows.symbol]
        values = (table.values * (1 + 1e-4 * tilt[:, None, None])).astype(np.float32)
        carried, skill = (np.full(len(table.windows), value) for value in (self.left, self.skill))
        return replace(table, quantiles=values, persistence=carried, skill=skill)


def trader(
    left: float = 0.0, skill: float = 0.0, *, prior: PriorSettings | None = None, **more: Any
) -> Trader:
    basis_points = {s: more.pop(s) for s in list(more) if s.startswith("SY")}
    parts = {"costs": more.pop("costs", None), "margin": more.pop("margin", MarginTerms())}
    forecaster = Persistent(left=left, skill=skill, basis_points=basis_points)
    sizing = SizingSettings(**more)
    return trader_of(forecaster, sizing, prior=prior or PriorSettings(), **parts)


def believed(market: Bars, at: str, who: Trader) -> Belief:
    panel = market.until(np.datetime64(at, "ns"))
    found = who.belief_table(Market(panel, len(panel.times) - 1)).of(panel.now)
    assert found is not None
    return found


def decided(market: Bars, at: str, who: Trader, **weights: float) -> Decision:
    panel = market.until(np.datetime64(at, "ns"))
    answer = who.decide(panel, account_in(panel, **weights))
    assert answer is not None
    return answer


def test_the_premium_alone_buys_and_without_it_and_an_edge_nothing_is_sent(market: Bars) -> None:
    bought = decided(market, MIDDAY, trader())
    assert {o.symbol: o.side for o in bought.orders} == dict.fromkeys(STOCKS, "buy")
    for at in (MIDDAY, LAST, NIGHT):
        assert decided(market, at, trader(prior=PriorSettings(stock_sharpe=0.0))).orders == ()
    assert decided(market, NIGHT, trader()).orders == (), (
        "coins have no premium unless one is stated"
    )
    coins = decided(market, NIGHT, trader(prior=PriorSettings(crypto_sharpe=0.6)))
    assert {o.side for o in coins.orders} == {"buy"}


def test_the_way_out_of_a_plan_counts_less_than_the_changes_within_it(
    market: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Situation] = []
    allocate = Kelly.allocate

    def noted(self: Kelly, situation: Situation) -> Allocation:
        seen.append(situation)
        return allocate(self, situation)

    monkeypatch.setattr(Kelly, "allocate", noted)
    decided(market, MIDDAY, trader(left=0.5, skill=0.1, SYA=20.0, SYB=-20.0, SYC=20.0))
    (situation,) = seen
    returns, costs, _, _ = situation.problem
    assert costs.change.shape == returns.mu.shape
    assert (costs.change[:-1] == situation.cost).all()
    assert (costs.change[-1] < situation.cost)[situation.deciding].all()


def test_only_what_has_just_closed_and_was_forecast_from_that_bar_decides(market: Bars) -> None:
    @dataclass(frozen=True)
    class Late(RandomWalk):
        """The last bar of SYA has no forecast yet."""

        def forecast(self, bars: Bars, since: Any, progress: Progress = silent) -> ForecastTable:
            table = super().forecast(bars, bars.times[-30])
            latest = table.latest.copy()
            latest[bars.symbols.index("SYA"), -1] -= 1
            return replace(table, latest=latest)

    def deciding(at: str, who: Trader) -> set[str]:
        belief = believed(market, at, who)
        return {s for s, each in zip(belief.symbols, belief.deciding, strict=True) if each}

    coins = {s for s, coin in zip(market.symbols, market.crypto, strict=True) if coin}
    assert deciding(MIDDAY, trader()) == set(STOCKS)
    assert deciding(MIDDAY, trader_of(Late())) == {"SYB", "SYC"}
    assert deciding("2024-03-05T21:00", trader()) == coins, "stocks have closed, and are shut"


def test_without_costs_half_the_premiums_sharpe_ratio_is_the_books_volatility(market: Bars) -> None:
    """Three stocks at 0.3: 15 % times what three of a class are of it, in the covariance that
    is believed in to the horizon.
    """
    who = trader(costs=FREE, prior=PriorSettings(horizon_days=28))
    belief = believed(market, MIDDAY, who)
    targets = {c.symbol: c.target for c in decided(market, MIDDAY, who).choices}
    rows = [belief.symbols.index(s) for s in STOCKS]
    a_year = (
        sum(
            belief.correlation[k][np.ix_(rows, rows)]
            * np.outer(belief.sigma[k, rows], belief.sigma[k, rows])
            for k in range(3)
        )
        / belief.years[:, rows[0]].sum()
    )
    w = np.array([targets[s] for s in STOCKS])
    rho = belief.correlation[2][np.ix_(rows, rows)]
    mean = (rho.sum() - 3) / 6
    expected = 0.15 * np.sqrt(mean / (mean + (1 - mean) / 3))
    assert np.sqrt(w @ a_year @ w) == pytest.approx(expected, rel=0.15), (
        "the next day's variance is not the month's"
    )


@pytest.mark.parametrize(
    ("at", "ends"),
    [
        (
            MIDDAY,
            ["2024-03-05T18:30", "2024-03-06T16:30", "2024-04-02T17:30"],
        ),  # 12:30: four bars today, two tomorrow
        (LAST, ["2024-03-06T15:30", "2024-03-06T19:30", "2024-04-02T20:30"]),
        (NIGHT, ["2024-03-06T04:00", "2024-03-06T09:00", "2024-04-03T03:00"]),
    ],
)
def test_a_plan_looks_at_the_next_decision_the_life_of_a_signal_and_the_horizon(
    market: Bars, at: str, ends: list[str]
) -> None:
    belief = believed(market, at, trader(signal_bars=6))
    assert [str(end)[:16] for end in belief.ends] == ends
    nights = {MIDDAY: [0, 1, 27], LAST: [1, 0, 28], NIGHT: [0, 0, 28]}[
        at
    ]  # clocks change: the close is before 20:30 by then
    assert belief.nights.tolist() == nights
    for s, kind in enumerate([Kind.STOCK] * 3 + [Kind.CRYPTO] * 2):
        whole = {Kind.STOCK: 19 * 7, Kind.CRYPTO: 28 * 24}[kind] / HOURLY.clock(kind).bars_a_year
        assert belief.years[:, s].sum() == pytest.approx(whole, rel=0.06)
    assert believed(market, at, trader(holding="next")).ends.tolist() == belief.ends[:1].tolist()
    assert believed(market, at, trader(holding="session")).mu.shape == (1, len(belief.symbols))


def test_beyond_the_forecast_variance_is_the_root_of_fast_times_slow(market: Bars) -> None:
    """Never step 24's own, extrapolated."""
    panel = market.until(np.datetime64(MIDDAY, "ns"))
    belief = believed(market, MIDDAY, trader())
    table = RandomWalk().forecast(panel, panel.now)
    last = table.latest[:, -1].astype(np.int64)
    values = table.quantiles[last]
    price = table.price[last]
    none = np.zeros(len(last))
    _, slow = slow_variances(panel, np.array([panel.now]))
    for s, item in enumerate(panel.instruments[:3]):
        year = HOURLY.clock(item.kind).bars_a_year
        day = variance_until(values, price, np.full(len(last), 24.0), "quantile", none)[s]
        bars = belief.years[:, s] * year
        here = variance_until(
            values, price, np.full(len(last), round(bars[:2].sum())), "quantile", none
        )[s]
        expected = (
            day - here + np.sqrt(day * year / HORIZON * slow[0, s]) * (bars.sum() - HORIZON) / year
        )
        assert belief.sigma[2, s] ** 2 == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("left", [0.0, 0.6, 0.95])
def test_a_forecast_is_worth_its_first_step_fading(market: Bars, left: float) -> None:
    """m1·(φ + φ² + …) over the bars of each later block; the second step on its own says
    nothing.
    """
    belief = believed(market, MIDDAY, trader(left, SYA=10.0))
    s = belief.symbols.index("SYA")
    bars = np.cumsum(np.round(belief.years[:, s] * HOURLY.clock(Kind.STOCK).bars_a_year)).astype(
        int
    )
    assert belief.mu[0, s] == pytest.approx(1e-3, rel=1e-3)
    assert belief.mu[1, s] == pytest.approx(
        1e-3 * sum(left**j for j in range(bars[0], bars[1])), rel=1e-3, abs=1e-9
    )
    assert belief.mu[2, s] == pytest.approx(
        1e-3 * sum(left**j for j in range(bars[1], bars[2])), rel=1e-3, abs=1e-9
    )


def test_a_signal_that_lasts_is_traded_at_costs_that_one_bar_does_not_pay(market: Bars) -> None:
    dear = TradingCosts(8, 7, 0, 0, 0, 0)
    none = PriorSettings(stock_sharpe=0.0)
    assert decided(market, MIDDAY, trader(0.0, SYA=10.0, costs=dear, prior=none)).orders == ()
    assert [
        o.symbol
        for o in decided(market, MIDDAY, trader(0.8, SYA=10.0, costs=dear, prior=none)).orders
    ] == ["SYA"]


def test_what_leaving_costs_counts_less_where_forecasts_are_worth_more(market: Bars) -> None:
    """A signal that would not pay for its way in and out is taken where the next ones are as
    large.
    """
    none = PriorSettings(stock_sharpe=0.0)
    dear = TradingCosts(6, 4, 0, 0, 0, 0)
    belief = believed(market, MIDDAY, trader(0.6, 0.1, SYA=10.0))
    s = belief.symbols.index("SYA")
    hourly = np.sqrt(
        belief.sigma[:2, s]
        @ belief.sigma[:2, s]
        / (belief.years[:2, s].sum() * HOURLY.clock(Kind.STOCK).bars_a_year)
    )
    assert belief.signal[s] == pytest.approx(0.1 * hourly / 0.4, rel=0.5)
    sizes = [
        abs(target_of(market, trader(0.6, skill, SYA=6.0, costs=dear, prior=none)))
        for skill in (0.0, 1.0)
    ]
    assert sizes[0] < sizes[1] / 2
    deaf = [target_of(market, trader(0.6, skill, strategy="premium_50")) for skill in (0.0, 1.0)]
    assert deaf[0] == deaf[1] > 0


def target_of(market: Bars, who: Trader, symbol: str = "SYA") -> float:
    return next(c.target for c in decided(market, MIDDAY, who).choices if c.symbol == symbol)


def test_premium_50_hears_no_forecast(market: Bars) -> None:
    loud = trader(0.9, 1.0, SYA=-40.0, strategy="premium_50")
    quiet = trader(strategy="premium_50")
    targets = [
        {c.symbol: c.target for c in decided(market, MIDDAY, who).choices} for who in (loud, quiet)
    ]
    assert targets[0] == pytest.approx(targets[1], rel=2e-2), (
        "its prices, and so their spread, are 0.4 % lower"
    )
    plain = {c.symbol: c.target for c in decided(market, MIDDAY, trader()).choices}
    assert plain == pytest.approx(targets[1])


@pytest.mark.parametrize("name", ["Kelly_50pct", "KELLY_50PCT", "kelly_50pct", "Kelly_50"])
def test_kelly_50pct_is_a_name_of_half_kelly(name: str) -> None:
    assert SizingSettings(strategy=name).chosen_strategy() == SizingSettings().chosen_strategy()


def test_nothing_is_borrowed_over_the_night_for_less_than_it_costs(market: Bars) -> None:
    """A class at 1.2 is worth more than its equity; what is beyond it would pay 30 % a year."""
    rich = PriorSettings(stock_sharpe=1.2)

    def gross(rate: float) -> float:
        who = replace(
            trader(prior=rich, margin=MarginTerms(interest_rate=rate)),
            limits=Limits(symbol_cap=2.0),
        )
        return sum(abs(c.target) for c in decided(market, MIDDAY, who).choices)

    assert gross(0.0) > 1.3
    assert gross(0.3) == pytest.approx(1.0, abs=1e-3)
    assert 1.0 < gross(0.03) < gross(0.0)
    who = replace(
        trader(prior=rich, margin=MarginTerms(interest_rate=0.3)), limits=Limits(symbol_cap=2.0)
    )
    assert all("financing" in c.binding for c in decided(market, MIDDAY, who).choices)


def test_a_reason_says_what_is_premium_and_what_is_forecast(market: Bars) -> None:
    for basis_points, over, whole in ((10.0, "3 h", "17.5"), (0.5, "28 days", "1.0")):
        who = trader(0.5, SYA=basis_points)
        order = next(o for o in decided(market, MIDDAY, who).orders if o.symbol == "SYA")
        words = str(order.reason)
        assert re.match(
            rf"forecast \+{basis_points}0? bp, deviation \d+\.\d bp over 1 h; over {over} premium"
            r" \+\d+\.\d bp \(",
            words,
        ), words
        assert re.search(
            r"\(\d\.\d\d % a year, Sharpe ratio 0\.3\), forecast"
            rf" \+{whole} bp, deviation \d+ bp: unconstrained ",
            words,
        ), words
    alone = trader(SYYUSD=90.0, holding="next", prior=PriorSettings(stock_sharpe=0.0))
    orders = decided(market, NIGHT, alone).orders
    assert orders
    assert all("premium" not in str(o.reason) for o in orders)


def test_what_came_before_the_memory_and_what_comes_after_changes_no_decision(market: Bars) -> None:
    whole = trader(0.6, 0.3, SYA=5.0)
    for at in (MIDDAY, LAST, NIGHT):
        now = np.datetime64(at, "ns")
        table = belief_table(
            whole.forecaster,
            whole.correlations,
            market,
            market.times[-200],
            rule="quantile",
            blocks=Blocks(),
            progress=silent,
        )
        one = table.of(now)
        other = believed(market, at, whole)
        assert one is not None
        for name in ("mu", "sigma", "premium", "signal", "years", "nights", "correlation"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)


def test_a_plan_out_of_range_is_named() -> None:
    for bars in (0, 25):
        with pytest.raises(InputError, match=f"sizing.signal_bars: {bars} is (below 1|above 24)"):
            SizingSettings(signal_bars=bars)


def test_a_horizon_that_ends_before_the_signal_leaves_the_last_block_empty(market: Bars) -> None:
    belief = believed(market, MIDDAY, trader(signal_bars=24, prior=PriorSettings(horizon_days=1)))
    assert belief.ends[2] == belief.ends[1] > belief.ends[0]
    assert not belief.years[2].any()
    assert not belief.sigma[2][np.isfinite(belief.sigma[2])].any()
    assert (
        decided(market, MIDDAY, trader(signal_bars=24, prior=PriorSettings(horizon_days=1))).failure
        == ""
    )
