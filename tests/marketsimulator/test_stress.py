"""A book under stress: losses by hand and to the cent, and the broker as a backtest has it."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from foundation.command import is_override
from foundation.compose import composed_config
from foundation.errors import InputError
from marketsimulator.results.stress_book import run_book
from marketsimulator.results.stress_outcomes import Stress, stress
from marketsimulator.results.stress_report import stress_page
from marketsimulator.results.stress_scenarios import Scenario, chosen_scenarios, moves_of
from marketsimulator.results.stress_settlement import SettlementTerms
from marketsimulator.results.stress_words import claim, consequence, remarks, stress_json
from marketsimulator.stress import StressSettings, named_run, stressed
from tests.commands import run_command
from tests.marketsimulator.stressed import (
    CHEAP,
    CLOSE,
    CRASH,
    book_of,
    outcome_of,
    run_through,
    sold,
    terms,
    write_bars,
)
from trainingdata.correlation import session_returns
from trainingdata.sessions import stock_grid

SHIPPED = StressSettings.of(composed_config("stress", [])).scenarios
STOCKS = ("AAA", "BBB", "CCC")
CENT = Decimal("0.01")

positions = st.dictionaries(
    st.sampled_from((*STOCKS, "BTCUSD")),
    st.tuples(st.floats(0.001, 2_000).map(lambda x: round(x, 3)), st.floats(10.0, 300.0)),
    min_size=1,
)


@given(positions, st.floats(-0.95, 0.9), st.floats(-0.95, 0.9), st.integers(1_000, 400_000))
@settings(max_examples=60)
def test_a_loss_is_the_sum_of_quantities_and_moves_to_the_cent_and_so_are_its_parts(
    held: dict[str, tuple[float, float]], stocks: float, coins: float, equity: int
) -> None:
    outcome = outcome_of(book_of(held, equity), stocks=stocks, coins=coins)
    by_hand = sum(
        Decimal(repr(quantity)) * Decimal(repr(mark))
        * Decimal(repr(coins if symbol.endswith("USD") else stocks))
        for symbol, (quantity, mark) in held.items()
    )  # fmt: skip
    assert abs(outcome.loss + by_hand) <= CENT / 2 + Decimal("1e-6")
    assert sum(outcome.losses.values()) == outcome.loss
    assert outcome.equity == Decimal(equity) - outcome.loss


@given(positions, st.floats(-0.99, 2.0), st.floats(-0.99, 2.0), st.floats(0.0, 1e5))
@settings(max_examples=60)
def test_a_book_that_borrows_nothing_is_never_called(
    held: dict[str, tuple[float, float]], stocks: float, coins: float, cash: float
) -> None:
    worth = sum(quantity * mark for quantity, mark in held.values())
    outcome = outcome_of(book_of(held, worth + cash), stocks=stocks, coins=coins)
    assert not outcome.settled.called
    assert outcome.settled.liquidations == ()


@given(st.floats(1.3, 3.2), st.floats(0.0005, 0.02))
@settings(max_examples=40)
def test_a_call_comes_at_the_move_that_maintenance_says_and_at_none_below_it(
    leverage: float, beside: float
) -> None:
    """0.3 L (1 - m) = 1 - L m at m = (1 - 0.3 L) / 0.7 L."""
    edge = (1 - 0.3 * leverage) / (0.7 * leverage)
    book = book_of({"AAA": (leverage * 100, 100.0)}, 10_000)
    below = outcome_of(book, stocks=-max(edge - beside, 0.0))
    assert not below.settled.called
    above = outcome_of(book, stocks=-min(edge + beside, 0.9))
    assert above.settled.called
    assert above.settled.missing > 0


@given(st.floats(0.0, 0.9), st.floats(0.0, 0.9), st.floats(1.0, 2.5))
@settings(max_examples=40)
def test_a_larger_fall_loses_more_and_is_called_for_more(
    one: float, other: float, leverage: float
) -> None:
    book = book_of({"AAA": (leverage * 500, 100.0), "BBB": (leverage * 100, 40.0)}, 54_000)
    less, more = (outcome_of(book, stocks=-move) for move in sorted((one, other)))
    assert less.loss <= more.loss
    assert less.settled.called <= more.settled.called
    assert less.equity >= more.equity
    if (
        max(book.marks) * (1 - max(one, other)) > 10
        and book.marks.min() * (1 - max(one, other)) > 10
    ):
        # Above the prices from which maintenance is a higher share.
        assert less.settled.missing <= more.settled.missing + 1e-6


@given(
    st.dictionaries(
        st.sampled_from(STOCKS),
        st.tuples(st.integers(-3_000, 3_000).filter(bool), st.floats(20.0, 200.0)),
        min_size=1,
    ),
    st.floats(0.0, 0.6),
    st.floats(1.2, 6.0),
)
@settings(max_examples=60)
def test_a_liquidation_ends_with_margin_met_or_with_nothing_left(
    held: dict[str, tuple[float, float]], move: float, leverage: float
) -> None:
    gross = sum(abs(quantity) * mark for quantity, mark in held.values())
    book = book_of(held, gross / leverage)
    outcome = outcome_of(book, terms(CHEAP), stocks=-move, against=True)
    settled = outcome.settled
    assert settled.ending in ("none", "met", "nothing_left")
    assert (settled.ending == "none") == (not settled.called)
    left = {s: held[s][0] + sold(outcome).get(s, 0.0) for s in held}
    if settled.ending == "nothing_left":
        assert set(left.values()) == {0.0}
    if settled.ending == "met":
        # Of the gross that is left every dollar needs 30 % at least.
        assert settled.gross * 0.3 <= settled.equity + 1e-6
    for symbol, quantity in left.items():
        assert quantity * held[symbol][0] >= 0, "nothing is turned around"


def test_a_call_and_a_liquidation_by_hand() -> None:
    """2,400 shares at 100 on 121,000: at 75 they are worth 180,000, and 61,000 are there. The debit
    is above 100,000, all of it in one stock: it needs 50 %, 90,000. What is kept needs 95 % of
    61,000.
    """
    book = book_of({"AAA": (2_400, 100.0)}, 121_000)
    found = stress(book, [Scenario("one", "a test", stocks=-0.25)], terms(), 120)
    outcome = found.outcomes[0]
    settled = outcome.settled
    assert outcome.loss == Decimal("60000.00")
    assert (settled.required, settled.collateral, settled.missing) == (90_000, 61_000, 29_000)
    share = 1 - 61_000 * 0.95 / 90_000
    assert sold(outcome) == {"AAA": -float(np.ceil(2_400 * share))}
    assert settled.ending == "met"
    assert not settled.standing
    first = settled.liquidations[0]
    assert first.proceeds == pytest.approx(-first.quantity * 75 - first.cost)
    assert first.at == np.datetime64("2024-10-08T13:30", "ns"), "the next session's open"
    assert claim(found) == "Worst case: one loses $60,000.00, 49.6% of equity."
    assert "calls for $29,000.00 at the close of 2024-10-07T20:00Z" in consequence(found)


def test_an_account_that_is_wiped_out_is_said_to_owe() -> None:
    book = book_of({"AAA": (4_000, 100.0)}, 100_000)
    found = stress(book, [Scenario("gone", "a test", stocks=-0.5)], terms(), 120)
    outcome = found.outcomes[0]
    assert outcome.equity == -100_000
    assert outcome.leverage is None
    assert outcome.wiped_out
    assert sold(outcome) == {"AAA": -4_000.0}
    assert outcome.settled.ending == "nothing_left"
    assert "The account is wiped out: it ends owing $100," in consequence(found)
    page = stress_page(found)
    assert "wiped out" in page
    assert "<script" not in page


def test_a_book_that_no_night_allows_is_said_to_be_called_without_any_move() -> None:
    """Four times equity at 11:30, which a trader cuts at 15:30."""
    noon = np.datetime64("2024-10-04T15:30", "ns")
    found = stress(book_of({"AAA": (400, 100.0)}, 10_000, noon), SHIPPED, terms(), 120)
    assert found.unmoved.called
    assert any("Without any move the close of 2024-10-04T20:00Z" in r for r in remarks(found))
    held = stress(book_of({"AAA": (200, 100.0)}, 10_000, noon), SHIPPED, terms(), 120)
    assert not held.unmoved.called
    assert not any("Without any move" in remark for remark in remarks(held))
    gap = found.outcomes[2].settled
    assert gap.deficit, "at 4x the fall exceeds the margin of the day before its close"


def test_shorts_lose_in_a_rise_and_are_bought_back() -> None:
    outcome = outcome_of(book_of({"AAA": (-2_000, 100.0)}, 100_000), stocks=0.35)
    assert outcome.loss == Decimal("70000.00")
    assert outcome.settled.required == pytest.approx(0.3 * 270_000)
    bought = sold(outcome)["AAA"]
    assert 0 < bought < 2_000
    assert outcome.settled.liquidations[0].proceeds == pytest.approx(-bought * 135.0)
    fall = outcome_of(book_of({"AAA": (-2_000, 100.0)}, 100_000), stocks=-0.35)
    assert fall.loss == Decimal("-70000.00")
    against = outcome_of(book_of({"AAA": (-2_000, 100.0)}, 100_000), stocks=-0.35, against=True)
    assert against.loss == outcome.loss


def test_a_coin_is_no_collateral_and_calls_nothing_and_is_never_closed() -> None:
    """The stock's call is the same with a coin beside it, whatever the coin does."""
    alone = outcome_of(book_of({"AAA": (1_900, 100.0)}, 100_000), stocks=-0.4)
    beside = book_of({"AAA": (1_900, 100.0), "BTCUSD": (2.5, 40_000.0)}, 200_000)
    for coins in (0.0, -0.5, -0.99):
        outcome = outcome_of(beside, stocks=-0.4, coins=coins)
        assert sold(outcome) == sold(alone) != {}
        assert outcome.settled.missing == pytest.approx(alone.settled.missing)
    coin = outcome_of(beside, coins=-0.5)
    assert coin.loss == Decimal("50000.00")
    assert not coin.settled.called


def test_what_is_halted_keeps_its_price_and_is_not_sold_and_the_rest_is_sold_without_it() -> None:
    book = book_of({"AAA": (2_000, 100.0), "BBB": (1_000, 99.0), "BTCUSD": (1, 900.0)}, 95_000)
    outcome = outcome_of(book, stocks=-0.3, coins=-0.3, against=True, halted="largest")
    assert outcome.losses == {
        "AAA": Decimal(0),
        "BBB": Decimal("29700.00"),
        "BTCUSD": Decimal("270.00"),
    }
    assert outcome.settled.called
    assert set(sold(outcome)) == {"BBB"}
    assert outcome.moves.notes == ("AAA is halted at its last price.",)
    trading = outcome_of(book, stocks=-0.3, coins=-0.3, against=True)
    assert set(sold(trading)) == {"AAA", "BBB"}


def test_a_halt_that_the_rest_cannot_answer_leaves_the_call_standing() -> None:
    book = book_of({"AAA": (3_000, 100.0), "BBB": (10, 100.0)}, 60_000)
    outcome = outcome_of(book, stocks=-0.3, halted="AAA")
    assert sold(outcome) == {"BBB": -10.0}
    assert outcome.settled.ending == "nothing_left"
    none = outcome_of(book, stocks=-0.3, halted="ZZZ")
    assert none.moves.notes == ("ZZZ is not held: nothing is halted.",)
    coins = outcome_of(book_of({"BTCUSD": (1, 900.0)}, 900), coins=-0.3, halted="largest")
    assert coins.moves.notes == ("No stock is held: nothing is halted.",)


def test_fractions_of_shares_are_closed_whole_and_never_beyond() -> None:
    book = book_of({"AAA": (2_999.75, 100.0), "BBB": (0.125, 100.0)}, 100_000)
    outcome = outcome_of(book, stocks=-0.25)
    closed = sold(outcome)
    assert closed["BBB"] == -0.125, "less than a share is closed whole"
    assert closed["AAA"] == np.floor(closed["AAA"])
    gone = outcome_of(book, stocks=-0.9)
    assert sold(gone) == {"AAA": -2_999.75, "BBB": -0.125}


def test_options_count_as_lost_in_every_scenario() -> None:
    book = book_of({"AAA": (1_000, 100.0)}, 100_000, option_risk=1_234.56)
    outcome = outcome_of(book)
    assert outcome.losses == {"AAA": Decimal(0), "options": Decimal("1234.56")}
    assert outcome.settled.collateral == pytest.approx(100_000 - 1_234.56)


def test_a_move_of_the_whole_book_loses_as_many_deviations_of_it(tmp_path: Path) -> None:
    factors = {"AAA": 1.0, "BBB": 1.0, "BTCUSD": 1.0}
    data = write_bars(tmp_path / "bars", factors, sessions=30)
    run_through(tmp_path / "run", data, [("AAA", "300"), ("BBB", "-200"), ("BTCUSD", "100")])
    book, _ = run_book(tmp_path / "run", "2024-10-04T20:00Z", OmegaConf.create())
    assert book.known is not None
    sigma = np.nanstd(session_returns(book.known, CLOSE, 120), axis=0, ddof=1)
    covariance = np.outer(sigma, sigma) * np.where(np.eye(3) == 1, 1.0, 0.9)
    deviation = float(np.sqrt(book.values @ covariance @ book.values))
    scenario = Scenario("all", "a test", correlation=0.9, deviations=3.0)
    moves = moves_of(scenario, book, 120)
    assert -moves.fractions @ book.values == pytest.approx(3 * deviation)
    assert (moves.fractions * np.sign(book.values) < 0)[[0, 2]].all()


def test_the_bar_of_a_day_is_the_worst_of_what_still_trades(tmp_path: Path) -> None:
    """AAA, the largest, is worst at the end of the day and BBB at its beginning; AAA is halted."""
    data = write_bars(tmp_path / "bars", {"AAA": 0.6, "BBB": 1.0})
    path = data / "BBB.csv"
    frame = pd.read_csv(path)
    dip = frame["timestamp"] == f"{CRASH} 13:30:00+00:00"
    assert dip.sum() == 1
    frame.loc[dip, ["open", "low", "close", "high"]] = 80.0
    frame.to_csv(path, index=False)
    path = data / "AAA.csv"
    frame = pd.read_csv(path)
    frame.loc[frame["timestamp"] == f"{CRASH} 13:30:00+00:00", ["open", "high", "low", "close"]] = (
        100.0
    )
    frame.to_csv(path, index=False)
    run_through(tmp_path / "run", data, [("AAA", "900"), ("BBB", "300")])
    book, _ = run_book(tmp_path / "run", "2024-10-04T20:00Z", OmegaConf.create())
    halted = moves_of(Scenario("day", "a test", day=CRASH, halted="largest"), book, 120)
    assert halted.fractions == pytest.approx([0.0, -0.2])
    assert halted.basis[0] == "halted"
    assert moves_of(Scenario("day", "a test", day=CRASH), book, 120).fractions == pytest.approx(
        [-0.4, 0.0]
    )


def test_what_is_halted_has_no_part_in_the_deviations_of_the_book(tmp_path: Path) -> None:
    data = write_bars(tmp_path / "bars", {"AAA": 1.0, "BBB": 1.0}, sessions=30)
    run_through(tmp_path / "run", data, [("AAA", "300"), ("BBB", "-200")])
    book, _ = run_book(tmp_path / "run", "2024-10-04T20:00Z", OmegaConf.create())
    assert book.known is not None
    scenario = Scenario("all", "a test", correlation=0.9, deviations=3.0, halted="AAA")
    sigma = np.nanstd(session_returns(book.known, CLOSE, 120)[:, 1], ddof=1)
    assert moves_of(scenario, book, 120).fractions == pytest.approx([0.0, 3 * sigma])


def test_a_squeeze_loses_a_short_several_times_its_worth_and_the_account_with_it() -> None:
    """100 short at 20 rise to 80, which costs 6,000; the long falls by a fifth of 5,000."""
    book = book_of({"AAA": (50, 100.0), "BBB": (-100, 20.0), "BTCUSD": (1, 900.0)}, 5_000)
    outcome = outcome_of(book, stocks=-0.2, shorts=3.0)
    assert outcome.losses == {"AAA": 1_000, "BBB": 6_000, "BTCUSD": 0}
    assert outcome.equity == -2_000
    assert outcome.wiped_out
    assert sold(outcome)["BBB"] == 100
    single = outcome_of(book, stocks=-0.2, shorts=3.0, symbols={"BBB": 10.0})
    assert single.losses["BBB"] == 20_000


def test_symbols_that_are_not_held_are_named() -> None:
    book = book_of({"AAA": (10, 100.0)}, 1_000)
    one = Scenario("mine", "a test", symbols={"ZZZ": -0.3, "AAA": -0.1, "ETH/USD": -0.2})
    found = stress(book, [one, Scenario("other", "a test")], terms(), 120)
    note = "mine: not held, so that their moves change nothing: ZZZ, ETHUSD."
    assert remarks(found) == [note]
    assert stress_json(found)["remarks"] == [note]
    assert note in stress_page(found)


@given(
    st.dictionaries(
        st.sampled_from((*STOCKS, "BTCUSD")),
        st.tuples(st.floats(0.001, 2_000).map(lambda x: round(x, 3)), st.floats(10.0, 300.0)),
        min_size=1,
    ),
    st.just(0.0) | st.floats(0.01, 0.9),
    st.floats(0.8, 3.0),
)
@settings(max_examples=40)
def test_every_figure_of_equity_is_the_one_before_less_losses_and_costs(
    held: dict[str, tuple[float, float]], fall: float, leverage: float
) -> None:
    gross = sum(quantity * mark for quantity, mark in held.values())
    found = stress(
        book_of(held, gross / leverage), [Scenario("one", "t", stocks=-fall)], terms(CHEAP), 120
    )
    told = stress_json(found)
    one = told["scenarios"][0]
    before, after = Decimal(told["book"]["equity"]), Decimal(one["equity_after"])
    assert before - Decimal(one["loss"]) == after
    costs = sum(Decimal(each["cost"]) for each in one["liquidations"])
    assert after - costs - Decimal(one["carrying"]) == Decimal(one["equity_end"])
    assert str(one["moves"][found.book.symbols[0]]["move"]) != "-0.0"
    if not one["liquidations"]:
        assert after == Decimal(one["equity_end"]), "nothing costs anything"
    margin = one["margin"]
    missing = Decimal(margin["required"]) - Decimal(margin["collateral"])
    assert missing == Decimal(margin["missing"])
    assert '"-0.00"' not in json.dumps(told)
    page = stress_page(found)
    assert "-$0.00" not in page
    assert "-0.00%" not in page


def test_without_bars_a_correlation_is_said_to_be_not_computed() -> None:
    found = stress(book_of({"AAA": (10, 100.0)}, 1_000), SHIPPED, terms(), 120)
    assert set(found.skipped) == {"correlation"}
    assert "data.dir=[DIR]" in found.skipped["correlation"]
    assert [outcome.scenario.name for outcome in found.outcomes] == [
        *("2020-03-16", "2024-08-05", "gap", "halt", "coin"),
    ]
    assert found.outcomes[0].losses["AAA"] == Decimal("119.80")


HELD = [("AAA", "1400"), ("BBB", "1200"), ("BTCUSD", "150")]
THIN = ("fills.volume_share=0.0001", "fills.remainder=carry", "margin.order_margin=1")
LENT = ("fills.volume_share=null", "costs.stock_half_spread_bps=3", "margin.order_margin=1")


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("orders", "factors", "words"),
    [
        pytest.param(HELD, {"AAA": 0.75, "BBB": 0.9, "BTCUSD": 0.5}, LENT, id="called"),
        pytest.param(HELD, {"AAA": 0.95, "BBB": 0.9, "BTCUSD": 0.5}, LENT, id="not called"),
        pytest.param(HELD, {"AAA": 0.3, "BBB": 0.5, "BTCUSD": 0.5}, LENT, id="wiped out"),
        pytest.param(
            # What the shorts were sold for is held against them, and a part was bought back.
            [("AAA", "-1700"), ("AAA", "200"), ("BBB", "1300")],
            {"AAA": 1.5, "BBB": 1.01},
            LENT,
            id="short",
        ),
        pytest.param(
            HELD,
            {"AAA": 0.6, "BBB": 0.9, "BTCUSD": 0.5},
            (*THIN, "costs.stock_impact=0.5"),
            id="thin",
        ),
    ],
)
def test_stress_is_what_a_backtest_through_the_same_crash_does(
    tmp_path: Path,
    orders: list[tuple[str, str]],
    factors: dict[str, float],
    words: tuple[str, ...],
) -> None:
    """The same call, the same liquidations at the same prices, the same equity after them."""
    data = write_bars(tmp_path / "bars", factors, sessions=12, volume=3e6)
    run, its = run_through(tmp_path / "run", data, orders, *words)
    book, settled_by = run_book(tmp_path / "run", "2024-10-04T20:00Z", OmegaConf.create())
    assert SettlementTerms.of(settled_by) == SettlementTerms.of(its)
    crash = Scenario("crash", "a test", day=CRASH, stocks=-0.01, coins=-0.01)
    found = stress(book, [crash], SettlementTerms.of(its), 120).outcomes[0]
    moves = dict(zip(book.symbols, found.moves.fractions, strict=True))
    assert moves == pytest.approx({symbol: factors[symbol] - 1 for symbol in book.symbols})
    assert set(moves) == {symbol for symbol, _ in orders}
    assert all(basis.startswith("own bars, 2024-10-04T20:00Z") for basis in found.moves.basis)

    settled = found.settled
    through = [fill for fill in run.fills if fill.client_order_id.startswith("liquidation")]
    assert [(fill.symbol, float(fill.qty), fill.at) for fill in through] == [
        (each.symbol, each.quantity, each.at) for each in settled.liquidations
    ]
    for fill, each in zip(through, settled.liquidations, strict=True):
        assert fill.price == each.price
        assert -float(fill.qty) * fill.price - fill.fee == pytest.approx(each.proceeds)
    assert bool(run.margin["margin_calls"]) == settled.called == bool(through)
    if words[0] == THIN[0]:
        assert len(through) > 3
    rows = {row.at: row for row in run.rows}
    at_close = rows[settled.close]
    assert at_close.equity - at_close.gross_crypto == pytest.approx(settled.collateral, abs=1e-6)
    closes = [at for at in rows if at >= settled.close and at in stock_grid().closes]
    assert rows[closes[settled.sessions - 1]].equity == pytest.approx(settled.equity, abs=1e-6)


def test_a_call_that_stands_already_is_answered_at_the_next_opens(tmp_path: Path) -> None:
    """The book of the crash's own close, at prices that stand still, as they do in the run."""
    data = write_bars(tmp_path / "bars", {"AAA": 0.75, "BBB": 0.9, "BTCUSD": 0.5}, sessions=12)
    run, its = run_through(tmp_path / "run", data, HELD, *LENT)
    through = [fill for fill in run.fills if fill.client_order_id.startswith("liquidation")]
    for at in ("2024-10-07T20:00Z", "2024-10-08T03:00Z"):
        book, _ = run_book(tmp_path / "run", at, OmegaConf.create())
        found = stress(book, [Scenario("still", "a test")], SettlementTerms.of(its), 120)
        settled = found.outcomes[0].settled
        assert (settled.standing, settled.called, settled.ending) == (True, True, "met")
        assert [(fill.symbol, float(fill.qty), fill.price) for fill in through] == [
            (each.symbol, each.quantity, each.price) for each in settled.liquidations
        ]
        assert "A margin call of the close before stands already, before anything moves." in (
            remarks(found)
        )
        assert "has called before the move and closes AAA" in consequence(found)
    noon, _ = run_book(tmp_path / "run", "2024-10-07T18:30Z", OmegaConf.create())
    same = outcome_of(noon, SettlementTerms.of(its)).settled
    assert (same.standing, same.called) == (False, True)


def test_a_book_is_that_of_the_end_of_an_instant_or_the_one_with_the_most_leverage(
    tmp_path: Path,
) -> None:
    data = write_bars(tmp_path / "bars", {"AAA": 0.9, "BBB": 0.9})
    run, _ = run_through(tmp_path / "run", data, [("AAA", "1000")])
    nothing = OmegaConf.create()
    end, _ = run_book(tmp_path / "run", "end", nothing)
    assert end.at == run.rows[-1].at
    assert end.equity == pytest.approx(run.rows[-1].equity)
    worst, _ = run_book(tmp_path / "run", "worst", nothing)
    leverage = {row.at: row.gross_stock / row.equity for row in run.rows}
    assert leverage[worst.at] == max(leverage.values())
    day, _ = run_book(tmp_path / "run", "2024-10-04", nothing)
    assert day.at == CLOSE
    instant, _ = run_book(tmp_path / "run", "2024-10-04T19:45Z", nothing)
    assert instant.at == np.datetime64("2024-10-04T19:30", "ns")
    for at, says in (
        ("2024-09-01", "is outside the run"),
        ("2025-09-01", "is outside the run"),
        ("wurst", "nor end or worst"),
    ):
        with pytest.raises(InputError, match=says):
            run_book(tmp_path / "run", at, nothing)


def test_other_bars_than_those_of_the_run_are_refused(tmp_path: Path) -> None:
    data = write_bars(tmp_path / "bars", {"AAA": 0.9})
    other = write_bars(tmp_path / "other", {"AAA": 0.8})
    run_through(tmp_path / "run", data, [("AAA", "1000")])
    changed = OmegaConf.create({"data": {"dir": [str(other)]}})
    with pytest.raises(InputError, match="name the bars that the run was made of"):
        run_book(tmp_path / "run", "end", changed)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"shorts": 20.5}, "is outside -1 … 20"),
        ({"shorts": 3.0, "against": True}, "both say how a short moves"),
        ({"stocks": -3.0, "against": True}, "a squeeze is shorts: 3 in the place of against"),
        ({"symbols": {"GME": 1.5}, "against": True}, "a move of 1.5 \\(GME\\) against the book"),
        ({"correlation": 0.9, "deviations": 2, "against": True}, "follow from the book"),
        ({"symbols": {"BTCUSD": -0.1, "BTC/USD": -0.2}}, "symbols names BTCUSD twice"),
        ({"source": " "}, "has no source"),
        ({"day": "2024-08-04"}, "no session"),
        ({"correlation": 0.9}, "go together"),
        ({"correlation": 1.0, "deviations": 2}, "is above 0.999"),
        ({"correlation": 0.9, "deviations": 2, "stocks": -0.1}, "follow from the book"),
        ({"halted": "BTCUSD"}, "halted: BTCUSD is a coin"),
    ],
)
def test_a_scenario_that_makes_no_sense_is_refused(fields: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Scenario(**{"name": "one", "source": "a test", **fields})  # type: ignore[arg-type]


def test_scenarios_are_chosen_by_name_and_the_users_stand_behind_the_others() -> None:
    assert [one.name for one in chosen_scenarios(SHIPPED, ["coin", "gap"])] == ["gap", "coin"]
    with pytest.raises(InputError, match="did you mean gap"):
        chosen_scenarios(SHIPPED, ["gaps"])
    with pytest.raises(InputError, match="gap is the name of two scenarios"):
        chosen_scenarios((*SHIPPED, Scenario("gap", "mine")))


def test_every_shipped_scenario_says_where_it_is_from_or_that_it_is_an_assumption() -> None:
    for one in SHIPPED:
        assert "assumption" in one.source or one.day is not None
        assert one.day is None or one.day in one.source


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stress")
    data = write_bars(folder / "bars", {"AAA": 0.75, "BBB": 0.9, "BTCUSD": 0.5})
    run_through(folder / "run", data, HELD, *LENT)
    return folder / "run"


@pytest.mark.slow
def test_the_command_leaves_a_page_and_json_beside_the_run(run: Path, tmp_path: Path) -> None:
    own = '{name: mine, stocks: -0.3, symbols: {BBB: -0.5}, source: "an assumption"}'
    words = ["at=2024-10-04", f"own=[{own}]", "only=[gap,mine]"]
    done = run_command(["-m", "marketsimulator.stress", str(run), *words], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0]
    assert first.startswith("Worst case: mine loses $102,000.00, ")
    found = json.loads((run / "stress.json").read_text())
    assert [each["name"] for each in found["scenarios"]] == ["gap", "mine"]
    assert found["claim"] == first
    assert found["scenarios"][1]["moves"]["BBB"] == {"move": -0.5, "basis": "stated of it"}
    assert first in (run / "stress.html").read_text()
    again = run_command(["-m", "marketsimulator.stress", str(run), "only=gap"], cwd=tmp_path)
    assert again.returncode == 0, "it is written anew"
    assert json.loads((run / "stress.json").read_text())["worst"] == "gap"


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "RUN: none is named"),
        (["{run}", "account=venue"], "leave one of them"),
        (["{run}/.."], "name one of its runs: run"),
        (["{run}", "only=[2024-08-06]"], "did you mean 2024-08-05"),
        (["{run}", "capital=5"], "capital: a run has its own"),
        (
            ["{run}", "own=[{{name: x, stcks: -0.3, source: y}}]"],
            "own.0.stcks: there is no such setting; did you mean own.0.stocks?",
        ),
        (["{run}", "own=[{{name: x, source: S&P}}]"], "cannot be read as key=value"),
        (["account=venue", "at=worst"], "an account is read as it is now"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(run: Path, words: list[str], says: str) -> None:
    told = [word.format(run=run) for word in words]
    with pytest.raises(InputError, match=re.escape(says.format())):
        put_under_stress(told)


def put_under_stress(words: list[str]) -> Stress:
    """What the command makes of its words, in this process."""
    overrides = [word for word in words if is_override(word)]
    config = composed_config("stress", overrides)
    asked = StressSettings.of(config)
    return stressed(config, asked, named_run(words, asked), overrides)


def test_a_run_that_holds_nothing_says_when_it_held_something(tmp_path: Path) -> None:
    data = write_bars(tmp_path / "bars", {"AAA": 0.9})
    run_through(tmp_path / "run", data, [("AAA", "0.001")])
    with pytest.raises(InputError, match="nothing was ever held"):
        run_book(tmp_path / "run", "end", OmegaConf.create())


def test_the_json_says_all_that_the_table_does() -> None:
    book = book_of({"AAA": (3_000, 100.0), "BTCUSD": (1, 900.0)}, 100_000)
    found = stress_json(stress(book, SHIPPED, terms(CHEAP), 120))
    gap = next(each for each in found["scenarios"] if each["name"] == "gap")
    assert gap["margin"]["called"]
    closed = gap["liquidations"]
    came = sum(Decimal(each["proceeds"]) for each in closed)
    assert came == Decimal(repr(round(sum(-e["quantity"] * e["price"] for e in closed), 2)))
    total = Decimal(gap["equity_after"]) - sum(Decimal(each["cost"]) for each in closed)
    assert total - Decimal(gap["carrying"]) == Decimal(gap["equity_end"])
