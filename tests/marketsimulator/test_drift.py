"""The difference of two accounts' profits in named terms: exact for any trades, and by hand."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.decision.choice import Choice
from execution.decision.decision import Decision, decision_from_choices
from execution.decision.trader import Decider
from execution.journal.activities import FillRow
from execution.journal.cycles import CycleRow
from execution.journal.decisions import DecisionRow
from execution.journal.marks import EquityMark
from execution.journal.order_store import OrderIntent, OrderState
from execution.live.cycle import decision_deadline
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.gate import OrderRole
from execution.orders.orders import Fill, Order
from foundation.database import Database
from foundation.decimals import to_cents, to_fraction
from foundation.errors import InputError
from marketsimulator.drift import has_all_bars_until, parse_arguments
from marketsimulator.results.drift.decisions import (
    DecisionComparison,
    compare_decisions,
    rebuild_account,
)
from marketsimulator.results.drift.orders import (
    compare_orders,
    excess_slippage_by_symbol,
    missed_decision_reason,
    planned_orders,
)
from marketsimulator.results.drift.terms import (
    CashFlow,
    ComparedAccount,
    ProfitComponent,
    Trade,
    compare_profits,
    round_terms_to_cents,
)
from marketsimulator.results.journal_record import JournalRecord, read_journal, revalue_at_closes
from marketsimulator.run_result import Booking, EquityRow, InitialPosition, Run
from marketsimulator.runs.simulate import simulate_trading
from tests.marketsimulator.runs import BARS, settings_of
from tests.support.messages import refused
from trainingdata.bars import Bars, build_panel, last_closes_by_symbol
from trainingdata.instruments import instrument
from trainingdata.market import Market
from trainingdata.timeframe import Timeframe

SYMBOLS = ("AAA", "BBB", "BTCUSD")
ELSEWHERE = "?FOREIGN"
FLOWS: tuple[ProfitComponent, ...] = ("fees", "interest", "dividends", "other")
NAMES = ("a", "b", "c", "d", "e")
CAUSES: tuple[ProfitComponent, ...] = (
    "undecided",
    "unsent",
    "unfilled",
    "decided",
    "without_decision",
)

quantities = st.decimals(-1000, 1000, places=9, allow_nan=False).map(to_fraction)
prices = st.decimals("0.0001", 5000, places=4, allow_nan=False).map(to_fraction)
usd = st.decimals(-10_000, 10_000, places=6, allow_nan=False).map(to_fraction)


def ledger(
    start: Mapping[str, Fraction],
    start_marks: Mapping[str, Fraction],
    end_marks: Mapping[str, Fraction],
    trades: Mapping[str, Trade],
    flows: tuple[CashFlow, ...] = (),
    *,
    cash: Fraction = Fraction(100_000),
    transfers: Fraction = Fraction(0),
) -> ComparedAccount:
    """An account whose worth is added up from its cash and what it holds, entry by entry."""
    held = dict(start)
    began = cash + sum(held[s] * start_marks[s] for s in held)
    cash += transfers
    for trade in trades.values():
        cash -= trade.traded_value
        held[trade.symbol] = held.get(trade.symbol, Fraction(0)) + trade.quantity
    for flow in flows:
        cash += flow.usd
        if flow.symbol:
            held[flow.symbol] = held.get(flow.symbol, Fraction(0)) + flow.quantity
    ended = cash + sum(held[s] * end_marks[s] for s in held)
    return ComparedAccount(
        start_positions=start,
        start_marks=start_marks,
        end_marks=end_marks,
        start_equity=Fraction(began),
        end_equity=Fraction(ended),
        trades=trades,
        cash_flows=flows,
        transfers=transfers,
    )


@st.composite
def sides(draw: st.DrawFn, symbols: tuple[str, ...]) -> ComparedAccount:
    marks = st.fixed_dictionaries(dict.fromkeys(symbols, prices))
    symbol = st.sampled_from(symbols)
    trade = st.builds(Trade, symbol=symbol, quantity=quantities, traded_value=usd)
    cash_flow = st.builds(CashFlow, st.sampled_from(FLOWS), usd)
    in_kind = st.builds(CashFlow, st.sampled_from(FLOWS), usd, symbol, quantities)
    return ledger(
        draw(st.dictionaries(symbol, quantities, max_size=3)),
        draw(marks),
        draw(marks),
        draw(st.dictionaries(st.sampled_from(NAMES), trade)),
        tuple(draw(st.lists(st.one_of(cash_flow, in_kind), max_size=4))),
        cash=draw(usd),
        transfers=draw(usd),
    )


causes = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(CAUSES))


@given(sides((*SYMBOLS, ELSEWHERE)), sides(SYMBOLS), causes, usd)
def test_profit_drift_terms_sum_to_the_total_difference(
    live: ComparedAccount,
    simulated: ComparedAccount,
    causes: dict[str, ProfitComponent],
    more: Fraction,
) -> None:
    """The sum is exact, and a deposit is no profit."""
    terms = compare_profits(live, simulated, causes)
    assert sum(terms.values()) == live.profit - simulated.profit
    assert terms["unexplained"] == 0, "a ledger is worth what it lists"
    whole = round_terms_to_cents(terms)
    assert sum(whole.values()) == to_cents(live.profit - simulated.profit)
    assert all(abs(to_fraction(whole[name]) - terms[name]) < Fraction(2, 100) for name in terms)
    richer = replace(live, end_equity=live.end_equity + more)
    assert compare_profits(richer, simulated, causes) == {**terms, "unexplained": more}
    paid = replace(richer, transfers=live.transfers + more)
    assert compare_profits(paid, simulated, causes) == terms
    assert set(compare_profits(simulated, simulated, causes).values()) == {0}


MARKS = {"AAA": Fraction(110), "BBB": Fraction(20)}
FIRST = {"AAA": Fraction(100), "BBB": Fraction(20)}


def bought(
    quantity: int, price: int | str, *flows: CashFlow, name: str = "a", **more: Fraction
) -> ComparedAccount:
    """Ten AAA held from the beginning, and one trade of it."""
    value = quantity * to_fraction(Decimal(price))
    trades = {name: Trade("AAA", Fraction(quantity), value)} if quantity else {}
    return ledger({"AAA": Fraction(10)}, FIRST, MARKS, trades, flows, **more)


@pytest.mark.parametrize(
    ("live", "simulated", "cause", "expected"),
    [
        (
            bought(6, "100.5"),
            bought(10, 100),
            "unfilled",
            # Four of ten did not fill; each would have earned 10. The six cost 0.50 more each.
            {"unfilled": "-40.00", "prices": "-3.00"},
        ),
        (bought(0, 0), bought(10, 100), "unsent", {"unsent": "-100.00"}),
        (bought(0, 0), bought(-10, 100), "undecided", {"undecided": "100.00"}),
        (bought(5, 104), bought(0, 0), "without_decision", {"without_decision": "30.00"}),
        # Sold there and bought here at 100: fifteen fewer, each of which earned 10.
        (bought(-5, 100), bought(10, 100), "decided", {"decided": "-150.00"}),
        (
            bought(10, 100, CashFlow("fees", Fraction(-3))),
            bought(10, 100, CashFlow("fees", Fraction(-1))),
            "decided",
            {"fees": "-2.00"},
        ),
        (
            bought(10, 100, CashFlow("fees", Fraction(0), "AAA", Fraction(-1, 10))),
            bought(10, 100),
            "decided",
            {"fees": "-11.00"},
        ),
        # Ten shares: bought at the end for 0.30 more each, and met at the beginning for 0.10 more.
        (
            ledger(
                {"AAA": Fraction(10)}, {"AAA": to_fraction(100.1)}, {"AAA": to_fraction(110.3)}, {}
            ),
            bought(0, 0),
            "decided",
            {"marking": "2.00"},
        ),
        # Seven foreign shares from 50 to 55, two of them sold at 53: 5 x 5 + 2 x 3.
        (
            ledger(
                {"AAA": Fraction(10), ELSEWHERE: Fraction(7)},
                {**FIRST, ELSEWHERE: Fraction(50)},
                {**MARKS, ELSEWHERE: Fraction(55)},
                {"a": Trade(ELSEWHERE, Fraction(-2), Fraction(-106))},
            ),
            bought(0, 0),
            "without_decision",
            {"not_simulated": "31.00"},
        ),
    ],
)
def test_each_drift_cause_has_its_own_term(
    live: ComparedAccount,
    simulated: ComparedAccount,
    cause: ProfitComponent,
    expected: dict[str, str],
) -> None:
    found = round_terms_to_cents(compare_profits(live, simulated, {"a": cause}))
    assert {name: str(value) for name, value in found.items() if value} == expected


SETTINGS = settings_of(*BARS, "symbols=[SYA,SYB,SYXUSD]", "costs.stock_half_spread_bps=0")


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ([], "journal"),
        (["journal=x", "capital=100000"], "capital"),
        (["journal=x", "+positions.NVDA=100"], "positions.NVDA"),
        (["journal=x", "start=2024-02-20"], "start"),
    ],
)
def test_invalid_drift_setting_is_refused_by_its_key(words: list[str], key: str) -> None:
    with refused(InputError, key):
        parse_arguments(words)


def test_journal_without_decisions_is_refused_by_path(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    Database(path).close()
    with refused(InputError, "journal", path):
        read_journal(path, "trade")
    with closing(Database(path)) as begun:
        begun.execute_all("CREATE TABLE decisions (at TEXT)")
    with refused(InputError, path, "0"):
        read_journal(path, "trade")


def test_live_account_is_valued_at_closing_prices() -> None:
    """The account holds ten shares and two coins marked at a dollar each, and one unit of an
    unknown symbol.
    """
    bars = SETTINGS.load_bars()
    at = bars.times[-3:-1]
    rest = [0.0] * (len(EquityRow._fields) - 5)
    rows = [EquityRow(instant, 1_000.0, 1_013.0, 10.0, 2.0, *rest) for instant in at]
    initial_positions = {
        s: InitialPosition(Decimal(q), 1.0) for s, q in (("SYA", 10), ("SYXUSD", 2), ("ZZZ", 1))
    }
    foreign = Fill("x", "ZZZ", Decimal(1), 1.0, 0.0, at[1])
    told = Run(
        "", [], [foreign], rows, {}, [Booking(at[1], "ZZZ", "dividend", 3.0)], initial_positions
    )
    found = revalue_at_closes(told, Market(bars))
    for row in found.equity_rows:
        closes = last_closes_by_symbol(bars.slice_until(row.at))
        assert row.gross_stock == pytest.approx(10 * closes["SYA"])
        assert row.gross_crypto == pytest.approx(2 * closes["SYXUSD"])
        assert row.equity == pytest.approx(1_000 + row.gross_stock + row.gross_crypto)
    first = last_closes_by_symbol(bars.slice_until(at[0]))
    assert {s: held.price for s, held in found.initial_positions.items()} == {
        s: first[s] for s in found.initial_positions
    }
    assert set(found.initial_positions) == {"SYA", "SYXUSD"}
    assert found.fills == []
    assert found.bookings == [Booking(at[1], "", "dividend", 3.0)]


AT = np.datetime64("2024-02-20T15:30", "ns")
HOUR = np.timedelta64(1, "h")


def half_an_hour(at: np.datetime64) -> np.datetime64:
    """Until when an hourly bar may be decided on."""
    return np.datetime64(at + np.timedelta64(30, "m"))


NAME = "kelly_50-20240220T153000Z-AAA-0-0"


def intent(state: OrderState = "filled", why: str = "", role: OrderRole = "opening") -> OrderIntent:
    order = Order(NAME, "AAA", "buy", Decimal(10), "r")
    return OrderIntent(order, AT, state, why, job="trade", decision_id="d", role=role)


def decision(at: np.datetime64 = AT, price: float = 100.0) -> DecisionRow:
    choice = Choice("AAA", 0.0, 0.01, 0.1, 0.0, 0.1, Decimal(10), price, {}, 0.0)
    return decided("d", at, 100_000.0, {"AAA": choice}, {})


def decided(
    name: str,
    at: np.datetime64,
    equity: float,
    choices: dict[str, Choice],
    held: Mapping[str, Decimal],
) -> DecisionRow:
    return DecisionRow(
        *(name, at, at + HOUR, at, equity, 2.0, "", ()),
        choices=choices,
        cancelled_quantities={},
        positions=held,
    )


def marked(at: np.datetime64, equity: float, values: dict[str, float]) -> EquityMark:
    return EquityMark(at, equity, 0.0, 0.0, 0.0, 2.0, 0.0, values)


def record(*intents: OrderIntent, cycles: tuple[CycleRow, ...] = (), **more: Any) -> JournalRecord:
    parts = {"decisions": (decision(),), "fills": (), "activities": (), "equity_marks": (), **more}
    return JournalRecord(
        intents={each.client_order_id: each for each in intents}, cycles=cycles, **parts
    )


def filled(quantity: int, price: int = 100, ordered: int = 10) -> Trade:
    order = Trade("AAA", ordered_quantity=Fraction(ordered))
    return order.add_fill(Fraction(quantity), Fraction(price), AT) if quantity else order


@pytest.mark.parametrize(
    ("live", "simulated", "sent", "outcome"),
    [
        (filled(10), filled(10), intent(), "same"),
        (filled(10, 101), filled(10), intent(), "prices"),
        (filled(4), filled(10), intent("canceled"), "unfilled"),
        (filled(0), filled(10), intent("expired"), "unfilled"),
        (filled(0), filled(10), intent("denied"), "unsent"),
        (filled(0), filled(10), intent("planned"), "unsent"),
        (filled(0), filled(10), intent("rejected"), "unsent"),
        (filled(0), filled(10), intent("not_received"), "unsent"),
        (filled(10), filled(12, ordered=12), intent(), "decided"),
        (filled(10), None, intent(), "decided"),
        (filled(10), None, intent(role="night"), "without_decision"),
        (filled(10), None, None, "without_decision"),
        (filled(10, ordered=0), filled(10, ordered=0), None, "same"),
        (filled(8, ordered=0), filled(10, ordered=0), None, "without_decision"),
        (None, filled(10), None, "decided"),
    ],
)
def test_every_order_gets_exactly_one_drift_outcome(
    live: Trade | None, simulated: Trade | None, sent: OrderIntent | None, outcome: str
) -> None:
    journal = record(*([sent] if sent else []))
    there = {} if live is None else {NAME: live}
    here = {} if simulated is None else {NAME: simulated}
    (order,) = compare_orders(there, here, journal, {NAME: AT}, half_an_hour)
    assert (order.outcome, order.symbol) == (outcome, "AAA")


@pytest.mark.parametrize(
    ("cycles", "why"),
    [
        ((), "the live loop ran no cycle at that time"),
        ((CycleRow(0, "trade", AT - HOUR, AT - HOUR),), "the live loop ran no cycle at that time"),
        ((CycleRow(0, "trade", AT + HOUR, AT + HOUR),), "the live loop ran no cycle at that time"),
        ((CycleRow(0, "trade", AT, AT, idle_reason="halted: by hand"),), "halted: by hand"),
        ((CycleRow(0, "trade", AT, AT, failure="no answer"),), "no answer"),
        ((CycleRow(0, "trade", AT, None),), "the cycle did not finish"),
    ],
)
def test_missed_decision_states_its_reason(cycles: tuple[CycleRow, ...], why: str) -> None:
    journal = record(cycles=cycles, decisions=(decision(AT - 3 * HOUR),))
    (order,) = compare_orders({}, {NAME: filled(10)}, journal, {NAME: AT}, half_an_hour)
    assert (order.outcome, order.why) == ("undecided", why)
    decided = decision_from_choices(AT, AT + HOUR, 100_000.0, 2.0, ())
    (difference,) = compare_decisions(journal, {}, {}, [decided], half_an_hour).differences
    assert (difference.cause, difference.why) == ("undecided", why)


def test_slippage_is_excess_cost_of_live_fills() -> None:
    """Bought at 100.10 and 100.30 instead of 100, sold at 99.90: 10, 30 and 10 basis points."""
    there = {
        "a": filled(0).add_fill(Fraction(10), to_fraction(100.1), AT),
        "b": filled(0).add_fill(Fraction(10), to_fraction(100.3), AT),
        "c": replace(filled(0).add_fill(Fraction(-10), to_fraction(99.9), AT), symbol="BBB"),
        "d": filled(10),
    }
    here = {"a": filled(10), "b": filled(10), "c": replace(filled(-10), symbol="BBB")}
    orders = compare_orders(there, here, record(), {}, half_an_hour)
    assert excess_slippage_by_symbol(orders) == pytest.approx({"AAA": 20.0, "BBB": 10.0})


def test_fill_timestamped_before_its_order_counts_when_sent() -> None:
    """A practice venue stamps a fill with the start of its bar, seconds before the cycle."""
    late = AT + np.timedelta64(5, "s")
    fill = FillRow("f", NAME, "", "AAA", Decimal(10), Decimal(100), AT, AT + HOUR)
    without_decision = replace(fill, client_order_id="")
    journal = record(replace(intent(), sent_at=late), fills=(fill, without_decision))
    assert journal.fills_between(late, AT + HOUR) == [fill]
    assert journal.fills_between(AT - HOUR, late) == [without_decision]


@pytest.mark.parametrize(
    ("sent", "listed"),
    [
        (intent("denied"), True),
        (replace(intent("denied"), decision_id="taken back"), False),
        (replace(intent("filled"), decision_id="taken back"), True),
        (replace(intent("denied", role="night"), decision_id="trade-night"), True),
        (replace(intent(), job="spreads"), False),
        (replace(intent(), sent_at=AT - HOUR), False),
        (replace(intent(), sent_at=AT + HOUR), False),
    ],
)
def test_orders_planned_between_account_readings_are_listed(
    sent: OrderIntent, listed: bool
) -> None:
    assert planned_orders(record(sent), "trade", AT, AT + HOUR) == [sent.order] * listed


def test_final_account_reading_uses_the_last_completed_bars() -> None:
    cycles = tuple(CycleRow(0, "trade", AT + k * HOUR, AT + k * HOUR) for k in range(3))
    marks = tuple(marked(AT + k * HOUR, 100_000.0 + k, {}) for k in range(3))
    journal = record(cycles=cycles, equity_marks=marks)
    assert journal.last_covered_snapshot(lambda _: True).equity == 100_002
    assert journal.last_covered_snapshot(lambda at: bool(at < AT + 2 * HOUR)).equity == 100_001
    assert journal.last_covered_snapshot(lambda _: False).observed_at == AT


def test_rebuilt_account_uses_marked_prices_and_traded_quantities() -> None:
    end = AT + HOUR
    fill = FillRow("f", NAME, "", "AAA", Decimal(10), Decimal(100), AT, end)
    journal = record(
        intent(),
        fills=(fill,),
        equity_marks=(marked(end, 100_050.0, {"AAA": 1_050.0, "?ODD": 3.0}),),
        cycles=(
            CycleRow(0, "trade", AT, AT),
            CycleRow(0, "trade", end, None, idle_reason="halted"),
        ),
    )
    reading = journal.last_covered_snapshot(lambda _: True)
    assert reading.positions == {"AAA": Fraction(10)}
    assert reading.prices == {"AAA": Fraction(105)}
    assert journal.is_decision_sent_before(AT, reading)
    assert not journal.is_decision_sent_before(end, reading)


def test_position_without_any_price_is_refused() -> None:
    odd = replace(decision(), positions={"ODD": Decimal(3)})
    with refused(InputError, "d", "ODD"):
        record(decisions=(odd,)).first_account_snapshot()


class Watched:
    """A decider, and every account that it decided for."""

    def __init__(self, decider: Decider) -> None:
        self.decider = decider
        self.seen: list[tuple[AccountSnapshot, Decision]] = []

    def decide(self, bars: Bars, account: AccountSnapshot) -> Decision | None:
        decision = self.decider.decide(bars, account)
        if decision is not None:
            self.seen.append((account, decision))
        return decision


def journal_of(run: Run, seen: list[tuple[AccountSnapshot, Decision]]) -> JournalRecord:
    """What a live journal would have written down of a simulated run."""
    decisions = []
    marks = []
    intents = []
    for account, made in seen:
        choices = {choice.symbol: choice for choice in made.choices}
        held = dict(account.positions)
        name = f"trade-{made.at}"
        decisions.append(decided(name, made.at, account.equity, choices, held))
        worth = {symbol: float(held[symbol]) * account.prices[symbol] for symbol in held}
        marks.append(marked(made.at, account.equity, worth))
        intents += [replace(intent(), order=o, sent_at=made.at) for o in made.orders]
    fills = tuple(
        FillRow(
            *("f", f.client_order_id, "", f.symbol, f.qty, Decimal(repr(f.price)), f.at),
            listed_at=f.at + HOUR,
        )
        for f in run.fills
        if f.price > 0
    )
    return record(*intents, decisions=tuple(decisions), equity_marks=tuple(marks), fills=fills)


def test_decision_account_is_rebuilt_from_the_journal() -> None:
    """Unsettled and short-sale proceeds are rebuilt over days of long and short positions."""
    words = ["forecaster=historical", "forecaster.calibrated=false", "sizing.holding=next"]
    words += ["sizing.strategy=kelly_100", "prior.stock_sharpe=0", "symbols=[SYA,SYB,SYXUSD]"]
    settings = settings_of(*BARS, *words)
    bars = settings.load_bars()
    days = np.array(["2024-02-20T15:30", "2024-02-23T15:30"], dtype="datetime64[ns]")
    first, last = np.searchsorted(bars.times, days).tolist()
    bars = bars.slice_rows(0, last)
    market = Market(bars, first)
    trader = settings.build_trader(settings.forecaster.build(bars.symbols))
    watched = Watched(trader.with_beliefs(market))
    run = simulate_trading(settings, market, "test", watched)
    journal = journal_of(run, watched.seen)
    shorts = 0
    for (account, made), journaled in zip(watched.seen, journal.decisions, strict=True):
        closes = last_closes_by_symbol(bars.slice_until(made.at))
        told = rebuild_account(journal, journaled, settings, closes)
        assert told.equity == pytest.approx(account.equity, abs=1e-9)
        assert told.cash == pytest.approx(account.cash, abs=1e-6)
        assert told.unsettled_proceeds == pytest.approx(account.unsettled_proceeds, abs=1e-3)
        assert told.short_proceeds == pytest.approx(account.short_proceeds, abs=1e-3)
        assert told.unborrowed_cash == pytest.approx(account.unborrowed_cash, abs=1e-3)
        assert (told.max_leverage, told.is_shorting_enabled) == (
            account.max_leverage,
            account.is_shorting_enabled,
        )
        shorts += account.short_proceeds > 0
    assert shorts > 20
    assert any(account.unsettled_proceeds for account, _ in watched.seen)


@pytest.mark.parametrize(
    ("ends", "at", "covered"),
    [
        ("2024-02-20T20:30", "2024-02-20T20:00", True),
        ("2024-02-20T20:00", "2024-02-20T20:00", False),
        ("2024-02-20T20:00", "2024-02-20T19:30", True),
        ("2024-02-20T20:00", "2024-02-20T19:31", False),  # the stock's bar ends at 20:30
        ("2024-02-20T20:00", "2024-02-20T20:01", False),
        ("2024-02-20T19:30", "2024-02-20T19:30", False),  # the coin's bar ends at 20:00
        ("2024-02-21T03:00", "2024-02-21T02:30", True),  # the market is shut
        ("2024-02-21T03:00", "2024-02-21T03:30", False),
    ],
)
def test_drift_compares_only_instants_with_complete_bars(ends: str, at: str, covered: bool) -> None:
    bars = SETTINGS.load_bars().slice_until(np.datetime64(ends, "ns"))
    assert has_all_bars_until(bars, np.datetime64(at, "ns")) is covered


def made(**changed: Any) -> Decision:
    """The simulated decision that is the journaled one, but for some fields of its choice."""
    equity = changed.pop("equity", 100_000.0)
    choice = decision().choices["AAA"]._replace(**changed)
    return decision_from_choices(AT, AT + HOUR, equity, 2.0, (choice,))


@pytest.mark.parametrize(
    ("changed", "field", "cause"),
    [
        ({"mu": 0.001}, "mu", "forecast"),
        ({"sigma": 0.02, "price": 101.0}, "sigma", "bars"),
        ({"qty": Decimal(9)}, "qty", "sizing"),
        ({"kelly": 0.2, "target_weight": 0.2}, "kelly", "sizing"),
        ({"mu": float("nan")}, "mu", "forecast"),
    ],
)
def test_decision_mismatch_names_the_first_differing_field(
    changed: dict[str, Any], field: str, cause: str
) -> None:
    closes = {"AAA": changed.get("price", 100.0)}
    found = compare_decisions(record(), {AT: made(**changed)}, {AT: closes}, [], half_an_hour)
    (difference,) = found.differences
    assert (difference.field, difference.cause) == (field, cause)
    assert (found.compared_instant_count, found.equal_instant_count, found.counts_by_cause) == (
        1,
        0,
        {cause: 1},
    )


def of_decision(anew: Decision | None) -> DecisionComparison:
    return compare_decisions(record(), {AT: anew}, {AT: {}}, [], half_an_hour)


def test_decision_missing_live_or_simulated_is_a_difference() -> None:
    symbols = of_decision(made(symbol="BBB")).differences
    assert [(each.symbol, each.cause) for each in symbols] == [("AAA", "bars"), ("BBB", "bars")]
    (alone,) = of_decision(None).differences
    assert (alone.live, alone.simulated, alone.cause) == ("decided", "not decided", "bars")


@pytest.mark.parametrize(
    ("at", "words", "first", "last"),
    [
        ("2024-02-20T15:30", "1h", "15:30", "15:59"),
        ("2024-02-20T15:30", "5m", "15:30", "15:32"),
        ("2024-02-20T21:00", "1d", "21:00", "2024-02-21T14:24"),
        ("2024-07-02T19:45", "1d fill=close", "19:45", "19:48"),
    ],
)
def test_drift_counts_decisions_missed_only_after_the_deadline(
    at: str, words: str, first: str, last: str
) -> None:
    """Live deadline and drift report use the same minute on every timeframe: the last cycle in time
    is not missed.
    """
    name, _, fill = words.partition(" fill=")
    day = at[:11]
    met, late = (np.datetime64(each if "T" in each else day + each, "ns") for each in (first, last))
    now = np.datetime64(at, "ns")
    stock = [(instrument("AAA"), np.array([now]), np.ones((1, 5)))]
    bars = build_panel(stock, "made here", Timeframe(name, fill or "open"))
    until = decision_deadline(bars, now)
    for began in (met, late, late + np.timedelta64(5, "m")):
        passed = (CycleRow(0, "trade", began, began, idle_reason="shut"),)
        assert (missed_decision_reason(passed, now, until) == "shut") is bool(began <= late)
