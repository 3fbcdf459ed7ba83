"""A book under stress: losses by hand and to the cent, and the broker as a backtest has it."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.compose import compose_config
from foundation.decimals import to_cents
from foundation.errors import InputError
from marketsimulator.results.stress.book import StressedBook
from marketsimulator.results.stress.report import scenario_table, stress_json, stress_verdict
from marketsimulator.results.stress.scenarios import Scenario, scenario_price_moves
from tests.e2e.refused import answer_of
from tests.marketsimulator.stressed import (
    CHEAP,
    CLOSE,
    CRASH,
    book_at,
    book_of,
    outcome_of,
    run_through,
    sold,
    stress_of,
    terms,
    write_bars,
)
from tests.support.messages import refused
from trainingdata.sessions import exchange_calendar

SHIPPED = [Scenario(**each) for each in compose_config("stress", []).scenarios]
STOCKS = ("AAA", "BBB", "CCC")
CENT = Decimal("0.01")
FRIDAY = "2024-10-04T20:00Z"  # the close before the crash

positions = st.dictionaries(
    st.sampled_from((*STOCKS, "BTCUSD")),
    st.tuples(st.floats(0.001, 2_000).map(lambda x: round(x, 3)), st.floats(10.0, 300.0)),
    min_size=1,
)
both_sides = st.dictionaries(
    st.sampled_from(STOCKS),
    st.tuples(st.integers(-3_000, 3_000).filter(bool), st.floats(20.0, 200.0)),
    min_size=1,
)
moves = st.just(0.0) | st.floats(-0.95, -0.01) | st.floats(0.01, 2.0)


@given(positions, moves, moves, st.floats(0.8, 4.0))
def test_stressed_equity_is_consistent_to_the_cent(
    held: dict[str, tuple[float, float]], stocks: float, coins: float, leverage: float
) -> None:
    gross = sum(quantity * mark for quantity, mark in held.values())
    found = stress_of(book_of(held, gross / leverage), terms(CHEAP), stocks=stocks, crypto=coins)
    told = json.loads(stress_json(found))
    (one,) = told["scenarios"]
    loss = Decimal(one["loss"])
    by_hand = sum(
        Decimal(repr(quantity)) * Decimal(repr(mark))
        * Decimal(repr(coins if symbol.endswith("USD") else stocks))
        for symbol, (quantity, mark) in held.items()
    )  # fmt: skip
    assert abs(loss + by_hand) <= CENT / 2 + Decimal("1e-6")
    assert sum(map(Decimal, one["losses_by_symbol"].values())) == loss
    after = Decimal(one["equity_after"])
    assert Decimal(told["book"]["equity"]) - loss == after
    costs = sum(
        abs(float(each["qty"])) * abs(each["price"] - held[each["symbol"]][1] * (1 + stocks))
        + each["fee"]
        for each in one["liquidations"]
    )
    # A day's fees are rounded up to the cent, and only they come on top: nobody lends anything.
    assert -0.02 <= float(after - Decimal(one["final_equity"])) - costs <= 0.05
    if not one["liquidations"]:
        assert after == Decimal(one["final_equity"]), "nothing costs anything"
    margin = one["margin"]
    missing = Decimal(margin["required_collateral"]) - Decimal(margin["collateral"])
    assert missing == Decimal(margin["collateral_shortfall"])
    shown = [str(cell) for row in scenario_table(found).rows for cell in row]
    assert not re.search(r"-\$?0\.00\b", " ".join(shown) + json.dumps(told))


@given(st.floats(1.3, 3.2), st.floats(0.0005, 0.02))
def test_margin_call_starts_at_the_maintenance_threshold(leverage: float, beside: float) -> None:
    """0.3 L (1 - m) = 1 - L m at m = (1 - 0.3 L) / 0.7 L."""
    edge = (1 - 0.3 * leverage) / (0.7 * leverage)
    book = book_of({"AAA": (leverage * 100, 100.0)}, 10_000)
    below = outcome_of(book, stocks=-max(edge - beside, 0.0))
    above = outcome_of(book, stocks=-min(edge + beside, 0.9))
    assert (below.margin.has_margin_call, above.margin.has_margin_call) == (False, True)
    assert below.margin.collateral_shortfall < 0 < above.margin.collateral_shortfall
    assert below.loss < above.loss


@given(both_sides, st.floats(0.0, 0.6), st.floats(1.2, 6.0))
def test_liquidation_ends_with_margin_met_or_nothing_left(
    held: dict[str, tuple[float, float]], move: float, leverage: float
) -> None:
    gross = sum(abs(quantity) * mark for quantity, mark in held.values())
    outcome = outcome_of(book_of(held, gross / leverage), terms(CHEAP), stocks=-move, shorts=move)
    assert outcome.call_ending in ("none", "met", "nothing_left")
    assert (outcome.call_ending == "none") == (not outcome.margin.has_margin_call)
    left = {s: held[s][0] + sold(outcome).get(s, 0.0) for s in held}
    if outcome.call_ending == "nothing_left":
        assert set(left.values()) == {0.0}
    if outcome.call_ending == "met":
        # Of the gross that is left every dollar needs 30 % at least.
        assert outcome.final_leverage is None or outcome.final_leverage * 0.3 <= 1 + 1e-6
    for symbol, quantity in left.items():
        assert quantity * held[symbol][0] >= 0, "nothing is turned around"


def test_margin_call_and_liquidation_match_hand_calculation() -> None:
    """2,400 shares at 100 with an equity of 121,000: at 75 they are worth 180,000, and equity is
    61,000. The debit exceeds 100,000 in a single stock, so 50 % or 90,000 is required. The
    remaining position requires 95 % of 61,000.
    """
    found = stress_of(book_of({"AAA": (2_400, 100.0)}, 121_000), stocks=-0.25)
    (outcome,) = found.outcomes
    margin = outcome.margin
    assert outcome.loss == 60_000
    assert (margin.required_collateral, margin.collateral, margin.collateral_shortfall) == (
        90_000,
        61_000,
        29_000,
    )
    assert (margin.checked_at, margin.had_margin_call) == (
        np.datetime64("2024-10-07T20:00", "ns"),
        False,
    )
    assert sold(outcome) == {"AAA": -float(np.ceil(2_400 * (1 - 61_000 * 0.95 / 90_000)))}
    assert outcome.call_ending == "met"
    assert outcome.liquidations[0].at == np.datetime64("2024-10-08T13:30", "ns"), "the next open"
    claim = "Worst case: one loses $60,000.00, 49.6% of equity."
    assert stress_verdict(found) == (claim, "Margin calls: one.")


def test_overleveraged_portfolio_gets_margin_call_without_price_move() -> None:
    """The portfolio holds four times equity at 11:30, which a trader would cut at 15:30."""
    noon = np.datetime64("2024-10-04T15:30", "ns")
    still = outcome_of(book_of({"AAA": (400, 100.0)}, 10_000, noon))
    assert still.margin.has_margin_call
    assert (still.loss, still.margin.checked_at) == (0, CLOSE)
    assert outcome_of(
        book_of({"AAA": (400, 100.0)}, 10_000, noon), stocks=-0.2
    ).margin.has_intraday_deficit
    assert not outcome_of(book_of({"AAA": (200, 100.0)}, 10_000, noon)).margin.has_margin_call


@pytest.mark.parametrize(("shares", "is_deficit"), [(4_040, False), (4_041, True)])
def test_intraday_deficit_up_to_1000_is_forgiven(shares: int, is_deficit: bool) -> None:
    noon = np.datetime64("2024-10-04T15:30", "ns")
    found = outcome_of(book_of({"AAA": (shares, 100.0)}, 100_000, noon))
    assert found.margin.has_intraday_deficit is is_deficit


def test_short_squeeze_can_cost_several_times_the_position() -> None:
    """A short of 100 at 20 rises to 80 and loses 6,000; the long position loses a fifth of
    5,000.
    """
    book = book_of({"AAA": (50, 100.0), "BBB": (-100, 20.0), "BTCUSD": (1, 900.0)}, 5_000)
    found = stress_of(book, stocks=-0.2, shorts=3.0)
    (outcome,) = found.outcomes
    assert outcome.losses_by_symbol == {"AAA": 1_000, "BBB": 6_000, "BTCUSD": 0}
    assert (outcome.equity_after, outcome.leverage_after) == (-2_000, None)
    assert (sold(outcome), outcome.call_ending) == ({"AAA": -50, "BBB": 100}, "nothing_left")
    assert outcome.is_wiped_out
    assert "Wiped out: one." in stress_verdict(found)[1]
    single = outcome_of(book, stocks=-0.2, shorts=3.0, symbols={"BBB": 10.0, "ETH/USD": 1.0})
    assert single.losses_by_symbol["BBB"] == 20_000
    assert set(single.losses_by_symbol) == {"AAA", "BBB", "BTCUSD"}, (
        "what is not held loses nothing"
    )


def test_stress_test_never_sells_a_halted_symbol() -> None:
    book = book_of({"AAA": (2_000, 100.0), "BBB": (1_000, 99.0), "BTCUSD": (1, 900.0)}, 95_000)
    outcome = outcome_of(book, stocks=-0.3, crypto=-0.3, halted="largest")
    assert outcome.losses_by_symbol == {"AAA": 0, "BBB": 29_700, "BTCUSD": 270}
    assert outcome.margin.has_margin_call
    assert set(sold(outcome)) == {"BBB"}
    assert set(sold(outcome_of(book, stocks=-0.3, crypto=-0.3))) == {"AAA", "BBB"}
    most = book_of({"AAA": (3_000, 100.0), "BBB": (10, 100.0)}, 60_000)
    stands = outcome_of(most, stocks=-0.3, halted="largest")
    assert (sold(stands), stands.call_ending) == ({"BBB": -10.0}, "nothing_left")
    coins = outcome_of(book_of({"BTCUSD": (1, 900.0)}, 900), crypto=-0.3, halted="largest")
    assert coins.losses_by_symbol == {"BTCUSD": 270}, "no coin is halted"


def test_options_count_as_lost_in_every_scenario() -> None:
    outcome = outcome_of(book_of({"AAA": (1_000, 100.0)}, 100_000, option_risk=1_234.56))
    assert outcome.losses_by_symbol == {"AAA": 0, "options": Decimal("1234.56")}
    assert outcome.margin.collateral == 100_000 - Decimal("1234.56")


def fractions(scenario: Scenario, book: StressedBook) -> np.ndarray:
    return np.array([each.fraction for each in scenario_price_moves(scenario, book).values()])


def test_historical_scenario_uses_the_worst_bar_excluding_halted(tmp_path: Path) -> None:
    """AAA, the largest, is lowest at the end of the day and BBB at its beginning; AAA is halted."""
    data = write_bars(tmp_path / "bars", {"AAA": 0.6, "BBB": 1.0})
    for symbol, price in (("AAA", 100.0), ("BBB", 80.0)):
        frame = pd.read_csv(data / f"{symbol}.csv")
        first = frame["timestamp"] == f"{CRASH} 13:30:00+00:00"
        assert first.sum() == 1
        frame.loc[first, ["open", "high", "low", "close"]] = price
        frame.to_csv(data / f"{symbol}.csv", index=False)
    run_through(tmp_path / "run", data, [("AAA", "900"), ("BBB", "300")])
    book, _ = book_at(tmp_path / "run", FRIDAY)
    halted = Scenario("day", "a test", day=CRASH, halted="largest")
    assert fractions(halted, book) == pytest.approx([0.0, -0.2])
    assert fractions(Scenario("day", "a test", day=CRASH), book) == pytest.approx([-0.4, 0.0])


HELD = [("AAA", "1400"), ("BBB", "1200"), ("BTCUSD", "150")]
THIN = ("fills.volume_share=0.0001", "fills.remainder=carry", "margin.order_price_buffer=1")
LENT = ("fills.volume_share=null", "costs.stock_half_spread_bps=3", "margin.order_price_buffer=1")


SHORT = [("AAA", "-1700"), ("AAA", "200"), ("BBB", "1300")]  # a part is bought back
CRASHES = {
    "called": (HELD, {"AAA": 0.75, "BBB": 0.9, "BTCUSD": 0.5}, LENT),
    "not called": (HELD, {"AAA": 0.95, "BBB": 0.9, "BTCUSD": 0.5}, LENT),
    "wiped out": (HELD, {"AAA": 0.3, "BBB": 0.5, "BTCUSD": 0.5}, LENT),
    "short": (SHORT, {"AAA": 1.5, "BBB": 1.01}, LENT),
    "thin": (HELD, {"AAA": 0.6, "BBB": 0.9, "BTCUSD": 0.5}, (*THIN, "costs.stock_impact=0.5")),
}


@pytest.mark.first_example
@pytest.mark.parametrize("crash", CRASHES)
def test_stress_matches_a_backtest_through_the_crash(tmp_path: Path, crash: str) -> None:
    """Margin call, liquidations, prices and final equity agree."""
    orders, factors, words = CRASHES[crash]
    data = write_bars(tmp_path / "bars", factors, sessions=12, volume=3e6)
    run, its, _ = run_through(tmp_path / "run", data, orders, *words)
    book, settled_by = book_at(tmp_path / "run", FRIDAY)
    for name in ("costs", "fees", "margin", "fills"):
        assert getattr(settled_by, name) == getattr(its, name)
    found = outcome_of(book, settled_by, day=CRASH, stocks=-0.01, crypto=-0.01)
    assert {symbol: 1 + move.fraction for symbol, move in found.moves.items()} == pytest.approx(
        factors
    )
    basis = f"historical bars of the symbol, {FRIDAY}"
    assert all(move.basis.startswith(basis) for move in found.moves.values())

    through = [fill for fill in run.fills if fill.client_order_id.startswith("liquidation")]
    assert [(fill.symbol, float(fill.qty), fill.at, fill.price) for fill in through] == [
        (each.symbol, float(each.qty), each.at, each.price) for each in found.liquidations
    ]
    assert [fill.fee for fill in through] == [each.fee for each in found.liquidations]
    assert (
        bool(run.margin_event_counts["margin_calls"])
        == found.margin.has_margin_call
        == bool(through)
    )
    assert len(through) > 3 or crash != "thin"
    rows = {row.at: row for row in run.equity_rows}
    at_close = rows[found.margin.checked_at]
    assert to_cents(at_close.equity - at_close.gross_crypto) == found.margin.collateral
    closes = [
        at for at in rows if at >= found.margin.checked_at and at in exchange_calendar().closes
    ]
    near = (at for at in closes if abs(to_cents(rows[at].equity) - found.final_equity) <= CENT)
    end = next((rows[at] for at in near), None)
    assert end is not None, "its parts are rounded one by one"
    if found.final_leverage is not None:
        gross = end.gross_stock + end.gross_crypto
        assert found.final_leverage == pytest.approx(gross / end.equity, rel=1e-12)


def test_stress_test_reads_short_proceeds_from_the_run(tmp_path: Path) -> None:
    """One short is sold twice and partly bought back, and a margin call closes a share of both."""
    data = write_bars(tmp_path / "bars", {"AAA": 1.5, "BBB": 1.6}, sessions=12)
    orders = [("AAA", "-1000"), ("AAA", "-700"), ("AAA", "200"), ("BBB", "-100"), ("BBB", "30")]
    run, _, broker = run_through(tmp_path / "run", data, orders, *LENT)
    assert run.margin_event_counts["margin_calls"]
    book, _ = book_at(tmp_path / "run", "end")
    assert book.symbols == ("AAA", "BBB")
    assert book.short_proceeds == pytest.approx(broker.short_proceeds(), abs=2e-6)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stress")
    data = write_bars(folder / "bars", {"AAA": 0.75, "BBB": 0.9, "BTCUSD": 0.5})
    run_through(folder / "run", data, HELD, *LENT)
    return folder / "run"


def test_stress_test_meets_an_open_margin_call(run: Path) -> None:
    """The book at the crash's close, with unchanged prices, as in the run."""
    fills = pd.read_parquet(run / "fills.parquet")
    through = fills[fills["client_order_id"].str.startswith("liquidation")]
    for at in ("2024-10-07T20:00Z", "2024-10-08T03:00Z"):
        one = outcome_of(*book_at(run, at))
        assert (one.margin.had_margin_call, one.margin.has_margin_call, one.call_ending) == (
            True,
            True,
            "met",
        )
        assert through[["symbol", "qty", "price"]].to_records(index=False).tolist() == [
            (each.symbol, float(each.qty), each.price) for each in one.liquidations
        ]
    same = outcome_of(*book_at(run, "2024-10-07T18:30Z"))
    assert (same.margin.had_margin_call, same.margin.has_margin_call) == (False, True)


@pytest.mark.parametrize(
    "fields", [{"symbols": {"GME": -1}}, {"source": " "}, {"day": "2024-08-04"}, {"halted": "AAA"}]
)
def test_invalid_stress_scenario_is_refused(fields: dict[str, object]) -> None:
    with refused(InputError, "scenarios"):
        Scenario(**{"name": "one", "source": "a test", **fields})  # type: ignore[arg-type]


def test_every_shipped_scenario_names_source_or_assumption() -> None:
    for one in SHIPPED:
        assert "assumption" in one.source or (one.day is not None and one.day in one.source)


def test_stress_test_starts_at_the_chosen_instant(run: Path) -> None:
    rows = pd.read_parquet(run / "equity.parquet")
    at = rows["at"].dt.tz_localize(None).to_numpy()
    end, _ = book_at(run, "end")
    assert end.account.as_of == at[-1]
    assert end.account.equity == pytest.approx(rows["equity"].iloc[-1])
    leverage = (rows["gross_stock"] + rows["gross_crypto"]) / rows["equity"]
    assert book_at(run, "worst")[0].account.as_of == at[leverage.argmax()]
    assert book_at(run, "2024-10-04")[0].account.as_of == np.datetime64("2024-10-05T03:00", "ns")


def test_stress_command_writes_scenarios_to_json(run: Path, tmp_path: Path) -> None:
    own = '{name: coin, stocks: -0.3, symbols: {BBB: -0.5, GONE: -0.9}, source: "an assumption"}'
    words = ("at=2024-10-04", f"custom_scenarios=[{own}]", "output=out")
    for _ in range(2):
        code, printed, said = answer_of("marketsimulator.stress", str(run), *words, cwd=tmp_path)
        assert code == 0, said
    first = printed.splitlines()[0]
    assert first.startswith("Worst case: coin loses $102,000.00, "), "the shipped one is replaced"
    assert "custom_scenarios.coin: GONE is not in the portfolio" in printed
    found = json.loads((tmp_path / "out/stress.json").read_text())
    scenarios = {each["name"]: each for each in found["scenarios"]}
    assert [*scenarios] == ["2020-03-16", "2024-08-05", "still", "gap", "halt", "coin"]
    assert found["claim"] == first
    assert scenarios["coin"]["moves"]["BBB"] == {"fraction": -0.5, "basis": "stated for the symbol"}


def test_liquidation_sells_whole_shares_never_beyond_holdings() -> None:
    book = book_of({"AAA": (2_999.75, 100.0), "BBB": (0.125, 100.0)}, 100_000)
    closed = sold(outcome_of(book, stocks=-0.25))
    assert closed["BBB"] == -0.125, "less than a share is closed whole"
    assert closed["AAA"] == np.floor(closed["AAA"])
    assert sold(outcome_of(book, stocks=-0.9)) == {"AAA": -2_999.75, "BBB": -0.125}


def test_crypto_is_no_collateral_and_is_never_liquidated() -> None:
    """The stock's call is the same with a coin beside it, whatever the coin does."""
    alone = outcome_of(book_of({"AAA": (1_900, 100.0)}, 100_000), stocks=-0.4)
    beside = book_of({"AAA": (1_900, 100.0), "BTCUSD": (2.5, 40_000.0)}, 200_000)
    for coins in (0.0, -0.5, -0.99):
        outcome = outcome_of(beside, stocks=-0.4, crypto=coins)
        assert sold(outcome) == sold(alone) != {}
        assert outcome.margin.collateral_shortfall == alone.margin.collateral_shortfall
    coin = outcome_of(beside, crypto=-0.5)
    assert (coin.loss, coin.margin.has_margin_call) == (50_000, False)


@given(positions, moves, moves, st.floats(0.0, 1e5))
def test_portfolio_without_borrowing_is_never_margin_called(
    held: dict[str, tuple[float, float]], stocks: float, coins: float, cash: float
) -> None:
    worth = sum(quantity * mark for quantity, mark in held.values())
    outcome = outcome_of(book_of(held, worth + cash), stocks=stocks, crypto=coins)
    assert not outcome.margin.has_margin_call
    assert outcome.liquidations == ()
