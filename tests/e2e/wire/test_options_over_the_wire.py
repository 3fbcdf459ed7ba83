"""Options at the practice server: the real alpaca-py, the seller over HTTP, lost answers, kills."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alpaca.data.historical import OptionHistoricalDataClient, StockHistoricalDataClient
from alpaca.data.requests import OptionLatestQuoteRequest
from alpaca.trading.enums import OrderClass, OrderSide, OrderStatus, PositionIntent, TimeInForce
from alpaca.trading.requests import (
    GetOrdersRequest,
    LimitOrderRequest,
    MarketOrderRequest,
    OptionLegRequest,
)

from execution.alpaca.broker import AlpacaBroker, AlpacaConnection
from execution.alpaca.options import AlpacaSpreadAccount
from execution.brokers import EstimatedClock
from execution.journal.events import HELD_POSITIONS_EVENT, EventLog
from execution.journal.order_store import OrderStore
from execution.journal.refusals import RefusalJournal
from execution.live.__main__ import parse_arguments
from execution.live.__main__ import run as operate
from execution.live.account import LiveAccount
from execution.live.account_lock import JOURNAL_FILE
from execution.live.guarded_broker import GuardedBroker
from execution.live.loop import StopSignal
from execution.live.open_account import OpenAccount
from execution.live.settings import LiveSettings
from execution.orders.gate import ALLOW_ALL_ORDERS, OrderGate
from execution.orders.last_trades import EmptyTradeSource
from execution.orders.option_orders import (
    OptionContract,
    OptionLeg,
    OrderNeverSent,
    SpreadFill,
    SpreadOrder,
    parse_occ_symbol,
)
from foundation.compose import compose_config
from foundation.database import query_rows as database_rows
from foundation.errors import BrokerError, InputError, OrderRejected, OutcomeUnknown
from foundation.notifier import Notifier
from option_spreads.autoscaler.account import AccountFiles
from option_spreads.autoscaler.trades import parse_trade_rows
from option_spreads.sell import sell_spreads
from option_spreads.selling.seller import SpreadSeller
from option_spreads.selling.settings import SellingSettings
from option_spreads.selling.state import read_state
from tests.e2e.practice import KEYS, Start, environment, forgotten, trading
from tests.e2e.selling import DeskVenue, UnreconciledAccount
from tests.support.alerts import Alerts
from tests.support.commands import Started
from tests.support.connections import open_for_test
from tests.support.messages import refused
from tests.support.passing import HURRIED
from tests.support.spreads import AT, LONG, SHORT, UNDER, options, put, spreads
from trainingdata.feed.endpoint import BrokerSettings

# A server's hours end at half past: 14:30 is the last before the cut-off of a stock's options.
SOLD = (f"root={UNDER}", f"underlying={UNDER}", "rules.exit_minute=300")


def selling(*words: str) -> SellingSettings:
    return SellingSettings.from_config(compose_config("sell_spreads", ["vix=x", *SOLD, *words]))


def seller_of(venue: Any, vix: Path, folder: Path, *words: str) -> SpreadSeller:
    """A seller of an account in a folder, which begins."""
    AccountFiles(folder / "paper", 20_000.0).initialise()
    settings = selling(f"vix={vix}", f"AUTOSCALING_DATA_DIR={folder}", *words)
    account = UnreconciledAccount()
    return SpreadSeller(venue, settings, settings.read_vix_closes, Notifier(None, None), account)


def market_order(client: Any, short: str, long: str, side: OrderSide, qty: int = 1) -> Any:
    """A spread of two options at the market, its short leg on this side."""
    other = OrderSide.BUY if side is OrderSide.SELL else OrderSide.SELL
    legs = [
        OptionLegRequest(symbol=symbol, ratio_qty=1, side=each)
        for symbol, each in ((short, side), (long, other))
    ]
    shape: Any = {"order_class": OrderClass.MLEG, "time_in_force": TimeInForce.DAY}
    return client.submit_order(MarketOrderRequest(legs=legs, qty=qty, **shape))


def test_alpaca_client_sells_and_buys_back_a_spread(practice: Start, vix: Path) -> None:
    here = options(practice, vix)
    here.advance(AT)
    client: Any = trading(here)
    legs = [
        OptionLegRequest(symbol=SHORT, ratio_qty=1, side=OrderSide.SELL),
        OptionLegRequest(symbol=LONG, ratio_qty=1, position_intent=PositionIntent.BUY_TO_OPEN),
    ]
    shared: dict[str, Any] = {
        "qty": 2,
        "order_class": OrderClass.MLEG,
        "time_in_force": TimeInForce.DAY,
    }
    cash = float(client.get_account().cash)
    sold = client.submit_order(MarketOrderRequest(legs=legs, **shared))
    assert (sold.status, sold.order_class) == (OrderStatus.FILLED, OrderClass.MLEG)
    credit = -float(sold.filled_avg_price)
    signs = [1 if leg.side is OrderSide.SELL else -1 for leg in sold.legs]
    assert signs == [1, -1]
    by_legs = sum(
        sign * float(leg.filled_avg_price) for sign, leg in zip(signs, sold.legs, strict=True)
    )
    assert credit == pytest.approx(by_legs)
    account = client.get_account()
    assert float(account.cash) == pytest.approx(cash + 200 * credit)
    assert float(account.options_buying_power) == pytest.approx(cash + 200 * credit - 1000)
    held = {p.symbol: float(p.qty) for p in client.get_all_positions()}
    assert held == {SHORT: -2, LONG: 2}
    waiting = client.submit_order(LimitOrderRequest(legs=legs, limit_price=-4.9, **shared))
    assert waiting.status is OrderStatus.NEW
    assert [order.id for order in client.get_orders(GetOrdersRequest())] == [waiting.id]
    client.cancel_order_by_id(waiting.id)
    assert client.get_order_by_id(waiting.id).status is OrderStatus.CANCELED
    market_order(client, SHORT, LONG, OrderSide.BUY, 2)
    assert not client.get_all_positions()
    account = client.get_account()
    assert float(account.options_buying_power) == pytest.approx(float(account.cash))
    data = OptionHistoricalDataClient(KEYS.key, KEYS.secret, url_override=here.url)
    asked = OptionLatestQuoteRequest(symbol_or_symbols=SHORT)
    quote: Any = data.get_option_latest_quote(asked)[SHORT]
    assert 0 < quote.bid_price < quote.ask_price
    client.submit_order(MarketOrderRequest(legs=legs, **shared))
    before = Decimal(client.get_account().cash)
    here.advance("2024-02-20T21:00:00Z")
    activities = client.get("/account/activities")
    kinds = [a["activity_type"] for a in activities]
    expired = [a for a in activities if a["activity_type"] == "OPEXP"]
    settled = sum(Decimal(a["net_amount"]) for a in expired)
    after = Decimal(client.get_account().cash)
    assert after - before == settled, "what settles in cash is listed with it"
    assert kinds.count("FILL") == 6
    newest_first = [a["symbol"] for a in expired]
    assert newest_first == [LONG, SHORT], "in the same order in every run"
    assert not client.get_all_positions()


def test_spread_sale_and_buyback_are_recorded_as_filled(practice: Start, vix: Path) -> None:
    here = options(practice, vix)
    here.advance(AT)
    _, book = forgotten()
    settings = BrokerSettings(url_override=here.url, read_timeout=5.0)
    desk = AlpacaSpreadAccount(settings, KEYS, underlying=UNDER, book=book)
    prices = []
    for name, back in (("open-1", False), ("close-1", True)):
        desk.submit(put(name, 2, back=back))
        answer = trading(here).get(
            "/orders:by_client_order_id", {"client_order_id": name, "nested": "true"}
        )
        prices.append(float(answer["filled_avg_price"]))  # type: ignore[index, arg-type]
        intent = book.get(name)
        assert intent is not None
        assert (intent.state, intent.progress.state) == ("filled", "filled")
        assert (intent.progress.filled, intent.progress.filled_price) == (2, None)
    credit, debit = prices
    assert credit < 0 < debit


def test_listed_loss_at_expiry_explains_cash_difference(
    practice: Start, vix: Path, tmp_path: Path
) -> None:
    here = options(practice, vix)
    here.advance(AT)
    settings = LiveSettings.from_config(compose_config("live", [f"broker.url_override={here.url}"]))
    connection = AlpacaConnection(settings.broker, KEYS)
    told = Notifier(None, None), KEYS, EstimatedClock(connection)
    account = OpenAccount("account", open_for_test(), tmp_path, *told)
    live = LiveAccount(connection, account, settings, EmptyTradeSource(), StopSignal())
    broker = GuardedBroker(AlpacaBroker(settings.broker, KEYS, book=live.book), live)
    broker.account()
    desk = AlpacaSpreadAccount(settings.broker, KEYS, underlying=UNDER, book=live.book)
    short, long = (OptionContract(UNDER, date(2024, 2, 20), True, Decimal(k)) for k in (285, 290))
    legs = OptionLeg(short, "sell"), OptionLeg(long, "buy")
    assert desk.submit(SpreadOrder("deep", legs, 40)).contracts == 40
    before = connection.cash()
    broker.account()
    here.advance("2024-02-21T15:30:00Z")
    assert before - connection.cash() > 10_000, "far more than may be listed late"
    broker.account()
    live.reconcile()
    assert live.halts.active() == ()


def test_spread_is_sold_once_if_response_is_lost(practice: Start, vix: Path) -> None:
    here = options(practice, vix)
    here.advance(AT)
    mine = spreads(here)
    for number, fault in enumerate(("drop_before", "drop_after", "malformed", "status"), 1):
        here.fail(kind=fault, method="POST", path="/v2/orders", status=504)
        assert mine.submit(put(f"once-{number}")).contracts == 1
        assert len(here.posts) <= 2 * number
        held = here.venue.options.desks[UNDER].option_positions().values()
        assert sum(abs(n) for n in held) == 2 * number


def test_stale_last_trade_is_not_used_as_index(
    practice: Start, vix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A feed that stands still would give strikes of an earlier market."""
    here = practice(f"options.vix={vix}", f"options.symbols=[{UNDER}]", speed=600.0)
    mine = spreads(here)
    began = mine.now()
    while mine.now() < began + np.timedelta64(5, "m"):
        assert mine.index_level() == here.venue.market_price(UNDER)
    still = here.venue.now - np.timedelta64(1, "h")
    trade = {"t": f"{still}Z", "p": 100.0}
    monkeypatch.setattr(
        StockHistoricalDataClient, "get_stock_latest_trade", lambda *request: {UNDER: trade}
    )
    with refused(BrokerError, "SYC"):
        mine.index_level()


def test_refused_spread_orders_alert_once_per_cause(practice: Start, vix: Path) -> None:
    """A refused closing purchase is urgent; an accepted sale does not end its cause."""
    here = options(practice, vix)
    here.advance(AT)
    database = open_for_test()
    events = EventLog(database)
    alerts, notices = Alerts(), Notifier(None, None)
    notices.add_recorder(alerts)
    refusals = RefusalJournal(database, events, notices)
    settings = BrokerSettings(url_override=here.url, read_timeout=5.0)
    book = OrderStore(database, events, refusals)
    mine = AlpacaSpreadAccount(settings, KEYS, underlying=UNDER, time=HURRIED, book=book)
    assert mine.submit(put("sold", 2)).contracts == 2
    refusals.clear_contradicted_causes()
    for number, kind in enumerate(("status", "reject_later") * 3):
        here.fail(kind=kind, status=403, method="POST", path="/v2/orders")
        with pytest.raises(OrderRejected) as refused:
            mine.submit(replace(put(f"back-{number}", back=True), reduces=True))
        assert refused.value.alerted
        assert mine.submit(put(f"sold-{number}")).contracts == 1
        refusals.clear_contradicted_causes()
    assert alerts.kinds == ["refused reduction"] * 2
    assert mine.submit(replace(put("back", back=True), reduces=True)).contracts == 1
    refusals.clear_contradicted_causes()
    assert alerts.kinds == [*["refused reduction"] * 2, *["all clear"] * 2]


def test_option_adapter_reports_quotes_orders_and_closes(practice: Start, vix: Path) -> None:
    here = options(practice, vix)
    here.advance(AT)
    mine = spreads(here)
    assert mine.index_level() == here.venue.market_price(UNDER)
    quotes = mine.quotes([parse_occ_symbol(SHORT), parse_occ_symbol("SYC240220P00001000")])
    assert (
        list(quotes) == [parse_occ_symbol(SHORT)]
        or quotes[parse_occ_symbol("SYC240220P00001000")].bid == 0
    )
    with pytest.raises(OrderNeverSent):
        mine.resume("none", retry_gate=ALLOW_ALL_ORDERS)
    assert mine.submit(put("dear", least="4.90")).contracts == 0
    here.fail(kind="partial")
    assert mine.submit(put("half", 2)).contracts == 1
    here.fail(kind="reject_later")
    with pytest.raises(OrderRejected):
        mine.submit(put("turned-down"))
    assert mine.option_positions() == {parse_occ_symbol(SHORT): -1, parse_occ_symbol(LONG): 1}
    bought = mine.submit(put("back", back=True))
    assert bought.credit < 0
    assert mine.resume("back", retry_gate=ALLOW_ALL_ORDERS) == bought
    assert mine.index_close(date(2024, 2, 20)) is None
    here.advance("2024-02-20T21:00:00Z")
    bars = here.venue.market.bars
    times, values = bars.bars_of_symbol(bars.symbols.index(UNDER))
    assert mine.index_close(date(2024, 2, 20)) == values[times == here.venue.now][0, 3]
    assert not mine.quotes([parse_occ_symbol(SHORT)])


@pytest.mark.slow
def test_spread_trades_over_http_equal_those_without_http(
    practice: Start, vix: Path, tmp_path: Path
) -> None:
    rows = []
    for wired in (True, False):
        here = options(practice, vix, "start=2024-02-15", "end=2024-02-21")
        folder = tmp_path / str(wired)
        desk = here.venue.options.desks[UNDER]
        venue: Any = spreads(here) if wired else DeskVenue(desk)
        words = "rules.entry_minutes=[60,120]", "strategies=[PUT,IRON_CONDOR]"
        seller = seller_of(venue, vix, folder, *words)
        while here.advance()["moved"]:
            seller.step()
        rows.append(parse_trade_rows((folder / "paper" / "trades.csv").read_bytes())[1])
        balance = sum(Decimal(row["P/L_$"]) for row in rows[-1])
        fees = sum(t.filled_contracts * len(t.order.legs) for t in desk.tickets.values()) * Decimal(
            "0.05"
        )
        assert float(balance + fees) == pytest.approx(here.venue.broker.account().cash - 100_000)
    assert len(rows[0]) > 10
    assert rows[0] == rows[1]


def test_spread_seller_sends_no_order_after_the_cutoff(
    practice: Start, vix: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A spread that was not bought back in time stays open, even if the outcome of its last order
    is unknown.
    """
    here = options(practice, vix)
    seller = seller_of(spreads(here), vix, tmp_path, "rules.entry_minutes=[60]")
    here.advance("2024-02-20T15:30:00Z")
    (spread,) = seller.step().spreads
    here.advance("2024-02-20T19:30:00Z")
    here.fail(kind="status", status=503, method="POST", path="/v2/orders", count=9)
    (left,) = seller.step().spreads
    assert (left.exit_reason, left.closing_attempts, left.stage) == ("time", 1, "closing")
    assert "ALERT closing PUT-20240220-060" in caplog.text
    here.clear_faults()
    posts = len(here.posts)
    here.advance("2024-02-20T20:30:00Z")  # 15:30 New York
    for _ in range(3):
        (left,) = seller.step().spreads
    assert len(here.posts) == posts
    assert str(left).endswith("; 1 left to buy back (time)")
    assert (left.trade_id, left.remaining_contracts) == (spread.trade_id, spread.contracts)


def test_spread_seller_resolves_unknown_orders_within_poll_limit(
    practice: Start, vix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = options(practice, vix)
    here.advance("2024-02-20T15:30:00Z")
    AccountFiles(tmp_path / "paper", 20_000.0).initialise()
    submit = AlpacaSpreadAccount.submit

    def unheard(self: AlpacaSpreadAccount, order: SpreadOrder, gate: OrderGate) -> SpreadFill:
        submit(self, order, gate)
        raise OutcomeUnknown("silence")

    monkeypatch.setattr(AlpacaSpreadAccount, "submit", unheard)
    words = [f"vix={vix}", *SOLD, f"broker.url_override={here.url}", "rules.entry_minutes=[60]"]
    folders = [f"AUTOSCALING_DATA_DIR={tmp_path}", f"folder={tmp_path / 'live'}"]
    sell_spreads([*words, *folders, "polls=1"], KEYS)
    assert len(here.posts) == 1
    assert [each.stage for each in read_state(tmp_path / "paper").spreads] == ["open"]
    # No other job marks the account, and losses have to halt it.
    [journal] = (tmp_path / "live").glob("*/journal.sqlite")
    [(equity,)] = database_rows(journal, "SELECT equity FROM marks")
    assert equity > 0
    assert "has marked the account yet" not in (journal.parent / "status.html").read_text()


@pytest.mark.parametrize(
    ("wrong", "facts"),
    [
        ("broker.paper=false", ("paper",)),
        ("rules.exit_minute=null", ()),
        ("rules.entry_minutes=[30,300,330]", ("300", "330")),
        ("poll_interval=3600", ("284",)),
        ("cutoff=100", ("exit_minute", "300")),
        ("HEALTHCHECK_URL=ftp://token", ("HEALTHCHECK_URL",)),
    ],
)
def test_error_about_spread_seller_settings_hides_urls(wrong: str, facts: tuple[str, ...]) -> None:
    with refused(InputError, *facts) as caught:
        selling(wrong)
    assert "token" not in str(caught.value)


@pytest.mark.first_example
@pytest.mark.parametrize("flatten", [False, True])
def test_kill_command_ends_a_standalone_seller(
    practice: Start, vix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flatten: bool
) -> None:
    """Accounts of earlier practice servers lie in the same folder."""
    here = options(practice, vix, f"symbols=[{UNDER}]")
    here.advance("2024-02-20T15:30:00Z")
    account = here.venue.record.account_id
    folder = tmp_path / "data" / "live" / account
    for name in ("earlier", "another"):
        open_for_test(folder.parent / name / JOURNAL_FILE).execute("CREATE TABLE x (y)")
    words = [f"vix={vix}", *SOLD, "rules.entry_minutes=[60]", f"broker.url_override={here.url}"]
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    AccountFiles(tmp_path / "data" / "autoscaling" / "paper", 20_000.0).initialise()
    env = environment(tmp_path, **state)
    seller = Started(["-m", "option_spreads.sell", *words], cwd=tmp_path, env=env)
    seller.wait_for_output(text=" sold at ")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", state["XDG_STATE_HOME"])
    killed = operate(
        parse_arguments(["kill", "--account", account, *(["--flatten"] if flatten else [])])[0]
    )
    assert killed is not None
    assert "the loop stops. Remove the file" in killed.closing_lines[0]
    ended = seller.wait()
    assert (ended.returncode, ended.stderr) == (0, "")
    done = "all our positions were closed" if flatten else "positions are unchanged"
    said = f"Stopped (the kill file exists): open orders were cancelled, {done}.\n"
    assert said in ended.stdout
    assert bool(here.venue.options.desks[UNDER].option_positions()) is not flatten
    log = EventLog(open_for_test(folder / JOURNAL_FILE))
    found = [event.kind for event in log.events("spreads")]
    assert [kind for kind in found if kind != HELD_POSITIONS_EVENT] == ["stopped"]
    shown = operate(parse_arguments(["status", "--account", account])[0])
    assert shown is not None
    lines = map(str, (*shown.tables, *shown.closing_lines))
    held = [line for line in lines if line.startswith("open position: ")]
    assert held == [f"open position: {line}" for line in log.last_reported_positions("spreads")]
    assert bool(held) is not flatten
    AccountFiles(tmp_path / "again" / "paper", 20_000.0).initialise()
    folders = [f"AUTOSCALING_DATA_DIR={tmp_path / 'again'}", f"folder={folder.parent}"]
    with refused(InputError, "KILL"):
        sell_spreads([*words, *folders], KEYS)
