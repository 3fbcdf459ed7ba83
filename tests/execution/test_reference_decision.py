"""The decision, stepped and compiled, against a plain reckoning of the same case."""

from __future__ import annotations

from dataclasses import fields, replace
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from execution.decision.beliefs import BeliefTable
from execution.decision.decision import Decision
from execution.decision.sizing import SizingSettings
from execution.decision.trader import Trader
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.lending import MarginTerms
from forecasting.baseline import RandomWalk
from foundation.arrays import Array
from marketsimulator.runs.compiled_instants import (
    CompiledInputs,
    RecordedDecisions,
    decide_target_quantities,
)
from marketsimulator.runs.compiled_run import build_compiled_inputs
from marketsimulator.runs.strategy_calls import DecisionFunction, SharedProblemArrays, StrategyCall
from marketsimulator.settings import BacktestSettings
from sizing.explanation import TargetExplanation
from sizing.settings import Limits, PriorSettings
from sizing.solver.active_set import UNFINISHED
from tests.execution import reference_decision as reference
from trainingdata.bars import Bars
from trainingdata.history import BarsBySymbol
from trainingdata.instruments import instrument

SYMBOLS = ("ACME", "BOLT", "BTCUSD", "CORD", "DELT", "ETHUSD", "FERN")
AT = np.datetime64("2024-03-05T17:30", "ns")
YEARS = np.array([[1.0, 1.0], [3.0, 3.0], [130.0, 660.0]]) / np.array([1764.0, 8760.0])
EQUITIES = (-500.0, 0.0, 1_500.0, 2_000.0, 3_000.0, 5_000.0, 100_000.0, 100_000.0, 100_000.0, 3e6)
STRATEGIES = ("kelly_50", "kelly_25", "premium_50")
CEILINGS = ("stock_gross", "crypto_gross", "unborrowed_cash", "joint")
BELIEVED = [each.name for each in fields(reference.Believed) if each.name != "matrix"]
TOLERANCE = 1e-5  # in weight


class Case(NamedTuple):
    """The same instant for the product and for the reference."""

    settings: BacktestSettings
    bars: Bars
    table: BeliefTable
    account: AccountSnapshot
    believed: reference.Believed
    held: reference.Held
    rules: reference.Rules


def drawn(seed: int) -> Case:
    """A random market, book and settings: poor and rich accounts, shorts, fees that are due, coins
    beside stocks, what may not be traded or borrowed, nights and days, one block or a plan's three.
    """
    rng = np.random.default_rng(seed)
    names = sorted(rng.choice(SYMBOLS, int(rng.integers(1, len(SYMBOLS) + 1)), replace=False))
    coarse = Decimal(str(rng.choice(["0.001", "2"])))
    fine = Decimal(str(rng.choice(["1", "0.000000001"])))
    items = [
        replace(item, qty_increment=coarse if coin(item.symbol) else fine, is_borrowable=may)
        for item, may in zip(map(instrument, names), rng.random(len(names)) < 0.8, strict=True)
    ]
    size = len(items)
    bars = Bars(
        tuple(items), np.array([AT]), np.ones((size, 1, 5)), np.ones((size, 1), bool), "drawn"
    )
    settings = drawn_settings(rng)
    table = drawn_beliefs(rng, bars)
    account = drawn_account(rng, bars, settings.margin)
    return Case(
        settings,
        bars,
        table,
        account,
        reference.Believed(
            **{name: getattr(table, name)[0] for name in BELIEVED},
            matrix=table.correlations[0].astype(float),
        ),
        reference.Held(
            account.cash,
            account.cash - account.short_proceeds - account.unsettled_proceeds,
            np.array([float(account.positions[name]) for name in names]),
            np.array([account.prices[name] for name in names]),
            account.max_leverage,
            account.is_shorting_enabled,
        ),
        rules_of(settings, bars, float(table.crypto_correlation[0])),
    )


def coin(symbol: str) -> bool:
    """Whether a symbol is a coin's."""
    return symbol.endswith("USD")


def drawn_settings(rng: np.random.Generator) -> BacktestSettings:
    """Settings of a decision."""
    return BacktestSettings(
        sizing=SizingSettings(strategy=str(rng.choice(STRATEGIES))),
        limits=Limits(
            symbol_cap=float(rng.choice([0.2, 0.6, 2.0])),
            intraday_leverage=float(rng.choice([1.0, 4.0])),
            overnight_leverage=float(rng.choice([1.0, 2.0, 5.0])),
            crypto_leverage=float(rng.choice([0.3, 1.0])),
            margin_equity=float(rng.choice([0.0, 2_000.0])),
        ),
        prior=PriorSettings(stock_sharpe=0.5, crypto_sharpe=rng.choice([None, 1.0, 2.0])),
        margin=MarginTerms(
            leverage=float(rng.choice([1.0, 2.0, 4.0])),
            margin_equity=float(rng.choice([2_000.0, 5_000.0])),
            interest_rate=float(rng.choice([0.0, 0.065, 2.0])),
        ),
    )


def drawn_beliefs(rng: np.random.Generator, bars: Bars) -> BeliefTable:
    """What is believed at the one instant; forecasts from none to far beyond costs."""
    size = len(bars.symbols)
    periods = int(rng.choice([1, 3]))
    known = rng.random(size) < 0.85
    hours = np.array([1.0, 2.0, 130.0])[:periods]
    deviation = rng.uniform(0.003, 0.02, size)
    sigma = np.where(known, deviation * np.sqrt(hours)[:, None], np.nan)
    signal = rng.choice([0.0, 5e-4, 5e-3]) * rng.normal(size=size)
    faded = np.array([1.0, 0.5, 0.0])[:periods, None]
    factors = rng.normal(size=(size, 3))
    risk = factors @ factors.T + np.diag(rng.uniform(0.3, 2.0, size))
    spread = np.sqrt(np.diag(risk))
    return BeliefTable(
        symbol_index=np.arange(len(bars.symbols)),
        instants=np.array([AT]),
        period_ends=AT + (hours.cumsum() * 3600).astype("timedelta64[s]")[None],
        is_overnight=rng.random(1) < 0.5,
        can_trim_overnight=rng.random(1) < 0.5,
        class_trading_years=YEARS[None, :periods],
        interest_night_count=np.array([[0, 1, 28]])[:, :periods],
        shared_news_fraction=rng.uniform(0.2, 1.0, (1, periods)),
        crypto=bars.crypto,
        is_adjustable=(known & (rng.random(size) < 0.85))[None],
        exclusion_rule=np.zeros((1, size), dtype=np.int8),
        is_exiting=np.zeros((1, size), dtype=bool),
        mu=np.where(known, signal * faded, np.nan)[None],
        sigma=sigma[None],
        shrinkage=np.full((1, size), np.nan),
        signal_rms=np.abs(rng.normal(size=(1, size))) * rng.choice([0.0, 1e-4, 3e-3]),
        premium_per_unit_sharpe=rng.uniform(0.0, 0.2, (1, size)),
        earned=rng.choice([np.nan, 0.0, 0.4], 1),
        crypto_correlation=rng.uniform(-1.0, 1.0, 1),
        correlation_index=np.zeros(1, dtype=np.int64),
        correlations=(risk / np.outer(spread, spread))[None].astype(np.float32),
    )


def drawn_account(rng: np.random.Generator, bars: Bars, terms: MarginTerms) -> AccountSnapshot:
    """An account, as the broker of `terms` sees it: what is held is whole or dust beside it."""
    equity = float(rng.choice(EQUITIES))
    prices = np.exp(rng.uniform(0.0, 6.0, len(bars.symbols))).round(2)
    weights = rng.uniform(-1.0, 1.0, len(prices)) * rng.choice([0.0, 0.3, 1.2], len(prices))
    weights = np.where(bars.crypto, np.abs(weights), weights)
    if bars.crypto.any() and rng.random() < 0.3:  # the whole account is in crypto
        weights = bars.crypto * (weights + 1e-3) / float((weights + 1e-3)[bars.crypto].sum())
    positions = {}
    for item, price, weight in zip(
        bars.instruments, prices.tolist(), weights.tolist(), strict=True
    ):
        steps = int(weight * abs(equity) / price / float(item.qty_increment))
        dust = Decimal("0.000000003") if coin(item.symbol) and steps else Decimal(0)
        positions[item.symbol] = steps * item.qty_increment + dust
    held = np.array([float(quantity) for quantity in positions.values()])
    cash = round(equity - float(held @ prices), 2)
    short = float(-np.minimum(held * prices, 0.0).sum())
    account = AccountSnapshot(
        cash,
        positions,
        dict(zip(bars.symbols, prices.tolist(), strict=True)),
        AT,
        unsettled_proceeds=round(float(rng.choice([0.0, 0.1])) * abs(equity), 2),
        short_proceeds=round(short * float(rng.choice([0.0, 1.1])), 2),
    )
    margined = account.equity >= terms.margin_equity
    leverage = terms.leverage if margined else min(terms.leverage, 1.0)
    return replace(account, max_leverage=leverage, is_shorting_enabled=margined)


def rules_of(settings: BacktestSettings, bars: Bars, crypto_correlation: float) -> reference.Rules:
    """The same settings as plain numbers."""
    costs, limits = settings.costs, settings.limits
    stocks, crypto = settings.prior.stock_sharpe, settings.prior.crypto_sharpe
    name, percent = settings.sizing.strategy.split("_")
    return reference.Rules(
        crypto=bars.crypto,
        long_only=bars.long_only,
        increment=np.array([float(item.qty_increment) for item in bars.instruments]),
        fraction=float(percent) / 100,
        forecast=name == "kelly",
        sharpe=(stocks, stocks * crypto_correlation if crypto is None else crypto),
        cost=(
            (costs.stock_half_spread_bps + costs.stock_slippage_bps) / 1e4,
            (costs.crypto_half_spread_bps + costs.crypto_slippage_bps) / 1e4
            + settings.fees.crypto_tiers[0].taker,
        ),
        night_rate=settings.margin.interest_rate / 360,
        smallest=(
            settings.orders.min_values_when_sized(np.array([True]))[0],
            settings.orders.crypto_dust,
        ),
        cap=limits.symbol_cap,
        leverage=(limits.intraday_leverage, limits.overnight_leverage),
        buffer=limits.overnight_buffer,
        crypto_leverage=limits.crypto_leverage,
        margin_equity=limits.margin_equity,
        order_price_buffer=settings.margin.order_price_buffer,
    )


def stepped(case: Case) -> tuple[Decision, Array]:
    """The trader's decision, and the signed quantities [S] that it leaves."""
    trader: Trader = case.settings.build_trader(RandomWalk())
    belief = case.table.at_instant(AT)
    assert belief is not None
    own_bars = BarsBySymbol(case.bars, keep=case.settings.sizing.history_bars)
    decision = trader.decide_from_beliefs(belief, case.bars, case.account, own_bars)
    quantity = dict(case.account.positions)
    for choice in decision.choices:
        quantity[choice.symbol] += choice.qty
    return decision, np.array([float(quantity[symbol]) for symbol in case.bars.symbols])


def compiled(case: Case) -> Array:
    """The signed quantities [S] that the compiled decision of a sweep leaves."""
    book = case.settings.build_book(case.bars)
    book.account["cash"] = case.account.cash
    book.account["short_proceeds"] = case.account.short_proceeds
    book.account["unsettled"] = case.account.unsettled_proceeds
    book.holdings["quantity"] = case.held.quantity
    book.holdings["mark"] = case.held.price
    inputs = build_compiled_inputs(case.settings, case.bars, case.table)
    nothing = RecordedDecisions.allocate(case.table, without_rows=True)
    return decide_target_quantities(book, inputs, 0, nothing, without_strategy(inputs))[0]


def without_strategy(inputs: CompiledInputs) -> StrategyCall:
    """The call of a strategy in Python that is never made: the solver decides."""
    _, periods, size = inputs.beliefs.mu.shape
    return StrategyCall(
        DecisionFunction(lambda row, count: UNFINISHED),
        replaces_solver=False,
        is_weight_rule=False,
        no_trade_band=0.0,
        is_forecast_directed=False,
        problem=SharedProblemArrays.allocate(periods, size, inputs.sizing_terms.group_constraints),
        weights=np.empty(size),
        explanations=TargetExplanation.empty(0, size),
    )


@example(4)  # without equity what nothing has sized is closed for the night
@example(75)  # what cannot be borrowed is not sold short, and a short of it stays
@example(228)  # a coin that is sold pays back a loan before it buys another
@example(369)  # at the equity from which the broker lends
@example(8697)  # what coins bring pays for others, in whole steps
@given(st.integers(0, 10**9))
def test_live_and_compiled_decisions_match_reference_implementation(seed: int) -> None:
    case = drawn(seed)
    expected = reference.decided(case.believed, case.held, case.rules)
    decision, quantity = stepped(case)
    np.testing.assert_allclose(compiled(case), quantity, rtol=0, atol=1e-9)
    equity = case.account.equity
    if not equity > 0:
        np.testing.assert_array_equal(quantity, expected.quantity)
        return
    one_step = case.rules.increment * case.held.price / equity
    off = (quantity - expected.quantity) * case.held.price / equity
    assert (np.abs(off) <= 1.01 * one_step + TOLERANCE).all(), off
    for choice in decision.choices:
        s = case.bars.symbols.index(choice.symbol)
        assert choice.target_weight == pytest.approx(expected.weight[s], abs=TOLERANCE)


@given(st.integers(0, 10**9))
def test_binding_limits_are_exhausted_with_correct_shadow_prices(seed: int) -> None:
    """A binding ceiling has no headroom; the shadow prices of a weight sum to its marginal value,
    net of cost.
    """
    case = drawn(seed)
    expected = reference.decided(case.believed, case.held, case.rules)
    program = expected.program
    if program is None or program.financing.any():  # a short gives back what is borrowed later
        return
    used = program.rows @ np.abs(expected.plan[0])
    for choice in stepped(case)[0].choices:
        s = case.bars.symbols.index(choice.symbol)
        prices = {
            name: price for name, price in choice.binding_shadow_prices.items() if name != "cost"
        }
        if not prices or not np.isfinite(list(prices.values())).all():
            continue
        assert min(prices.values()) >= 0
        gain, outward = reference.beyond(program, expected.plan, s, choice.target_weight)
        edges = {"symbol_cap": outward * case.rules.cap, "long_only": min(choice.held_weight, 0.0)}
        taken = 0.0
        for name in edges.keys() & prices:
            assert choice.target_weight == pytest.approx(edges[name], abs=TOLERANCE)
            taken = max(taken, prices[name])
        for row, name in enumerate(CEILINGS):
            if name in prices:
                assert used[row] >= program.rooms[row] - 10 * TOLERANCE
                taken += prices[name] * program.rows[row, s]
        if choice.target_weight not in (0.0, choice.held_weight):
            assert taken == pytest.approx(gain, rel=1e-3, abs=1e-5)
