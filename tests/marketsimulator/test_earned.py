"""What a forecast has earned decides how far it counts, alike in every engine."""

# Private access: virtual accounts are judged from a state, as only a live decision does.
from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from execution.decision.beliefs import BeliefTable
from execution.decision.decision import Decision
from execution.decision.earned import MIN_GROWTH, NO_EVIDENCE, EvidenceState, Judgement
from execution.decision.trader import Trader
from execution.orders.account_snapshot import AccountSnapshot
from forecasting.baseline import Oracle
from forecasting.evidence import BettingEvidence, error_share, place_bets, start_bets
from foundation.arrays import Array
from foundation.errors import InputError
from marketsimulator.results.altered_bars import drop_later_bars, scramble_later_bars
from marketsimulator.results.belief_tables import BeliefTableCache
from marketsimulator.runs.outcome import simulate_variants
from marketsimulator.runs.simulate import simulate_stepwise, simulate_trading
from marketsimulator.settings import BacktestSettings
from tests.marketsimulator.runs import settings_of, walked_as_stepped
from tests.support.messages import refused
from tests.support.momentum import Momentum
from trainingdata.bars import CLOSE, OPEN, Bars
from trainingdata.market import Market

FREE = (
    *("forecaster=ewma", "forecaster.calibrated=false", "trials=null", "margin.borrow_rate=0.02"),
    *("costs.stock_impact=0", "costs.crypto_impact=0", "fills.volume_share=null", "capital=1e6"),
    "fees.crypto_tiers=[{volume: 0, maker: 0.0015, taker: 0.0025}]",
)
SPAN = ("data.start=2023-08-01", "start=2023-11-01", "data.end=2024-02-09")
SYMBOLS = "symbols=[SYA,SYB,SYC,SYXUSD,SYYUSD]"
EDGE = ("data.information_coefficient=0.4", SYMBOLS)
EARNED = (*FREE, *SPAN, *EDGE, "sizing.earned=true")


class Setup(NamedTuple):
    settings: BacktestSettings
    market: Market
    trader: Trader
    table: BeliefTable


def setup_of(*words: str, forecaster: object = None) -> Setup:
    settings = settings_of(*words)
    market = settings.load_market()
    trader = settings.build_trader(forecaster or Momentum())  # type: ignore[arg-type]
    return Setup(settings, market, trader, trader.build_beliefs(market))


@pytest.fixture(scope="module")
def edge() -> Setup:
    """A forecast with an edge, in a run of which the second half has earned something."""
    return setup_of(*EARNED)


@pytest.fixture(scope="module")
def plain() -> Setup:
    return setup_of(*FREE, *SPAN, "data.end=2023-11-20", "symbols=[SYA,SYXUSD]")


def step(setup: Setup, k: int, evidence: EvidenceState) -> tuple[float, EvidenceState]:
    """The difference of returns from judged instant k - 1, with this evidence, to instant k."""
    trader = replace(setup.trader, evidence_state=replace(evidence, at=setup.table.instants[k - 1]))
    judgement, after = trader._judge(setup.market, setup.table.select_rows(np.array([k])))
    return float(judgement.difference[0]), after


def evidence_with(setup: Setup, weights: Array, targets: Array) -> EvidenceState:
    symbols = setup.market.bars.symbols
    return replace(NO_EVIDENCE, symbols=symbols, weights=weights, targets=targets)


def relatives(setup: Setup, k: int, s: int) -> tuple[float, float]:
    """The first open and the last close of a symbol since instant k - 1, over its close then."""
    times, values = setup.market.bars.bars_of_symbol(s)
    before, now = np.searchsorted(times, setup.table.instants[k - 1 : k + 1], side="right") - 1
    return values[before + 1, OPEN] / values[before, CLOSE], values[now, CLOSE] / values[
        before, CLOSE
    ]


def rows_of(setup: Setup, s: int, hours: int) -> Array:
    """Instants at which a symbol is due, as it was at the instant so many hours before."""
    due = setup.table.is_adjustable[:, s]
    apart = np.diff(setup.table.instants) == np.timedelta64(hours, "h")
    return np.flatnonzero(due[1:] & due[:-1] & apart) + 1


def test_judged_orders_fill_at_the_next_own_open(plain: Setup) -> None:
    k = int(rows_of(plain, 1, 1)[5])
    opened, closed = relatives(plain, k, 1)
    weights, targets = np.array([[0.0, 0.2], [0.0, 0.0]]), np.array([[0.0, 0.5], [0.0, 0.0]])
    found, _ = step(plain, k, evidence_with(plain, weights, targets))
    cost = float(plain.trader.costs.expected_cost(plain.market.bars.crypto, plain.trader.fees)[1])
    profit = 0.2 * (opened - 1) + 0.5 * (closed - opened) - 0.3 * opened * cost
    assert found == pytest.approx(profit, abs=1e-15)


def within_a_session(setup: Setup) -> int:
    """A judged instant at which the stock's last bar was of the same session."""
    times = setup.table.instants.astype("datetime64[m]").astype(str)
    return int(np.flatnonzero(np.char.endswith(times, "T17:30"))[2])


@pytest.mark.parametrize(
    ("weights", "targets", "size"),
    [
        ([[0.0, 0.2], [0.0, 0.0]], [[0.0, 0.5], [0.0, 0.0]], [0.0, 0.5]),
        ([[0.3, 0.2], [0.0, 0.0]], [[-0.3, 0.5], [0.0, 0.4]], [0.3, 0.2]),
        ([[1.0, 0.5], [1.0, 0.5]], [[1.0, 0.5], [1.0, 0.5]], [0.0, 0.0]),
    ],
)
def test_largest_loss_follows_from_differing_positions(
    plain: Setup, weights: list[list[float]], targets: list[list[float]], size: list[float]
) -> None:
    """Within a session the stock moves by 25 %, the coin doubles, or both move by a fifth of it."""
    trader, k = plain.trader, within_a_session(plain)
    evidence = evidence_with(plain, np.array(weights), np.array(targets))
    trader = replace(trader, evidence_state=replace(evidence, at=plain.table.instants[k - 1]))
    judgement, _ = trader._judge(plain.market, plain.table.select_rows(np.array([k])))
    losses = [0.25 * size[0], size[1]]
    expected = max(max(losses), 0.2 * sum(losses)) + 0.01
    assert float(judgement.largest_loss[0]) == pytest.approx(expected, abs=1e-15)


def test_judged_stock_order_waits_for_its_own_bar(plain: Setup) -> None:
    due = plain.table.is_adjustable
    k = int(np.flatnonzero(due[:-1, 0] & ~due[1:, 0] & due[1:, 1])[3]) + 1
    weights, targets = np.array([[0.1, 0.0], [0.0, 0.0]]), np.array([[0.4, 0.0], [0.0, 0.0]])
    found, after = step(plain, k, evidence_with(plain, weights, targets))
    assert found == 0.0
    assert (after.weights[0, 0], after.targets[0, 0]) == (0.1, 0.4)


def test_judged_loans_and_shorts_pay_for_the_night(plain: Setup) -> None:
    due = np.flatnonzero(plain.table.is_adjustable[:, 0])
    nights = np.diff(plain.table.instants[due]) > np.timedelta64(12, "h")
    first, last = due[:-1][nights][1], due[1:][nights][1]
    only = plain._replace(table=plain.table.select_rows(np.array([first, last])))
    _, closed = relatives(only, 1, 0)
    count = (last_day := only.table.instants.astype("datetime64[D]"))[1] - last_day[0]
    weights = np.array([[1.5, 0.0], [-0.5, 0.0]])
    found, _ = step(only, 1, evidence_with(only, weights, weights.copy()))
    profit = 1.5 * (closed - 1)
    interest = (1.5 * closed - 1 - profit) * 0.065 / 360 * count.astype(int)
    short = -0.5 * (closed - 1) - 0.5 * closed * 0.02 / 360 * count.astype(int)
    assert found == pytest.approx(profit - interest - short, abs=1e-15)


def test_ruined_account_loses_in_full_and_begins_anew(plain: Setup) -> None:
    rows = rows_of(plain, 1, 1)
    k = next(int(k) for k in rows if relatives(plain, int(k), 1)[1] < 0.999)
    weights = np.array([[0.0, 2000.0], [0.0, 0.0]])
    found, after = step(plain, k, evidence_with(plain, weights, weights.copy()))
    assert found == pytest.approx(MIN_GROWTH - 1)
    assert after.weights[0].tolist() == [0.0, 0.0]


def test_stepwise_evidence_survives_json(edge: Setup) -> None:
    """From evidence that has earned something on: the last 100 instants, one by one."""
    table = edge.table._replace(earned=np.full(len(edge.table.instants), np.nan))
    whole, end = edge.trader._judge(edge.market, table)
    first = len(table.instants) - 100
    _, evidence = edge.trader._judge(edge.market, table.select_rows(np.arange(first)))
    for t in range(first, len(table.instants)):
        evidence = EvidenceState.from_json(evidence.to_json())
        trader = replace(edge.trader, evidence_state=evidence)
        known = Market(edge.market.bars.slice_until(table.instants[t]), edge.market.start_row)
        one, evidence = trader._judge(known, table.select_rows(np.array([t])))
        for name, column in zip(Judgement._fields, one, strict=True):
            np.testing.assert_array_equal(column, getattr(whole, name)[t : t + 1])
    assert evidence.to_json() == end.to_json()
    np.testing.assert_array_equal(whole.earned, edge.table.earned)


@pytest.mark.parametrize("symbols", ["[SYA,SYB,SYC]", "[SYXUSD,SYYUSD]"])
def test_judged_returns_are_those_of_full_backtests(symbols: str) -> None:
    words = (*FREE, *SPAN, f"symbols={symbols}", "data.end=2024-01-31")
    settings, market, trader, table = setup_of(*words)
    judged = trader.judge_forecast(market, table)
    nothing = table._replace(earned=np.zeros(len(table.instants)))
    equities = np.array(
        [
            [row.equity for row in simulate_trading(settings, market, "x", each).equity_rows]
            for each in (replace(trader, belief_table=beliefs) for beliefs in (table, nothing))
        ]
    )
    at = ~np.isnan(judged.e_value)
    rows = np.searchsorted(market.run_bars.times, table.instants[at])
    returns = np.diff(equities[:, rows]) / equities[:, rows[:-1]]
    difference = returns[0] - returns[1]
    assert abs(difference.sum()) > 0.05
    assert np.nansum(judged.difference) == pytest.approx(difference.sum(), rel=0.02)
    assert (difference >= -judged.largest_loss[at][1:]).all()


def test_only_a_forecast_with_edge_earns(edge: Setup) -> None:
    earned = edge.table.earned
    judged = ~np.isnan(earned)
    assert judged.sum() > 500
    assert earned[judged][-1] > 0.1
    assert earned[judged][0] == 0.0
    lost = setup_of(*EARNED, forecaster=Momentum(-0.4)).table.earned
    assert set(lost[~np.isnan(lost)]) == {0.0}


def test_later_forecasters_must_earn_more_evidence(edge: Setup) -> None:
    sizing = replace(edge.settings.sizing, earned_attempt=3)
    later = replace(edge.trader, sizing=sizing).judge_forecast(edge.market, edge.table)
    assert np.nanargmax(later.earned > 0) > np.nanargmax(edge.table.earned > 0)
    assert (later.earned <= edge.table.earned)[~np.isnan(later.earned)].all()


def won_before(at: str, wins: int) -> EvidenceState:
    """Evidence of as many bets won up to an instant."""
    bets = start_bets()
    for _ in range(wins):
        bets = place_bets(bets, 0.01, 0.25)
    return replace(NO_EVIDENCE, at=np.datetime64(at, "ns"), bets=bets)


SYNTHETIC = ("symbols=[SYA,SYXUSD]", "start=2024-02-01", "data.end=2024-02-05")


@pytest.mark.parametrize("words", [SYNTHETIC, pytest.param((), marks=pytest.mark.slow)])
def test_earned_sizing_is_identical_in_every_engine(
    words: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    """On synthetic and on real bars, by a forecast that earned something before the run."""
    if not words:
        where = ",".join(map(str, request.getfixturevalue("real_data")))
        words = (f"data.dir=[{where}]", "symbols=[NVDA,AAPL,BTCUSD]")
        words += ("start=2024-06-20", "end=2024-06-25")
    settings = settings_of(*FREE[:2], "trials=null", *words, "sizing.earned=true")
    market = settings.load_market()
    bets = start_bets()
    for _ in range(500):
        bets = place_bets(bets, 0.01, 0.25)
    before = market.run_bars.times[0] - np.timedelta64(4, "h")
    evidence = replace(NO_EVIDENCE, at=before, bets=bets)
    trader = replace(settings.build_trader(Momentum(0.05)), evidence_state=evidence)
    with_beliefs = trader.with_beliefs(market)
    table = with_beliefs.belief_table
    assert table is not None
    run = walked_as_stepped(settings, market, with_beliefs)
    (outcome,) = simulate_variants([settings], market, table)
    assert outcome.equity.tolist() == [row.equity for row in run.equity_rows]
    live = simulate_stepwise(
        settings, market, "x", Remembering(trader), settings.build_broker(market)
    )
    assert live.fills == run.fills
    assert live.equity_rows == run.equity_rows
    assert len(run.fills) > 10
    reasons = [str(order.reason) for _, order in run.decisions.orders]
    assert any("of it earned" in reason for reason in reasons)
    shares = run.decision_frame().dropna(subset="plan_earned").groupby("at")["plan_earned"]
    assert shares.nunique().max() == 1
    assert run.decision_frame()["plan_earned"].nunique() > 50
    full = simulate_trading(settings, market, "x", replace(
        trader, belief_table=table._replace(earned=np.full(len(table.instants), np.nan))
    ))  # fmt: skip
    assert full.fills != run.fills


class Remembering:
    """A trader that takes its virtual accounts from decision to decision, as a live loop does."""

    def __init__(self, trader: Trader) -> None:
        self.trader = trader

    def decide(self, bars: Bars, account: AccountSnapshot) -> Decision | None:
        decision = self.trader.decide(bars, account)
        if decision is not None and decision.evidence_state is not None:
            self.trader = self.trader.with_evidence_state(decision.evidence_state.to_json())
        return decision


def test_unearned_forecast_trades_as_the_premium_alone(edge: Setup) -> None:
    settings, market, trader, table = edge
    nothing = table._replace(earned=np.zeros(len(table.instants)))
    unearned = simulate_trading(settings, market, "x", replace(trader, belief_table=nothing))
    words = [*EARNED, "sizing.strategy=premium_50", "order_tag=kelly_50"]
    premium = settings_of(*words)
    alone = replace(premium.build_trader(trader.forecaster), belief_table=table)
    run = simulate_trading(premium, market, "x", alone)
    assert len(run.fills) > 5
    assert unearned.fills == run.fills


@pytest.mark.parametrize("change", [drop_later_bars, scramble_later_bars])
def test_future_bars_change_nothing_that_is_earned(edge: Setup, change: object) -> None:
    cut = edge.table.instants[len(edge.table.instants) * 9 // 10]
    bars = scramble_later_bars(edge.market.bars, cut, 1)
    if change is drop_later_bars:
        bars = drop_later_bars(bars, cut)
    other = edge.trader.build_beliefs(edge.market.with_bars(bars))
    known = edge.table.instants <= cut
    np.testing.assert_array_equal(edge.table.earned[known], other.earned[: known.sum()])
    assert np.nanmax(edge.table.earned[known]) > 0


def test_forecasts_in_hindsight_earn_nothing() -> None:
    _, market, trader, table = setup_of(*EARNED, forecaster=Oracle())
    assert set(table.earned[~np.isnan(table.earned)]) == {0.0}
    assert np.nanmax(trader.judge_forecast(market, table).e_value) > 1 / error_share(1)


def test_variants_share_beliefs_only_if_judged_alike(edge: Setup) -> None:
    settings = edge.settings
    capped = replace(settings, limits=replace(settings.limits, symbol_cap=0.05))
    reported = [
        replace(each, sizing=replace(each.sizing, earned="report")) for each in (settings, capped)
    ]
    variants = [settings, capped, *reported]
    groups = [
        group.variant_numbers for group in BeliefTableCache(edge.market).group_variants(variants)
    ]
    assert groups == [[0], [1], [2, 3]]


def test_growth_ranking_is_refused_with_earned_sizing() -> None:
    with refused(InputError, "sizing.earned"):
        settings_of("sizing.earned=true", "universe.rank=growth", "universe.keep=2")


def test_reported_evidence_changes_no_decision(edge: Setup) -> None:
    sizing = replace(edge.settings.sizing, earned="report")
    trader = replace(edge.trader, sizing=sizing)
    now = Market(edge.market.bars.slice_until(edge.table.instants[300]))
    account = AccountSnapshot(1e5, {}, {}, now.bars.last_instant)
    silent = trader.decide(now.bars, account)
    judged = trader.with_evidence_state(None).decide(now.bars, account)
    assert silent is not None
    assert repr(judged) == repr(silent)
    assert silent.evidence_state is None
    assert judged.evidence_state is not None
    assert isinstance(judged.evidence_state.bets, BettingEvidence)
