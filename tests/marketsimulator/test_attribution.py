"""Where the money came from: the parts add up to the profit over symbols, hours and kinds, whatever
was decided and whatever happened, and each is what its definition says.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from execution.decision.choice import NO_RATIONALE, Choice
from foundation.decimals import to_cents
from foundation.tables import Cell
from marketsimulator.results.attribution import (
    ACCOUNT_LABEL,
    PROFIT_PARTS,
    Attribution,
    SymbolHistory,
    attribute_run_profit,
    attribute_symbol_profit,
    split_ordered_quantity,
)
from marketsimulator.results.figures import return_contributions
from marketsimulator.results.report_tables import attribution_tables, round_profits_to_cents
from marketsimulator.results.round_trips import build_round_trips
from marketsimulator.results.summary import BacktestResults
from marketsimulator.run_result import DecisionLog, Run, run_file_writers
from marketsimulator.runs.outcome import VariantOutcome
from sizing.binding import LIMITS_WITH_SHADOW_PRICE
from tests.marketsimulator.accounts import FREE, account_on, market, panel_of, stock_ends
from tests.marketsimulator.wild import ACTIONS, decision_at, wild_run
from trainingdata.bars import CLOSE, Bars, last_closes_by_symbol
from trainingdata.market import Market

NAN = float("nan")


@settings(max_examples=20)
@given(
    seed=st.integers(0, 10**6),
    capital=st.sampled_from([1_500.0, 26_000.0, 2_000_000.0]),
    wild=st.sampled_from([0.005, 0.03]),
    big=st.sampled_from([0.4, 2.0]),
)
def test_profit_parts_add_up_by_symbol_and_account(
    seed: int, capital: float, wild: float, big: float
) -> None:
    run, bars, _ = wild_run(seed, capital, wild, big)
    found = attribute_run_profit(run, Market(bars, 0, ACTIONS))
    profit = run.equity_rows[-1].equity - capital
    near = 1e-9 * (capital + np.abs(found.profit).sum())
    by_part = dict(zip(PROFIT_PARTS, found.profit.sum(axis=(0, 1)).tolist(), strict=True))
    assert sum(by_part.values()) == pytest.approx(profit, abs=near)
    closes = dict(zip(bars.symbols, bars.last_closes().tolist(), strict=True))
    earned = {symbol: 0.0 for symbol in (*bars.symbols, "")}
    for fill in run.fills:
        worth = float(fill.qty) * (closes[fill.symbol] - fill.price)
        earned[fill.symbol] += worth - fill.fee
    for booking in run.bookings:
        if booking.kind not in ("spread", "slippage"):
            earned[booking.symbol] += booking.usd
    tables = found.profit_by_symbol(), found.profit_by_hour()
    for symbol, parts in tables[0].items():
        whose = "" if symbol == ACCOUNT_LABEL else symbol
        assert sum(parts.values()) == pytest.approx(earned[whose], abs=near), symbol
    for table in tables:
        for part, usd in by_part.items():
            assert sum(row[part] for row in table.values()) == pytest.approx(usd, abs=near)
    costs = VariantOutcome.from_run(run).totals.costs_by_kind
    paid = sum(costs[kind] for kind in ("spread", "slippage", "fees", "crypto_fees"))
    assert by_part["costs"] == pytest.approx(-paid, abs=near)
    got = sum(row.other + row.rounding - row.interest for row in run.equity_rows)
    assert by_part["financing"] == pytest.approx(got, abs=near)
    shown_parts_add_up_to_the_cent(run, bars, found, capital)


def shown_parts_add_up_to_the_cent(
    run: Run, bars: Bars, found: Attribution, capital: float
) -> None:
    """By symbol, by hour and by part, also where dividends, splits and borrow are a symbol's."""
    earned = return_contributions(bars, run, capital)
    profits = round_profits_to_cents(earned, capital)
    profit = sum(profits.values())
    assert profit == to_cents(run.equity_rows[-1].equity - capital)
    for symbol in bars.symbols:
        own = sum(
            t.profit
            for t in build_round_trips(run, last_closes_by_symbol(bars))
            if t.symbol == symbol
        )
        assert own == pytest.approx(earned[symbol] * capital, abs=1e-6)
        assert abs(float(profits[symbol]) - own) < 0.01 + 1e-6
    parts = found.as_dict()
    shown = attribution_tables(parts["symbols"], parts["hours"], profit)
    in_all = [cents(row[1]) for row in shown["parts"].rows]
    assert sum(in_all[:-1]) == in_all[-1] == profit
    for table in (shown["realised_symbols"], shown["realised_hours"]):
        amounts = [[cents(cell) for cell in cells] for _, *cells in table.rows]
        assert amounts[-1][-1] == profit
        assert [sum(column) for column in zip(*amounts[:-1], strict=True)] == amounts[-1]
        assert all(sum(row[:-1]) == row[-1] for row in amounts)
    for table in (shown["symbols"], shown["hours"]):
        amounts = [[cents(cell) for cell in cells] for _, *cells in table.rows]
        assert amounts[-1] == in_all
        assert [sum(column) for column in zip(*amounts[:-1], strict=True)] == in_all
        assert all(sum(row[:-1]) == row[-1] for row in amounts)


def cents(cell: str | Cell) -> Decimal:
    return Decimal(str(cell).replace("$", "").replace(",", ""))


def by_pandas(folder: Path, closes: pd.DataFrame) -> pd.DataFrame:
    """USD of each part by symbol and instant, from the files of a run and its bars' closes."""
    decisions, fills, equity, bookings = (
        pd.read_parquet(folder / f"{name}.parquet")
        for name in ("decisions", "fills", "equity", "bookings")
    )
    rows = []
    for symbol in closes["symbol"].unique():
        frame = equity[["at"]].copy()
        own = closes[closes["symbol"] == symbol][["at", "close"]]
        frame = pd.merge_asof(frame, own, on="at").rename(columns={"close": "mark"})
        traded = fills[fills["symbol"] == symbol].copy()
        traded["paid"] = traded["qty"] * traded["price"]
        traded["coin"] = np.where(traded["price"] == 0, -traded["qty"] * traded["price"].shift(), 0)
        at = traded.groupby("at")[["qty", "paid", "fee", "coin"]].sum()
        frame = frame.join(at, on="at").fillna(0.0)
        frame["held"] = frame["qty"].cumsum().shift(fill_value=0.0)
        frame["move"] = frame["mark"].diff().fillna(0.0)
        d = decisions[decisions["symbol"] == symbol].copy()
        unit = d["equity"] / d["price"]
        d["ordered"] = d["held"] * unit + d["qty"]
        wanted = d["kelly"] * unit
        d["premium"] = (d["plan_premium_weight"] * unit).fillna(0.0)
        d["forecast"] = (d["plan_forecast_weight"] * unit).fillna(0.0)
        bound = (
            d["binding"]
            .str.split("+")
            .map(lambda names: bool({*names} & {*LIMITS_WITH_SHADOW_PRICE}))
        )
        d["limits"] = np.where(bound & wanted.notna(), d["target"] * unit - wanted, 0.0)
        d["sizing"] = d["ordered"] - d["premium"] - d["forecast"] - d["limits"]
        names = ["premium", "forecast", "sizing", "limits"]
        frame = pd.merge_asof(
            frame, d[["at", "ordered", *names]], on="at", allow_exact_matches=False
        ).fillna(0.0)
        frame[names] = frame[names].mul(frame["move"], axis=0)
        other = bookings[bookings["symbol"] == symbol]
        inside = other["kind"].isin(["spread", "slippage"])
        within = other[inside].groupby("at")["usd"].sum()
        beside = other[~inside].groupby("at")["usd"].sum()
        frame["within"] = frame["at"].map(within).fillna(0.0)
        frame["costs"] = frame["within"] - frame["fee"] - frame["coin"]
        frame["financing"] = frame["at"].map(beside).fillna(0.0)
        frame["timing"] = (frame["held"] - frame["ordered"]) * frame["move"]
        frame["timing"] += frame["qty"] * frame["mark"] - frame["paid"]
        frame["timing"] += frame["coin"] - frame["within"]
        rows.append(frame.assign(symbol=symbol)[["at", "symbol", *PROFIT_PARTS]])
    of_account = bookings[bookings["symbol"] == ""]
    frame = of_account[["at"]].assign(symbol=ACCOUNT_LABEL, **dict.fromkeys(PROFIT_PARTS, 0.0))
    rounding = of_account["kind"] == "rounding"
    frame["costs"] = of_account["usd"].where(rounding, 0.0)
    frame["financing"] = of_account["usd"].where(~rounding, 0.0)
    return pd.concat([*rows, frame])


def test_profit_attribution_is_reproducible_from_run_files(
    traded: BacktestResults, tmp_path: Path
) -> None:
    run = traded.main_run
    for name, write in run_file_writers(run).items():
        write(tmp_path / name)
    closes = []
    for s, symbol in enumerate(traded.market.bars.symbols):
        at, values = traded.market.bars.bars_of_symbol(s)
        known = pd.DatetimeIndex(at).tz_localize("UTC")
        closes.append(pd.DataFrame({"at": known, "symbol": symbol, "close": values[:, CLOSE]}))
    read = by_pandas(tmp_path, pd.concat(closes))
    found = attribute_run_profit(run, traded.market)
    assert read[list(PROFIT_PARTS)].abs().sum().sum() > 0
    hours = read["at"].dt.tz_convert("America/New_York").dt.strftime("%H:%M")
    for table, keys in (
        (found.profit_by_symbol(), read["symbol"]),
        (found.profit_by_hour(), hours),
    ):
        mine = read.groupby(keys)[list(PROFIT_PARTS)].sum().reindex(list(table), fill_value=0.0)
        ours = pd.DataFrame(table).T
        pd.testing.assert_frame_equal(ours, mine, rtol=1e-9, atol=1e-6, check_names=False)


CHOICE = Choice(
    symbol="AAA",
    mu=0.0,
    sigma=0.01,
    kelly=1.2,
    held_weight=0.1,
    target_weight=0.5,
    qty=Decimal(39),
    price=100.0,
    binding_shadow_prices={"symbol_cap": 0.01},
    unit_cost=0.0,
    rationale=NO_RATIONALE._replace(premium_weight=2.0, forecast_weight=-0.7),
)


def decided(choice: Choice, equity: float = 10_000.0) -> pd.DataFrame:
    """The row of a decision that holds this choice alone."""
    at = np.datetime64("2024-03-04T15:00", "ns")
    return DecisionLog([decision_at(at, equity, [choice], [])]).frame


def planned(choice: Choice, equity: float = 10_000.0) -> list[float]:
    (parts,) = split_ordered_quantity(decided(choice, equity)).tolist()
    return list(parts)


def test_decision_quantities_by_cause_match_hand_calculation() -> None:
    """10,000 USD at 100: a weight of 1 is 100 shares. 120 wanted, 50 allowed, 10 held, 49 ordered.

    The premium wants 200 and the forecast 70 short; 10 fewer hedge what others hold.
    """
    premium, forecast, sizing, limits = planned(CHOICE)
    assert (premium, forecast, limits) == (200.0, -70.0, -70.0)
    assert sizing == pytest.approx(-11.0)
    free = CHOICE._replace(binding_shadow_prices={"cost": NAN})
    assert planned(free) == pytest.approx([200.0, -70.0, -81.0, 0.0])
    unknown = CHOICE._replace(rationale=NO_RATIONALE)
    assert planned(unknown) == pytest.approx([0.0, 0.0, 119.0, -70.0])
    unsized = CHOICE._replace(kelly=NAN)
    assert planned(unsized) == pytest.approx([0.0, 0.0, 49.0, 0.0])
    closed = CHOICE._replace(held_weight=NAN, target_weight=0.0, kelly=NAN, qty=Decimal(-10))
    assert planned(closed, -5.0) == [0.0, 0.0, 0.0, 0.0]


def test_attribution_over_fill_and_split_matches_hand_calculation() -> None:
    """49 shares are ordered at 100 and 40 are filled at 101.1 after an open of 101; 10 were held.
    Then the price rises to 104, a 2-for-1 split applies, and each new share rises to 53.
    """
    history = SymbolHistory(
        marks=np.array([100.0, 104.0, 53.0]),
        initial_mark_and_quantity=(100.0, 10.0),
        split_ratios=np.array([1.0, 1.0, 2.0]),
        quantity_changes=np.array([40.0, 0.0, 50.0]),
        traded_value=np.array([40 * 101.1, 0.0, 0.0]),
        spread_and_slippage=np.array([4.0, 0.0, 0.0]),
        crypto_fees=np.zeros(3),
        other_costs=np.array([0.5, 0.0, 0.0]),
        financing=np.array([0.0, 0.0, 7.0]),
    )
    plans = np.zeros(1, dtype=np.int64), split_ordered_quantity(decided(CHOICE))
    parts = [
        dict(zip(PROFIT_PARTS, row, strict=True))
        for row in attribute_symbol_profit(history, *plans).tolist()
    ]
    nothing = dict.fromkeys(PROFIT_PARTS, 0.0)
    assert parts[0] == pytest.approx({**nothing, "costs": -4.5, "timing": -40.0})
    assert parts[1] == pytest.approx(
        {**nothing, "premium": 800, "forecast": -280, "limits": -280, "sizing": -44, "timing": 4}
    )
    assert parts[2] == pytest.approx(
        {
            **nothing,
            "premium": 400,
            "forecast": -140,
            "limits": -140,
            "sizing": -22,
            "timing": 2,
            "financing": 7,
        }
    )


def test_limit_orders_pay_no_spread_but_stops_do() -> None:
    """In one bar the market order fills at the open, the stop at 101 and the limit not at all."""
    ends = stock_ends("2024-03-04", 4)
    rows = [(100.0, 102.0, 97.0, 100.0)] * 4
    bars = panel_of({"AAA": (ends, rows), "BBB": (ends, rows)})
    broker = account_on(bars, costs=replace(FREE, stock_half_spread_bps=10, stock_slippage_bps=5))
    broker.submit([market("a", "AAA", 10)])
    stop = replace(market("b", "BBB", 10), type="stop", stop_price=101.0)
    limit = replace(market("c", "AAA", 10), type="limit", limit_price=98.0)
    broker.submit([stop, limit])
    broker.advance(1)
    broker.open_bars()
    row = broker.equity_row()
    paid = {(b.symbol, b.kind): -b.usd for b in broker.bookings}
    assert paid["AAA", "spread"] == pytest.approx(1.0)
    assert paid["AAA", "slippage"] == pytest.approx(0.5)
    assert len(broker.fills) == 3
    assert paid["BBB", "spread"] == pytest.approx(1.01)
    assert {kind for symbol, kind in paid if symbol == "AAA"} == {"spread", "slippage"}
    assert row.spread == pytest.approx(1.01)
