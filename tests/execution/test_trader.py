from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from execution.decision.choice import format_reason
from execution.decision.sizing import SizingSettings
from execution.decision.trader import Trader
from execution.orders.fees import CryptoTier, FeeSchedule, TradingCosts
from sizing.settings import Limits, PriorSettings
from sizing.strategies import KellyStrategy
from tests.execution.traders import (
    LAST,
    MIDDAY,
    NIGHT,
    STOCKS,
    Tilted,
    account_of,
    allowing,
    choice_of,
    decided,
    known,
    prices_of,
    trader_of,
    without_an_answer,
)
from trainingdata.bars import Bars
from trainingdata.market import Market

FREE = {
    "costs": TradingCosts(0, 0, 0, 0, 0, 0),
    "fees": FeeSchedule(crypto_tiers=(CryptoTier(0, 0, 0),)),
}


def trader(limits: Limits | None = None, **basis_points: float) -> Trader:
    """One that looks as far as the next decision and believes in no premium."""
    return trader_of(
        Tilted(**basis_points),
        SizingSettings(holding="next"),
        limits=limits,
        prior=PriorSettings(stock_sharpe=0.0),
    )


def test_order_rationale_states_moments_until_the_next_decision(market: Bars) -> None:
    for choice in decided(market, MIDDAY, trader(SYA=20.0, SYB=-20.0)).choices:
        if np.isfinite(choice.sigma):
            assert choice.rationale.deviation == pytest.approx(choice.sigma, rel=1e-12)
            assert choice.rationale.forecast == pytest.approx(choice.mu, abs=1e-12)


def test_forecast_sign_decides_the_order_side(market: Bars) -> None:
    """A bearish forecast sells or shorts; its sign is never lost."""
    decision = decided(market, MIDDAY, trader(SYA=20.0, SYB=-20.0))
    sides = {o.symbol: o.side for o in decision.orders}
    assert sides == {"SYA": "buy", "SYB": "sell"}
    coins = decided(market, NIGHT, trader(SYXUSD=-90.0, SYYUSD=90.0))
    assert {o.symbol: o.side for o in coins.orders} == {"SYYUSD": "buy"}
    assert {c.symbol: c.bound_by for c in coins.choices}["SYXUSD"] == "long_only"


def test_edge_below_cost_orders_nothing_and_states_cost(market: Bars) -> None:
    """An hour's expected return has to exceed the trading cost."""
    decision = decided(market, MIDDAY, trader(SYA=1.9))
    assert decision.orders == ()
    choice = choice_of(decision, "SYA")
    assert choice.unit_cost > 0
    assert f", bound by cost ({choice.unit_cost * 1e4:.3g} bp)" in format_reason(choice, 1.0)
    assert decided(market, MIDDAY, trader(SYA=5.0)).orders != ()


def gappy(bars: Bars, *symbols: str) -> Bars:
    """The panel without the last bars of these."""
    mask = bars.mask.copy()
    mask[[bars.symbols.index(symbol) for symbol in symbols], -1] = False
    values = np.where(mask[:, :, None], bars.values, np.nan)
    return Bars(bars.instruments, bars.times, values, mask, "test")


def test_symbol_without_bar_or_permission_is_not_decided(market: Bars) -> None:
    panel = known(market, MIDDAY)
    for shown in (gappy(panel, "SYA"), allowing(panel, "SYA", is_tradable=False)):
        decision = trader(SYA=50.0, SYB=50.0).decide(shown, account_of(shown))
        assert decision is not None
        assert {c.symbol for c in decision.choices} == {"SYB", "SYC"}


def test_later_bars_change_no_decision(
    market: Bars, scrambled_after: Callable[[Bars, np.datetime64], Bars]
) -> None:
    """No decision sees what comes after it."""
    cut = np.datetime64(MIDDAY, "ns")
    altered = scrambled_after(market, cut)
    instants = market.times[market.times <= cut][-60:]
    both = (Market(bars, market.times.searchsorted(instants[0])) for bars in (market, altered))
    here, there = (trader(SYA=5.0, SYXUSD=60.0).with_beliefs(each) for each in both)
    for now in instants:
        a = market.slice_until(now)
        b = altered.slice_until(now)
        assert here.decide(a, account_of(a)) == there.decide(b, account_of(b))


def test_trader_with_precomputed_beliefs_decides_identically(market: Bars) -> None:
    """Precomputed tables equal the beliefs that the bars up to each instant would give."""
    plain = replace(trader(SYA=0.3, SYB=-0.2, SYXUSD=0.15, SYYUSD=0.1), **FREE)
    prepared = plain.with_beliefs(Market(market, len(market.times) - 300))
    for now in market.times[-300::11]:
        panel = market.slice_until(now)
        for held in (account_of(panel), account_of(panel, SYA=150.0, SYC=-80.0, SYXUSD=2.5)):
            assert plain.decide(panel, held) == prepared.decide(panel, held)


@pytest.mark.parametrize(("tilt", "target"), [(50.0, 0.6), (-50.0, -0.6), (-0.01, -0.6)])
def test_legacy_rule_replaces_a_failed_solver_when_enabled(
    market: Bars, monkeypatch: pytest.MonkeyPatch, tilt: float, target: float
) -> None:
    """A small negative forecast is bought for its premium by Kelly, and sold by the legacy rule,
    which knows no premium.
    """
    who = trader(**dict.fromkeys(STOCKS, tilt))
    failing = replace(who, prior=PriorSettings(stock_sharpe=2.0), sizing=SizingSettings())
    if tilt == -0.01:
        assert all(choice.target_weight > 0 for choice in decided(market, MIDDAY, failing).choices)
    asked = replace(failing, sizing=SizingSettings(fallback="legacy"))
    monkeypatch.setattr(KellyStrategy, "allocate", without_an_answer)
    assert decided(market, MIDDAY, failing).orders == ()
    decision = decided(market, MIDDAY, asked)
    assert decision.sizing_failure == "no convergence"
    assert [str(rule) for rule in decision.sizing_rules] == ["Legacy sizing: SYA SYB SYC"]
    assert {choice.target_weight for choice in decision.choices} == {target}
    assert {choice.rationale.premium for choice in decision.choices} == {0.0}
    assert all(str(o.reason).startswith("no convergence; forecast") for o in decision.orders)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tilts=st.lists(st.floats(-300, 300), min_size=5, max_size=5),
    shares=st.lists(st.floats(-1, 1), min_size=5, max_size=5),
    at=st.sampled_from([MIDDAY, LAST, NIGHT]),
    lent=st.sampled_from([1.0, 1.5, 2.0, 4.0]),
    name=st.sampled_from(["kelly_50", "legacy", "risk_parity"]),
)
def test_orders_fit_the_buying_power_at_103_percent(
    market: Bars, tilts: list[float], shares: list[float], at: str, lent: float, name: str
) -> None:
    """The venue checks market buys and shorts at 1.03 of their price and would refuse the full
    leverage.
    """
    panel = known(market, at)
    prices = prices_of(panel)
    positions = {
        symbol: round(max(share, 0) * 30_000 / prices[symbol], 3)
        if symbol.endswith("USD")
        else round(share * lent * 20_000 / prices[symbol])
        for symbol, share in zip(panel.symbols, shares, strict=True)
    }
    held = replace(account_of(panel, **positions), max_leverage=lent)
    who = trader(Limits(symbol_cap=1.5), **dict(zip(panel.symbols, tilts, strict=True)))
    who = replace(who, sizing=replace(who.sizing, strategy=name))
    decision = who.decide(panel, held)
    assert decision is not None
    stays = {"stock": 0.0, "coin": 0.0}
    opened = {"stock": 0.0, "coin": 0.0}
    sold = 0.0
    for choice in decision.choices:
        kind = "coin" if choice.symbol.endswith("USD") else "stock"
        before = float(held.positions[choice.symbol])
        after = before + float(choice.qty)
        kept = min(abs(before), abs(after)) if before * after > 0 else 0.0
        stays[kind] += kept * prices[choice.symbol]
        opened[kind] += (abs(after) - kept) * prices[choice.symbol]
        sold += (before - kept) * prices[choice.symbol] if kind == "coin" else 0.0
    # Orders that reduce come first, and what a coin brings pays for another at once.
    if opened["coin"]:
        assert 1.03 * opened["coin"] <= held.unborrowed_cash + sold + 1e-3
    if opened["stock"]:
        marginable = held.equity - stays["coin"] - opened["coin"]
        assert stays["stock"] + 1.03 * opened["stock"] <= lent * marginable + 1e-3


def test_log_message_states_leverage_limit_applied_to_targets(market: Bars) -> None:
    panel = known(market, MIDDAY)
    for lent, log_phrase in ((4.0, "4.0x"), (2.0, "2.0x"), (float("inf"), "4.0x")):
        who = trader(Limits(symbol_cap=1.5), **dict.fromkeys(STOCKS, 200.0))
        decision = decided(market, MIDDAY, who, replace(account_of(panel), max_leverage=lent))
        assert (
            f"Enhanced Kelly sizing with {log_phrase} leverage"
            in decision.sizing_rules[0].log_phrase
        )
        assert decision.stock_ceiling == pytest.approx(min(4.0, lent / 1.03))
        gross = sum(
            abs(choice.target_weight) for choice in decision.choices if choice.symbol in STOCKS
        )
        assert gross == pytest.approx(decision.stock_ceiling, rel=0.02)


def test_order_reason_says_if_legacy_rule_sized_it(market: Bars) -> None:
    kelly = trader(SYA=50.0)
    legacy = replace(kelly, sizing=SizingSettings(enhanced=False))
    [order] = [o for o in decided(market, MIDDAY, legacy).orders if o.symbol == "SYA"]
    assert str(order.reason).endswith(", sized by the legacy rule")
    for order in decided(market, MIDDAY, kelly).orders:
        assert "legacy" not in str(order.reason)
