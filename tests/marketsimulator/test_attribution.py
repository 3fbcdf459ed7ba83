"""Where the money came from: the parts add up to the profit over symbols, hours and kinds, whatever
was decided and whatever happened, and each is what its definition says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from execution.decision import NO_BASIS, Basis, Choice, Decision
from execution.lending import MarginTerms, SymbolRate
from execution.orders import Order
from execution.records import LIMITS, Row, Run
from marketsimulator.account.terms import FillTerms
from marketsimulator.results.account_figures import costs_by_kind
from marketsimulator.results.attribution import (
    ACCOUNT,
    PARTS,
    run_attribution,
)
from tests.marketsimulator.accounts import account_on, market
from tests.marketsimulator.test_invariants import ACTIONS, COSTS, FEES, SYMBOLS, bars_of
from trainingdata.bars import Bars

NAN = float("nan")
CAPITAL = 100_000.0
MARGIN = MarginTerms(
    borrow_rate=0.02,
    borrow_rates=(SymbolRate("BBB", 0.4),),
    cash_rate=0.03,
    requirements=(SymbolRate("BBB", 0.6),),
)


@dataclass(frozen=True)
class Nature:
    """What random decisions have: whether they expect anything, and whether limits bind."""

    premium: bool = True
    forecast: bool = True
    limits: bool = True


def basis(rng: np.random.Generator, nature: Nature) -> Basis:
    if rng.random() < 0.1:
        return NO_BASIS
    earned = float(rng.normal(0, 0.01)) if nature.premium else 0.0
    forecast = float(rng.normal(0, 0.01)) if nature.forecast else 0.0
    return NO_BASIS._replace(earned=earned, forecast=forecast)


def binding(rng: np.random.Generator, nature: Nature) -> dict[str, float]:
    if nature.limits and rng.random() < 0.5:
        return dict.fromkeys(rng.choice(LIMITS, 2).tolist(), 0.001)
    return {"cost": NAN} if rng.random() < 0.3 else {}


def wild_run(
    seed: int, nature: Nature, capital: float, wild: float, big: float
) -> tuple[Run, Bars]:
    """Random decisions with random orders, some for more than the account can carry."""
    rng = np.random.default_rng(seed)
    bars = bars_of(rng, wild, 4 * capital)
    broker = account_on(
        bars, capital, costs=COSTS, fees=FEES, fills=FillTerms(), margin=MARGIN, actions=ACTIONS
    )
    decisions: list[Decision] = []
    rows: list[Row] = []
    for t in range(len(bars.times)):
        if t:
            broker.advance(t)
        account = broker.account()
        choices, orders = [], []
        for number, symbol in enumerate(rng.permutation(SYMBOLS)[: rng.integers(0, 4)].tolist()):
            price = account.prices.get(symbol)
            if price is None:
                continue
            worth = max(account.equity, 1_000.0) * big * rng.normal(0.1, 0.4)
            qty = round(worth / price, 3) if symbol.endswith("USD") else float(int(worth / price))
            weights = rng.normal(0, 2, 2).tolist()
            held = float(account.exposure.get(symbol, 0)) * price
            held = held / account.equity if account.equity > 0 else NAN
            kelly = NAN if rng.random() < 0.1 else weights[0]
            basis_, limits = basis(rng, nature), binding(rng, nature)
            amount = Decimal(repr(qty))
            choices.append(
                Choice(
                    symbol, 0.0, 0.01, kelly, held, weights[1], amount, price, limits, 0.0, basis_
                )
            )
            orders += [market(f"o{t}-{number}", symbol, qty)] if qty else []
        decisions.append(decision_at(account.as_of, account.equity, choices, orders))
        broker.submit(orders)
        rows.append(broker.row())
    margin = broker.margin_events()
    return Run("wild", decisions, broker.fills, rows, margin, broker.bookings.entries), bars


def decision_at(
    at: np.datetime64, equity: float, choices: list[Choice], orders: list[Order]
) -> Decision:
    return Decision(at, at, equity, 1.0, tuple(choices), tuple(orders))


RUNS = {
    "seed": st.integers(0, 10**6),
    "capital": st.sampled_from([1_500.0, 26_000.0, 2_000_000.0]),
    "wild": st.sampled_from([0.005, 0.03]),
    "big": st.sampled_from([0.4, 2.0]),
}


@settings(max_examples=30)
@given(**RUNS)
def test_the_bookings_of_an_instant_are_its_flows(
    seed: int, capital: float, wild: float, big: float
) -> None:
    run, _ = wild_run(seed, Nature(), capital, wild, big)
    booked: dict[Any, dict[str, float]] = {row.at: {} for row in run.rows}
    for booking in run.bookings:
        kinds = booked[booking.at]
        kinds[booking.kind] = kinds.get(booking.kind, 0.0) + booking.usd
    for row in run.rows:
        kinds = booked[row.at]
        for kind in ("spread", "slippage", "borrow", "interest", "rounding"):
            assert kinds.get(kind, 0.0) == pytest.approx(-getattr(row, kind), abs=1e-8), kind
        assert kinds.get("dividend", 0.0) == pytest.approx(row.dividends, abs=1e-8)
        named = ("borrow", "rounding", "dividend", "split", "cash_interest")
        assert sum(kinds.get(kind, 0.0) for kind in named) == pytest.approx(row.other, abs=1e-8)


@settings(max_examples=40)
@given(**RUNS)
def test_the_parts_are_the_profit_of_every_symbol_and_of_the_account(
    seed: int, capital: float, wild: float, big: float
) -> None:
    run, bars = wild_run(seed, Nature(), capital, wild, big)
    found = run_attribution(run, bars, ACTIONS)
    profit = run.rows[-1].equity - capital
    near = 1e-9 * (capital + np.abs(found.usd).sum())
    assert found.profit == pytest.approx(profit, abs=near)
    closes = dict(zip(bars.symbols, bars.last_closes().tolist(), strict=True))
    earned = {symbol: 0.0 for symbol in (*bars.symbols, "")}
    for fill in run.fills:
        worth = float(fill.qty) * (closes[fill.symbol] - fill.price)
        earned[fill.symbol] += worth - fill.fee
    for booking in run.bookings:
        if booking.kind not in ("spread", "slippage"):
            earned[booking.symbol] += booking.usd
    tables = found.by_symbol(), found.by_hour()
    for symbol, parts in tables[0].items():
        whose = "" if symbol == ACCOUNT else symbol
        assert sum(parts.values()) == pytest.approx(earned[whose], abs=near), symbol
    for table in tables:
        for part, usd in found.parts().items():
            assert sum(row[part] for row in table.values()) == pytest.approx(usd, abs=near)
    costs = costs_by_kind(run.rows)
    paid = sum(costs[kind] for kind in ("spread", "slippage", "fees", "coin_fees"))
    assert found.parts()["costs"] == pytest.approx(-paid, abs=near)
    got = sum(row.other + row.rounding - row.interest for row in run.rows)
    assert found.parts()["financing"] == pytest.approx(got, abs=near)


def test_the_wild_runs_hold_everything_that_an_account_can_meet() -> None:
    seen: dict[str, float] = {}
    for seed in range(12):
        run, _ = wild_run(seed, Nature(), 26_000.0, 0.03, 2.0)
        for booking in run.bookings:
            seen[booking.kind] = seen.get(booking.kind, 0.0) + abs(booking.usd)
        for fill in run.fills:
            for name in ("liquidation", "split"):
                seen[name] = seen.get(name, 0.0) + (name in fill.client_order_id)
            seen["coin fee"] = seen.get("coin fee", 0.0) + (fill.price == 0 and fill.qty < 0)
        seen["calls"] = seen.get("calls", 0) + run.margin["margin_calls"]
    kinds = ("spread", "slippage", "dividend", "split", "borrow", "interest", "rounding")
    for name in (*kinds, "cash_interest", "liquidation", "coin fee", "calls"):
        assert seen.get(name, 0) > 0, name


@settings(max_examples=20)
@given(**RUNS, nature=st.sampled_from(["premium", "forecast", "limits"]))
def test_what_no_decision_knew_has_no_part(
    seed: int, capital: float, wild: float, big: float, nature: str
) -> None:
    run, bars = wild_run(seed, replace(Nature(), **{nature: False}), capital, wild, big)
    parts = run_attribution(run, bars, ACTIONS).parts()
    assert parts.pop(nature) == 0.0  # type: ignore[call-overload]
    assert all(parts[name] for name in ("premium", "forecast", "limits") if name in parts)


@given(seed=st.integers(0, 10**6))
def test_a_run_that_trades_nothing_gives_zeros(seed: int) -> None:
    run, bars = wild_run(seed, Nature(), CAPITAL, 0.03, 0.0)
    assert not run.fills
    found = run_attribution(run, bars, ACTIONS)
    idle = sum(row.other for row in run.rows)
    assert found.parts() == {part: 0.0 for part in PARTS} | {"financing": pytest.approx(idle)}
    assert not found.usd[:-1].any()
