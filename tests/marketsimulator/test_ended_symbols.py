"""Symbols that end: what a position becomes, in every account alike, and what a page says of it."""

# Private access: the warning of missing symbols is tested without a venue.
from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from execution.alpaca.activities import parse_activity
from execution.live.cycle import _log_missing_bars
from foundation.files import write_files_atomically
from marketsimulator.account.broker import SimulatedBroker
from marketsimulator.backtest import run_backtest
from marketsimulator.results.altered_bars import delist_random_symbols
from marketsimulator.results.remarks import delisting_remarks
from marketsimulator.results.report import result_file_writers
from marketsimulator.results.verdict import backtest_verdict
from marketsimulator.run_result import DELISTED
from marketsimulator.runs.outcome import VariantOutcome, simulate_variants
from marketsimulator.runs.simulate import simulate_trading
from marketsimulator.settings import BacktestSettings
from practice.alpaca.stocks import Venue
from tests.marketsimulator.account_book import End, exact
from tests.marketsimulator.accountant import Records, audit
from tests.marketsimulator.accounts import account_on, ended, market, panel_of, stock_ends
from tests.marketsimulator.runs import eager, settings_of, trader_of, walked_as_stepped, wild
from tests.support.own_module import own_module
from trainingdata.bars import Bars
from trainingdata.confirmation import drop_unconfirmed_bars
from trainingdata.delistings import Delisting, DelistingRules
from trainingdata.market import Market
from trainingdata.sessions import exchange_calendar, first_open_on_or_after

WORDS = (
    *("start=2024-02-16", "data.start=2024-01-02", "data.end=2024-03-02", "trials=null"),
    *("forecaster=ewma", "forecaster.calibrated=false", "symbols=[SYA,SYB,SYC,SYXUSD,SYYUSD]"),
    *("limits.symbol_cap=1.2", "limits.overnight_leverage=3.5", "margin.borrow_rate=0.02"),
)
SHORT = "def short(inputs):\n    return [-0.9 for _ in inputs.symbols]\n"


def flat(last: int, *, sessions: int = 8) -> Bars:
    """AAA at 10 USD, of which so many bars are there, BBB at 4 and CCC at 1."""
    times = stock_ends("2026-05-04", 7 * sessions)
    prices = {"AAA": (10.0, last), "BBB": (4.0, len(times)), "CCC": (1.0, len(times))}
    return panel_of({s: (times[:n], np.full((n, 4), usd)) for s, (usd, n) in prices.items()})


def held(
    quantity: float, endings: DelistingRules, also: float = 0.0
) -> tuple[SimulatedBroker, Bars, float]:
    """An account with so many AAA and BBB, whose AAA has its last bar in the second session."""
    bars = flat(14)
    broker = account_on(bars, 10_000.0, endings=endings)
    orders = [market("a", "AAA", quantity), *([market("b", "BBB", also)] if also else [])]
    broker.submit(orders)
    broker.open_bars()
    return broker, bars, float(broker.equity_row().cash)


@pytest.mark.parametrize("quantity", [100.0, -100.0])
def test_position_is_closed_after_enough_sessions_without_bars(quantity: float) -> None:
    """Until then the position keeps its last mark; a short is bought in at the same price."""
    broker, bars, cash = held(quantity, DelistingRules(missed_sessions=1, loss_fraction=0.3))
    fourth_close = 7 * 4 - 1
    broker.advance(fourth_close)
    assert float(broker.account().positions["AAA"]) == quantity
    assert broker.equity_row().equity == 10_000.0
    broker.advance(fourth_close + 1)
    assert broker.account().positions == {}
    assert broker.equity_row().cash == pytest.approx(cash + quantity * 7.0)
    assert broker.equity_row().equity == pytest.approx(10_000.0 - quantity * 3.0)
    assert broker.short_proceeds() == {}
    (booking,) = broker.bookings
    assert booking == (
        bars.times[fourth_close + 1],
        "AAA",
        DELISTED,
        pytest.approx(-3.0 * quantity),
    )
    fill = broker.fills[-1]
    assert fill.at == first_open_on_or_after(np.datetime64("2026-05-08"))
    assert fill.price == pytest.approx(7.0)


def test_position_stays_open_if_delisting_does_not_apply() -> None:
    for after in (None, 7):
        broker, bars, _ = held(100.0, DelistingRules(missed_sessions=after))
        broker.advance(len(bars.times) - 1)
        assert float(broker.account().positions["AAA"]) == 100.0


def ending(price: float = 0.0, ratio: float = 0.0, into: str = "") -> DelistingRules:
    opens = first_open_on_or_after(np.datetime64("2026-05-06"))
    assert opens is not None
    return DelistingRules((Delisting("AAA", opens, opens, price, 0.0, ratio, into),))


def test_short_in_merged_symbol_first_offsets_held_successor() -> None:
    broker, *_ = held(-100.0, ending(ratio=0.3, into="BBB"), also=20.0)
    broker.advance(14)
    assert [float(fill.qty) for fill in broker.fills[2:]] == [100.0, -20.0, -10.0]
    assert broker.account().positions == {"BBB": -10}


def test_delisting_cancels_the_symbols_open_orders() -> None:
    bars = flat(14)
    broker = account_on(bars, endings=ending())
    broker.advance(13)
    stays = replace(market("s", "CCC", 1), type="limit", limit_price=0.5, tif="gtc")
    goes = replace(market("g", "AAA", 1), type="limit", limit_price=0.5, tif="gtc")
    broker.submit([stays, goes])
    broker.advance(14)
    assert broker.order_states(["s", "g"]) == {"s": "working", "g": "canceled"}


def test_every_engine_keeps_the_same_account_through_delistings() -> None:
    words = (*WORDS, "data.delisted_after=3", "data.delisting_loss=0.4")
    settings = settings_of(*words)
    market = settings.load_market()
    opens = first_open_on_or_after(np.datetime64("2024-02-22"))
    assert opens is not None
    known = opens + np.timedelta64(7, "D")
    listed = (Delisting("SYB", opens, known, 2.5, 0.0, 0.7, "SYC"),)
    # What is not known yet is found by its absence: this one is before the row.
    last = {"SYA": "2024-02-21", "SYB": "2024-02-22", "SYYUSD": "2024-02-19"}
    endings = replace(market.delisting_rules, explicit_delistings=listed, missed_sessions=3)
    market = replace(market.with_bars(ended(wild(market.bars), last)), delisting_rules=endings)
    trader = trader_of(settings, market)
    table = eager(trader.build_beliefs(market), "2024-02-17")
    run = walked_as_stepped(settings, market, replace(trader, belief_table=table))
    worth = exact(2.5), exact(0.0), exact(0.7)
    ends = [End(known.astype("datetime64[ns]").astype(int).item(), "SYB", *worth, "SYC")]
    config = asdict(settings)
    config["data"]["delisted_after"] = endings.missed_sessions
    assert str(audit(Records.of(config, market.bars, run, ends=ends))) == "0 differences"
    assert sum(booking.kind == DELISTED for booking in run.bookings) >= 2
    (outcome,) = simulate_variants([settings], market, table)
    assert outcome.equity.tolist() == [row.equity for row in run.equity_rows]
    assert outcome.totals.trades == VariantOutcome.from_run(run).totals.trades
    assert outcome.totals.notional == pytest.approx(VariantOutcome.from_run(run).totals.notional)


def test_report_adds_up_when_a_share_becomes_worthless(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = BacktestSettings.load_market

    def shorter(self: BacktestSettings) -> Market:
        market = whole(self)
        return market.with_bars(ended(market.bars, {"SYA": "2024-02-22"}))

    monkeypatch.setattr(BacktestSettings, "load_market", shorter)
    words = (*WORDS, "data.delisted_after=3", "data.delisting_loss=1", "prior.stock_sharpe=2")
    results = run_backtest(settings_of(*words))
    summary = results.summary()
    ends = [each for each in results.main_run.bookings if each.kind == DELISTED]
    assert len(ends) == 1
    remark = next(each for each in summary["remarks"] if "delisted within the run" in each)
    assert remark.startswith("1 symbol delisted within the run (SYA): profit -$")
    assert f"of which payouts -${-ends[0].usd:,.2f}." in remark
    lost = sum(summary["attribution"]["symbols"]["SYA"].values())
    booked = sum(
        b.usd for b in results.main_run.bookings if b.symbol == "SYA" and b.kind == "borrow"
    )
    earned = summary["contributions"]["SYA"] * results.settings.capital
    assert lost == pytest.approx(earned + booked, abs=1e-6)
    write_files_atomically(result_file_writers(results, summary), tmp_path / "run")
    assert "delisted within the run (SYA)" in (tmp_path / "run/report.html").read_text()


def test_later_delistings_change_no_earlier_bars() -> None:
    whole = Market(flat(56))
    at = whole.bars.times[20]
    other = delist_random_symbols(whole, at, 3)
    assert [each.booked_at > at for each in other.booked_delistings] == [True]
    before = whole.bars.times <= at
    np.testing.assert_array_equal(other.bars.mask[:, before], whole.bars.mask[:, before])
    assert not other.bars.mask[:, ~before].all()


def test_practice_venue_lists_a_delisting_as_merger(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(*WORDS, "increments=original")
    venue = Venue(settings, Market(flat(14), delisting_rules=DelistingRules(missed_sessions=1)))
    request = {"symbol": "AAA", "qty": "100", "side": "buy", "type": "market"}
    venue.submit({**request, "time_in_force": "day"})
    venue.advance(30)
    entry = venue.record.activities[-1]
    assert entry["activity_type"] == "MA"
    read = parse_activity({"id": "1", **entry})
    assert (read.kind, read.symbol, float(read.quantity)) == ("merger", "AAA", -100.0)
    assert float(read.amount) == pytest.approx(700.0)
    assert venue.broker.account().positions == {}


def squeezed(folder: Path, *, ends: bool = False, stays: bool = False) -> list[str]:
    """Words of a run over two stocks of days; WILD squeezes, and its bars may stop after it.

    stays: whether its price stays at 3.4 times the one before instead.
    """
    days = exchange_calendar().dates
    first = int(np.searchsorted(days, np.datetime64("2022-01-03")))
    dates = days[first : first + 144].astype(str)
    calm = np.full(144, 40.0)
    wild = calm.copy()
    wild[124:138:2] = 68.0
    if stays:
        wild = 40.0 * np.exp(np.cumsum(np.random.default_rng(7).normal(0, 0.01, 144)))
        wild[124:] *= 3.4
    for symbol, closes in (("CALM", calm), ("WILD", wild)):
        opens = np.concatenate([closes[:1], closes[:-1]])
        top, low = np.maximum(opens, closes) * 1.001, np.minimum(opens, closes) * 0.999
        table = {"Date": dates, "Open": opens, "High": top, "Low": low, "Close": closes}
        frame = pd.DataFrame({**table, "Volume": 10_000_000})
        rows = 124 if symbol == "WILD" and ends else 144
        frame.iloc[:rows].to_csv(folder / f"{symbol}.csv", index=False)
    words = [f"data.dir=[{folder}]", "start=2022-06-13", "end=2022-07-29", "trials=null"]
    return [*words, "forecaster=ewma", "forecaster.calibrated=false"]


def test_verdict_states_that_all_equity_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing a short whose price tripled costs more than the equity."""
    module = own_module(SHORT, tmp_path, monkeypatch)
    words = [*squeezed(tmp_path, stays=True), f"sizing._target_={module}.short"]
    results = run_backtest(settings_of(*words))
    summary = results.summary()
    told = backtest_verdict(summary)
    assert results.main_run.equity_rows[-1].equity < 0
    assert told.level == "bad"
    assert told.claim == f"All equity was lost on {summary['wiped_out_on']}."
    assert summary["wiped_out_on"] == "2022-07-05"
    assert summary["days"] == len(results.main_run.equity_rows) > 20
    reasons = [
        order.reason for decision in results.main_run.decision_log for order in decision.orders
    ]
    assert not any("nan" in str(reason) for reason in reasons)


def test_short_squeeze_does_not_delist_the_symbol(tmp_path: Path) -> None:
    found = settings_of(*squeezed(tmp_path)).load_market()
    assert found.booked_delistings == ()
    assert (~found.bars.mask[1]).sum() == 1, "one bar of the squeeze waits"
    broker = account_on(found.bars, 100_000.0, endings=found.delisting_rules)
    broker.submit([replace(market("w", "WILD", -100.0), tif="opg")])
    broker.open_bars()
    broker.advance(len(found.bars.times) - 1)
    assert [float(fill.qty) for fill in broker.fills] == [-100.0]
    assert all(booking.kind != DELISTED for booking in broker.bookings)


def test_symbol_without_further_bars_is_delisted(tmp_path: Path) -> None:
    found = settings_of(*squeezed(tmp_path, ends=True)).load_market()
    assert [each.symbol for each in found.booked_delistings] == ["WILD"]


def test_last_bar_awaiting_confirmation_is_not_reported_missing(tmp_path: Path) -> None:
    words = [word for word in squeezed(tmp_path) if not word.startswith("end=")]
    settings = settings_of(*words, "end=2022-07-01")
    found = settings.load_market()
    assert not found.bars.mask[1, -1]
    run = simulate_trading(settings, found, "x", trader_of(settings, found))
    assert not [note for note in delisting_remarks(run, found, {}) if "Without bars" in note]
    words = [word for word in squeezed(tmp_path, ends=True) if not word.startswith("end=")]
    settings = settings_of(*words, "end=2022-07-06")
    found = settings.load_market()
    run = simulate_trading(settings, found, "x", trader_of(settings, found))
    assert [note for note in delisting_remarks(run, found, {}) if "Without bars" in note]


@pytest.mark.parametrize("quantity", [100.0, -100.0])
@pytest.mark.parametrize("last", [16.0, 12.03, 90.0])
@pytest.mark.parametrize("listed", [False, True])
def test_crash_on_the_last_bar_sets_delisting_payout(
    quantity: float, last: float, *, listed: bool
) -> None:
    times = stock_ends("2026-05-04", 7 * 8)
    prices = np.full((14, 4), 40.0)
    prices[-1] = last
    bars = panel_of({"AAA": (times[:14], prices), "BBB": (times, np.full((56, 4), 4.0))})
    bars = drop_unconfirmed_bars(bars)
    assert not bars.mask[0, 13]
    stated = replace(ending().explicit_delistings[0], cash_per_share=np.nan)
    endings = (
        DelistingRules((stated,))
        if listed
        else DelistingRules(missed_sessions=1, loss_fraction=0.3)
    )
    broker = account_on(bars, 10_000.0, endings=endings)
    broker.submit([market("a", "AAA", quantity)])
    broker.open_bars()
    broker.advance(55)
    assert broker.account().positions == {}
    assert broker.fills[-1].price == pytest.approx(0.7 * last)
    found = endings.booked_delistings(bars)
    assert endings.booked_delistings(bars.slice_rows(0, 50)) == found
    assert endings.booked_delistings(bars.slice_rows(0, 13)) == ()


def test_delisting_payout_at_unconfirmed_price_is_reported(tmp_path: Path) -> None:
    words = squeezed(tmp_path, ends=True)
    frame = pd.read_csv(tmp_path / "WILD.csv")
    frame.loc[len(frame) - 1, ["Low", "Close"]] = 10.0
    frame.to_csv(tmp_path / "WILD.csv", index=False)
    settings = settings_of(*words)
    found = settings.load_market()
    (end,) = found.booked_delistings
    assert (end.cash_per_share, end.last_price_fraction) == (pytest.approx(7.0), 0.0)
    run = simulate_trading(settings, found, "x", trader_of(settings, found))
    assert (
        "WILD is paid out at its last price (10.00), which no later bar confirms."
        in delisting_remarks(run, found, {"WILD": 0.0})
    )
    (doubt,) = found.bars.data_warnings
    assert "the payout is computed from this price, 10" in doubt.effect


@pytest.mark.first_example
@pytest.mark.parametrize("rule", ["long", "short"])
def test_symbol_trading_again_at_delisting_payout_is_kept(tmp_path: Path, rule: str) -> None:
    """It misses exactly the ten sessions after which it would be delisted."""
    words = squeezed(tmp_path)
    calm = pd.read_csv(tmp_path / "CALM.csv")
    calm.drop(index=range(116, 126)).to_csv(tmp_path / "WILD.csv", index=False)
    settings = settings_of(*words, "sizing.strategy=equal_weight")
    found = settings.load_market()
    assert found.booked_delistings == ()
    sign = 1.0 if rule == "long" else -1.0
    broker = account_on(found.bars, 100_000.0, endings=found.delisting_rules)
    broker.submit([replace(market("w", "WILD", sign * 100.0), tif="opg")])
    broker.open_bars()
    broker.advance(len(found.bars.times) - 1)
    assert float(broker.account().positions["WILD"]) == sign * 100.0
    run = simulate_trading(settings, found, "x", trader_of(settings, found))
    (note,) = [each for each in delisting_remarks(run, found, {}) if "traded again" in each]
    assert note.startswith("WILD traded again at 2022-07-")
    # After one more session without bars it is delisted.
    calm.drop(index=range(116, 127)).to_csv(tmp_path / "WILD.csv", index=False)
    assert [each.symbol for each in settings_of(*words).load_market().booked_delistings] == ["WILD"]


def test_independent_audit_keeps_symbols_that_trade_again() -> None:
    settings = settings_of(*WORDS, "data.delisted_after=3", "data.delisting_loss=0.4")
    market = settings.load_market()
    bars = market.bars
    row = bars.symbols.index("SYA")
    days = bars.times.astype("datetime64[D]")
    gap = (days >= np.datetime64("2024-02-20")) & (days <= np.datetime64("2024-02-23"))
    mask = bars.mask.copy()
    mask[row, gap] = False
    values = np.where(mask[:, :, None], bars.values, np.nan)
    market = market.with_bars(replace(bars, values=values, mask=mask))
    assert [each.symbol for each in market.cancelled_delistings] == ["SYA"]
    trader = trader_of(settings, market)
    table = eager(trader.build_beliefs(market), "2024-02-17")
    run = walked_as_stepped(settings, market, replace(trader, belief_table=table))
    assert all(booking.kind != DELISTED for booking in run.bookings)
    assert str(audit(Records.of(asdict(settings), market.bars, run))) == "0 differences"


def test_live_cycle_names_symbols_without_bars(caplog: pytest.LogCaptureFixture) -> None:
    _log_missing_bars(flat(14, sessions=4))
    _log_missing_bars(flat(56))
    assert [each.getMessage() for each in caplog.records] == [
        "AAA: no decision, bars are missing for 2 sessions"
    ]
