"""A journal of the live job beside the simulation of the same hours, over the wire."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from execution.live.account_lock import JOURNAL_FILE
from execution.orders.orders import is_protective_id
from foundation.compose import compose_config
from foundation.decimals import CENT
from foundation.errors import InputError
from marketsimulator import drift as comparison
from marketsimulator.drift import DriftSettings, LiveSimulation, build_live_results
from marketsimulator.results.attribution import PROFIT_PARTS
from marketsimulator.results.drift.report import Drift, render_drift_page
from marketsimulator.results.drift.terms import round_terms_to_cents
from marketsimulator.results.figures import return_contributions
from marketsimulator.results.report import result_file_writers
from marketsimulator.results.run_folder import RunFolder
from marketsimulator.results.stress.snapshot import read_snapshot
from marketsimulator.results.summary import BUY_AND_HOLD, RANDOM_WALK, BacktestResults
from tests.e2e.chromium import Page, look_at_all_widths, look_at_charts
from tests.e2e.practice import OPENING, SPAN, Practice, Start, buy, practising, trading, write_bars
from tests.e2e.refused import answer_of
from tests.support.commands import overridden
from tests.support.desks import Desk
from tests.support.messages import refused
from tests.support.pages import charts_of
from trainingdata.source import DataSettings

# A strategy that trades at nearly every decision, long, without a forecast to speak of.
STEADY = ("forecaster=ewma", "sizing.strategy=equal_weight", "sizing.band=0.002")
# Long and short, by the mean of what was.
BOTH_WAYS = ("forecaster=historical", "sizing.strategy=kelly_100", "prior.stock_sharpe=0")
STOCKS = "symbols=[SYA,SYB]"
WITH_COIN = "symbols=[SYA,SYB,SYXUSD]"
Step = Callable[[Practice, Desk], None]


def cycles(
    here: Practice,
    folder: Path,
    *words: str,
    count: int = 8,
    before: Mapping[int, Step] | None = None,
) -> Path:
    """The journal of so many cycles of the live job; `before` a cycle something may happen."""
    desk = Desk.at(here, folder, *words)
    for number in range(count):
        if number:
            here.advance()
        if before and number in before:
            before[number](here, desk)
        desk.job.run_cycle()
    return folder / JOURNAL_FILE


def hours_of(journal: Path, *words: str) -> LiveSimulation:
    """What a journal is held against, with the settings of its cycles."""
    told = [*SPAN, "trials=null", *words, f"journal={journal}"]
    return LiveSimulation.from_settings(DriftSettings.from_config(compose_config("drift", told)))


def measure_drift(journal: Path, *words: str) -> Drift:
    return comparison.measure_drift(hours_of(journal, *words))


def named_terms(drift: Drift) -> dict[str, Decimal]:
    """The terms that are a cent or more; all of them add up to the difference to the cent."""
    terms = round_terms_to_cents(drift.profit_components)
    assert sum(terms.values()) == CENT * round(drift.profit_difference * 100)
    assert drift.unexplained_difference == 0
    return {name: value for name, value in terms.items() if value}


def outcomes(drift: Drift) -> set[str]:
    return {order.outcome for order in drift.order_comparisons}


def does_not_drift(drift: Drift, decided: int) -> None:
    """Every decision, every fill and the profit to the cent; to the last reading of the account."""
    assert drift.decision_comparison.differences == ()
    assert (
        drift.decision_comparison.equal_instant_count
        == drift.decision_comparison.compared_instant_count
        >= decided
    )
    assert named_terms(drift) == {}
    assert outcomes(drift) == {"same"}
    assert len(drift.order_comparisons) > decided // 2
    assert drift.live_account.profit != 0
    assert drift.is_equal
    assert set(drift.excess_slippage_bps.values()) == {0.0}
    assert any(order.ordered_quantity < 0 for o in drift.order_comparisons if (order := o.live)), (
        "it sells short"
    )


def begun(practice: Start, *words: str) -> Practice:
    here = practice(*(words or (STOCKS,)))
    here.advance(OPENING)
    return here


@pytest.fixture(scope="module")
def with_coin(tmp_path_factory: pytest.TempPathFactory) -> LiveSimulation:
    """Twelve hours of two stocks and a coin, long and short, into the night."""
    words = (WITH_COIN, *BOTH_WAYS)
    with practising() as practice:
        here = begun(practice, WITH_COIN)
        journal = cycles(here, tmp_path_factory.mktemp("live"), *words, count=12)
    return hours_of(journal, *words)


@pytest.mark.wire
def test_simulation_of_a_live_journal_shows_no_drift(
    practice: Start, tmp_path: Path, with_coin: LiveSimulation
) -> None:
    """Runs with crypto end at night; others end at the close, whose fees are listed at the next
    instant, and after it.
    """
    does_not_drift(comparison.measure_drift(with_coin), 7)
    here, words = begun(practice), (STOCKS, *BOTH_WAYS)
    drift = measure_drift(cycles(here, tmp_path, *words, count=7), *words)
    assert drift.end == np.datetime64("2024-02-20T21:00")
    assert float(drift.live_account.unexplained_profit()) == pytest.approx(
        float(drift.simulated_account.unexplained_profit())
    )
    assert float(drift.simulated_account.unexplained_profit()) < -1e-3
    assert named_terms(drift) == {}
    here.advance()
    drift = measure_drift(cycles(here, tmp_path, *words, count=3), *words)
    assert float(drift.simulated_account.unexplained_profit()) > -1e-3
    does_not_drift(drift, 6)


@pytest.mark.wire
def test_live_account_with_tiers_equals_its_simulation(practice: Start, tmp_path: Path) -> None:
    words = (WITH_COIN, *BOTH_WAYS, "guards.tiers={0.0005: 0.6, 0.001: 0.3}")
    here = begun(practice, WITH_COIN)
    simulation = hours_of(cycles(here, tmp_path, *words, count=12), *words)
    does_not_drift(comparison.measure_drift(simulation), 7)
    ceilings = {each.stock_ceiling for each in simulation.journal_record.decisions}
    assert min(ceilings) < 0.7 * max(ceilings), "the limits have tightened"


@pytest.mark.wire
def test_live_account_with_stops_equals_its_simulation(practice: Start, tmp_path: Path) -> None:
    stops = ("protect.kind=stop", "protect.distance=0.3%")
    words = (WITH_COIN, *STEADY, *stops)
    here = begun(practice, WITH_COIN)
    drift = measure_drift(cycles(here, tmp_path, *words, count=12), *words)
    assert any(is_protective_id(fill.client_order_id) for fill in here.venue.broker.fills)
    assert drift.decision_comparison.differences == ()
    assert named_terms(drift) == {}
    assert drift.is_equal


@pytest.mark.wire
def test_account_with_a_delisted_symbol_does_not_drift(practice: Start, tmp_path: Path) -> None:
    data = DataSettings(start="2024-01-02", end="2024-02-26")
    bars = data.load_panel(["SYA", "SYB"], None, None)
    mask = bars.mask.copy()
    mask[bars.symbols.index("SYB"), bars.times >= np.datetime64("2024-02-21")] = False
    folder = write_bars(replace(bars, mask=mask), tmp_path / "bars", bars.symbols)
    words = (f"data.dir=[{folder}]", "data.delisted_after=1", "data.end=2024-02-26")
    here = practice(STOCKS, *words)
    here.advance("2024-02-20T19:30:00Z")
    drift = measure_drift(
        cycles(here, tmp_path, STOCKS, *STEADY, count=19), STOCKS, *STEADY, *words
    )
    [end] = [flow for flow in drift.live_account.cash_flows if flow.quantity]
    assert end.symbol == "SYB"
    assert end.usd > 0 > end.quantity
    assert named_terms(drift) == {}
    assert outcomes(drift) == {"same"}
    assert drift.is_equal


WORDS = (STOCKS, *STEADY)


def noted(here: Practice, kind: str, usd: float) -> None:
    """Cash comes or goes, and the venue lists it."""
    here.venue.broker.deposit(usd)
    day = str(here.venue.now.astype("datetime64[D]"))
    here.venue.record.record_activity({"activity_type": kind, "date": day, "net_amount": str(usd)})


def reject_next(here: Practice, kind: str) -> None:
    here.fail(kind=kind, path="/v2/orders", method="POST")


# The event before a cycle, and the drift term that contains it.
HAPPENS: tuple[tuple[str, int, Step], ...] = (
    ("unsent", 0, lambda here, _: reject_next(here, "reject")),
    ("unfilled", 0, lambda here, _: here.fail(kind="partial")),
    ("without_decision", 1, lambda here, _: trading(here).submit_order(buy("SYA", 400))),
    ("undecided", 2, lambda here, _: here.advance()),
    (
        "undecided",
        2,
        lambda _, desk: desk.live.account.raise_halt("positions", "somebody has to look"),
    ),
)


@pytest.mark.wire
@pytest.mark.first_example
@pytest.mark.parametrize(("term", "number", "happens"), HAPPENS)
def test_each_venue_event_has_its_own_drift_term(
    practice: Start, tmp_path: Path, term: str, number: int, happens: Step
) -> None:
    """All terms sum to the difference, and every decision follows from its own account."""
    count = max(2, number + 2)
    journal = cycles(begun(practice), tmp_path, *WORDS, count=count, before={number: happens})
    drift = measure_drift(journal, *WORDS)
    terms = named_terms(drift)
    assert set(terms) - ({"fees", "decided"} - {term}) == {term}
    causes = {each.cause for each in drift.decision_comparison.differences}
    assert {term} & {"undecided"} <= causes <= {"undecided"}
    assert term in outcomes(drift)


@pytest.mark.wire
def test_extra_cycle_between_bars_causes_no_drift(practice: Start, tmp_path: Path) -> None:
    """The loop restarts a minute after its last orders, so the last reading contains their
    fills.
    """
    here = begun(practice)
    journal = cycles(here, tmp_path, *WORDS, count=1)
    here.fail(kind="skew", seconds=60, count=100)
    again = Desk.at(here, tmp_path, *WORDS)
    again.job.run_cycle()
    here.clear_faults()
    drift = measure_drift(journal, *WORDS)
    assert drift.end == np.datetime64("2024-02-20T15:31")
    assert len(drift.order_comparisons) == len(here.venue.tickets) == 2
    assert len(drift.live_account.trades) == 2
    assert drift.is_equal


def parts_of(results: BacktestResults) -> dict[str, float]:
    """USD of the seven parts of the money, which add up to the profit."""
    symbols = results.attribution()["symbols"].values()
    parts = {name: sum(own[name] for own in symbols) for name in PROFIT_PARTS}
    rows = results.main_run.equity_rows
    assert sum(parts.values()) == pytest.approx(rows[-1].equity - rows[0].equity, abs=0.01)
    shares = return_contributions(results.market.bars, results.main_run, rows[0].equity)
    assert sum(shares.values()) == pytest.approx(rows[-1].equity / rows[0].equity - 1, abs=1e-9)
    return parts


def test_live_account_report_matches_backtest_of_same_hours(
    with_coin: LiveSimulation, tmp_path: Path
) -> None:
    """Equity at every instant, fills, decisions and profit components agree; the spread counts as
    timing.
    """
    results = build_live_results(with_coin)
    live, simulated = results.main_run, results.benchmark_runs[0]
    assert [row.at for row in live.equity_rows] == [row.at for row in simulated.equity_rows]
    # What the venue charges for a day is listed as the next instant comes. The first and the last
    # reading are of decisions, before what they sent.
    charged = sum(row.rounding + row.interest + row.borrow for row in simulated.equity_rows)
    for one, other in zip(live.equity_rows[1:-1], simulated.equity_rows[1:-1], strict=True):
        assert one.equity == pytest.approx(other.equity, abs=charged + 1e-6)
        assert one.gross_stock == pytest.approx(other.gross_stock)
        assert one.gross_crypto == pytest.approx(other.gross_crypto)
    crypto_fees = [
        sum(row.crypto_fees for row in run.equity_rows[:-1]) for run in (live, simulated)
    ]
    assert crypto_fees[0] == pytest.approx(crypto_fees[1])
    first, last = live.equity_rows[0].at, live.equity_rows[-1].at
    booked = [
        [fill.booked_at for fill in run.fills if first < fill.at < last]
        for run in (live, simulated)
    ]
    assert booked[0] == booked[1] != []
    pd.testing.assert_frame_equal(live.decision_frame(), simulated.decision_frame(), rtol=1e-9)
    parts = parts_of(results)
    begun_with = replace(simulated, equity_rows=[live.equity_rows[0], *simulated.equity_rows[1:]])
    theirs = parts_of(replace(results, main_run=begun_with))
    for name in ("premium", "forecast", "sizing", "limits"):
        assert parts[name] == pytest.approx(theirs[name], abs=1e-6)
    summary = results.summary()
    assert summary["comparisons"].keys() == {"simulation", RANDOM_WALK, BUY_AND_HOLD}
    assert "simulation" in render_files(results, summary, tmp_path)


def render_files(results: BacktestResults, summary: dict[str, Any], folder: Path) -> str:
    """The page of a report, whose files are all written."""
    folder.mkdir(exist_ok=True)
    for name, write in result_file_writers(results, summary).items():
        write(folder / name)
    return (folder / "report.html").read_text()


def test_live_report_components_sum_to_the_profit(practice: Start, tmp_path: Path) -> None:
    """The account has an opening balance, a deposit, a charge, interest and manual trades."""
    here = begun(practice, "symbols=[SYA,SYB,SYC]")
    trading(here).submit_order(buy("SYA", 300))
    trading(here).submit_order(buy("SYC", 5))
    here.advance()

    def deposit(here: Practice, _: Desk) -> None:
        noted(here, "CSD", 5_000.0)
        trading(here).submit_order(buy("SYB", 10))
        trading(here).submit_order(buy("SYC", 1))

    events = {
        2: deposit,
        3: lambda here, _: [noted(here, "FEE", -12.34), noted(here, "SSP", -2.1)],
        4: lambda here, _: noted(here, "DIV", 20.0),
        5: lambda here, _: noted(here, "INT", -3.0),
    }
    journal = cycles(here, tmp_path, *WORDS, count=8, before=events)
    hours = hours_of(journal, *WORDS)
    results, drift = build_live_results(hours), comparison.measure_drift(hours)
    live = results.main_run
    terms = named_terms(drift)
    # A night's debt for what was bought by hand is 7 cents more.
    booked = {"interest": -3.07, "dividends": 20.0, "other": -2.1}
    assert {n: float(terms[n]) for n in booked} == booked
    assert float(terms["fees"]) == pytest.approx(-12.34, abs=0.05)
    differing = {each.symbol for each in drift.decision_comparison.differences}
    assert differing == {"SYB"}, "a person's shares are set aside, and what is booked changes none"
    assert drift.live_account.transfers == 5_000, "a deposit is no profit"
    assert live.initial_positions["SYA"].quantity == 300
    assert drift.simulated_account.start_positions == {"SYA": 300}
    first, last = (
        float(marks["SYC"])
        for marks in (drift.live_account.start_marks, drift.live_account.end_marks)
    )
    (later,) = (f.price for f in here.venue.broker.fills if (f.symbol, f.qty) == ("SYC", 1))
    assert float(drift.profit_components["not_simulated"]) == pytest.approx(
        5 * (last - first) + last - later
    )
    assert live.equity_rows[0].equity == pytest.approx(
        float(drift.live_account.start_equity), abs=1e-6
    )
    earned = live.equity_rows[-1].equity - live.equity_rows[0].equity
    assert earned == pytest.approx(float(drift.live_account.profit), abs=0.01)
    fewer = build_live_results(hours_of(journal, "symbols=[SYA]", *STEADY)).main_run
    assert [row.equity for row in fewer.equity_rows] == pytest.approx(
        [r.equity for r in live.equity_rows]
    )
    assert fewer.equity_rows[-1].gross_stock < live.equity_rows[-1].gross_stock, (
        "what is not asked for is cash"
    )
    parts = parts_of(results)
    assert parts["costs"] <= -12.34
    summary = results.summary()
    assert summary["dividends"] == 20.0
    render_files(results, summary, tmp_path / "report")
    assert any("5,000.00 USD are excluded" in warning for warning in summary["warnings"])
    assert any("also holds SYC" in warning for warning in summary["warnings"])
    book = read_snapshot(RunFolder(tmp_path / "report"), "end")
    assert book.equity == pytest.approx(live.equity_rows[-1].equity + 5_000), "what it can lose"
    assert book.other_holdings == ("SYC",)
    held = live.position_quantities(results.market.bars.symbols)[:, -1]
    assert {s: float(q) for s, q in book.positions.items()} == dict(
        zip(results.market.bars.symbols, held.tolist(), strict=True)
    )
    assert summary["interest"] == pytest.approx(3.0, abs=0.2)  # and a night of its own


@pytest.mark.wire
def test_drift_page_fits_any_width_and_compares_orders(
    browser: Page, with_coin: LiveSimulation, tmp_path: Path
) -> None:
    drift = comparison.measure_drift(with_coin)
    runs = with_coin.live_run, with_coin.simulated_run
    page = render_drift_page(drift, [run.equity_curve() for run in runs])
    (tmp_path / "drift.html").write_text(page, encoding="utf-8")
    look_at_all_widths(browser, tmp_path / "drift.html", ("No drift", "Equity", "Slippage"))
    (equity,) = charts_of(page)
    assert [each["name"] for each in equity["series"]] == ["simulation", "live account"]
    assert (
        f"{len(drift.order_comparisons)} of {len(drift.order_comparisons)} orders have equal fills"
        in page
    )
    look_at_charts(browser, 1)


@pytest.mark.wire
def test_drift_report_counts_fills_that_cannot_be_compared(practice: Start, tmp_path: Path) -> None:
    """The first cycle's orders fill, and no later account reading shows the fills."""
    journal = cycles(begun(practice), tmp_path, *WORDS, count=1)
    words = [*overridden(SPAN, WORDS), f"journal={journal}", "output=live"]
    code, printed, said = answer_of("marketsimulator.drift", *words, cwd=tmp_path)
    assert code == 0, said
    text = " ".join(printed.split())
    assert "no drift" not in text.lower()
    assert "orders: none compared" in text
    assert "Not compared: 2 orders (2 filled) and 0 decisions after 2024-02-20" in text
    assert "No verdict on fills yet: 1 decision compared, but no order." in text
    told = json.loads((tmp_path / "live" / "drift.json").read_text())
    assert "No verdict on fills yet" in (tmp_path / "live" / "drift.html").read_text()
    assert told["agrees"] is None
    assert told["not_compared"] == {"decisions": 0, "orders": 2, "filled_orders": 2}


@pytest.mark.wire
@pytest.mark.slow
def test_drift_command_exits_nonzero_only_on_drift(practice: Start, tmp_path: Path) -> None:
    journal = cycles(begun(practice), tmp_path, *WORDS, count=2)

    def command(*words: str) -> tuple[int, str, str]:
        told = [*overridden(SPAN, (*WORDS, *words)), f"journal={journal}"]
        return answer_of("marketsimulator.drift", *told, cwd=tmp_path)

    code, printed, said = command()
    assert code == 0, said
    assert "No drift in 2 decisions and 2 orders." in printed
    code, _, said = command("fees.commission_per_share=0.01", "output=live")
    assert code == 1, said
    told: dict[str, Any] = json.loads((tmp_path / "live" / "drift.json").read_text())
    assert json.loads((tmp_path / "live" / "summary.json").read_text())["trades"] == 2
    profit = told["profit"]
    assert profit["terms"]["fees"] == profit["difference"] != "0.00"
    assert sum(map(Decimal, profit["terms"].values())) == Decimal(profit["difference"])
    assert profit["residual"] == "0.00"
    assert told["slippage"]["SYA"] == 0.0
    assert told["decisions"]["equal"] == 2
    for word, fact in (
        ("data.end=2024-02-16", "2024-02-16T21:00Z"),
        ("order_tag=mine", "order_tag"),
        ("symbols=[SYXUSD]", "2024-02-20T15:30Z"),
    ):
        with refused(InputError, fact):
            measure_drift(journal, *WORDS, word)
