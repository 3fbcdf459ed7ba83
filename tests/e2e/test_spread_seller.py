"""The seller of spreads: it does what the backtest does, loses nothing when it is killed, and
sends nothing it should not.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from execution.option_orders import Contract, NeverSent, Quote, SpreadFill, SpreadOrder, SpreadVenue
from foundation.errors import BrokerError, OrderRejected, OutcomeUnknown
from foundation.notices import Notices
from option_spreads.autoscaler.account import UnknownState
from option_spreads.autoscaler.rules import AutoscalingSettings
from option_spreads.autoscaler.trades import Row, rows_of
from option_spreads.selling.rules import NEAR_STRIKE, SpreadCosts, SpreadRules
from option_spreads.selling.seller import SpreadSeller
from option_spreads.selling.state import FILE, OpenSpread, SellerState, read_state, write_state
from option_spreads.simulation.path import index_days
from option_spreads.simulation.spread_report import trade_table
from tests.e2e.selling import COSTS, SMILE, InFront, Practising, practising_seller, synthetic
from tests.option_spreads.sold import sold
from trainingdata.instants import new_york_date

HELD: dict[str, Any] = {"stop_usd": None, "stop_multiple": None, "target": None, "trail_from": None}
TOLD = ("Timestamp_ET", "Strategy", "Strikes", "Position_Size", "Exit_Time", "P/L_$", "Exit_Reason")


def told(rows: Iterable[Row]) -> list[tuple[str, ...]]:
    return sorted(tuple(row[name] for name in TOLD) for row in rows)


def booked(here: Practising) -> list[Row]:
    return rows_of((here.folder / "trades.csv").read_bytes())[1]


def test_the_seller_books_what_the_backtest_says(tmp_path: Path) -> None:
    """The promise: the backtest is the live system, also for spreads."""
    here = practising_seller(tmp_path, 12, 3, "PUT")
    seller = here.seller()
    for _ in here.market.points():
        here.desk.advance()
        seller.step()
    trades = sold(
        here.market.days, here.settings.strategy_rules, COSTS, SMILE, here.settings.sizing
    )
    _, theirs = rows_of(trade_table(trades, here.market.days).encode())
    assert len(theirs) > 20
    assert told(booked(here)) == told(theirs)
    assert all(
        "deviations" in row["Entry_Reason"] and "at risk" in row["Entry_Reason"]
        for row in booked(here)
    )
    balances = [Decimal(row["Account_Balance"]) for row in booked(here)]
    assert balances[0] == 20_000
    assert len(set(balances)) > 10, "each has the balance that it was sized from"
    assert all(
        f"balance ${balance:,.2f}".removesuffix(".00") in row["Entry_Reason"]
        for balance, row in zip(balances, booked(here), strict=True)
    )
    assert not here.desk.held()


def test_later_bars_change_no_earlier_trade() -> None:
    (bars, vix), (others, _) = synthetic(12, 3), synthetic(12, 4)
    half = len(bars.times) // 2
    scrambled = replace(
        bars, values=np.concatenate([bars.values[:, :half], others.values[:, half:]], axis=1)
    )
    day = new_york_date(bars.times[half : half + 1])[0]
    trades = []
    later = []
    for panel in (bars, scrambled):
        days = index_days(panel, "SPY", vix, 10.0)
        done = sold(
            days, [SpreadRules(strategy="IRON_CONDOR")], COSTS, SMILE, AutoscalingSettings()
        )
        trades.append([trade for trade in done if days.dates[trade.day] < day])
        later.append([trade for trade in done if days.dates[trade.day] >= day])
    assert len(trades[0]) > 5
    assert trades[0] == trades[1]
    assert later[0] != later[1]


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Perilous:
    """A venue at which the process is killed, or the answer lost, at random: before or after
    what is asked is done.
    """

    venue: SpreadVenue
    rng: np.random.Generator
    danger: float
    lost: float

    def _through(self, ask: Callable[[], Any]) -> Any:
        self._die()
        answer = ask()
        self._die()
        return answer

    def _die(self) -> None:
        if self.rng.random() < self.danger:
            raise Killed
        if self.rng.random() < self.lost:
            raise BrokerError("no answer")

    def now(self) -> np.datetime64:
        return self.venue.now()

    def index(self) -> float:
        return float(self._through(self.venue.index))

    def close_of(self, day: date) -> float | None:
        found: float | None = self._through(lambda: self.venue.close_of(day))
        return found

    def quotes(self, contracts: Iterable[Contract]) -> dict[Contract, Quote]:
        found: dict[Contract, Quote] = self._through(lambda: self.venue.quotes(contracts))
        return found

    def submit(self, order: SpreadOrder) -> SpreadFill:
        self._die()
        fill = self.venue.submit(order)
        if self.rng.random() < self.danger:
            raise Killed
        if self.rng.random() < self.lost:
            raise OutcomeUnknown("the answer is lost")
        return fill

    def resume(self, client_order_id: str, *, again: bool) -> SpreadFill:
        fill: SpreadFill = self._through(lambda: self.venue.resume(client_order_id, again=again))
        return fill

    def buying_power(self) -> Decimal | None:
        found: Decimal | None = self._through(self.venue.buying_power)
        return found

    def held(self) -> dict[Contract, int]:
        found: dict[Contract, int] = self._through(self.venue.held)
        return found


@pytest.mark.parametrize("seed", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 2, 3))])
def test_killed_anywhere_it_goes_on_and_every_dollar_of_the_venue_is_booked_once(
    tmp_path: Path, seed: int
) -> None:
    here = practising_seller(tmp_path, 8, seed, "PUT", "IRON_CONDOR")
    flows: list[Decimal] = []
    here.desk._cash_flow = flows.append
    rng = np.random.default_rng(seed)
    killed = 0
    perilous = Perilous(here.venue, rng, danger=0.02, lost=0.02)
    seller = SpreadSeller(perilous, here.settings, lambda: here.vix, here.notices)
    for _ in here.market.points():
        here.desk.advance()
        try:
            seller.step()
        except BrokerError:
            continue
        except Killed:
            killed += 1
            seller = SpreadSeller(perilous, here.settings, lambda: here.vix, Notices(None, None))
    perilous.danger = perilous.lost = 0.0
    assert not seller.step().spreads
    rows = booked(here)
    opened = {name: t for name, t in here.desk.tickets.items() if t.filled and ".close" not in name}
    assert killed > 5
    assert len(rows) > 7
    assert sorted(row["Trade_ID"] for row in rows) == sorted(opened)
    orders = sum(t.filled * len(t.order.legs) for t in here.desk.tickets.values())
    fees = orders * (Decimal(str(COSTS.commission)) + Decimal(str(COSTS.fee)))
    assert sum(flows) - fees == sum(Decimal(row["P/L_$"]) for row in rows)
    assert here.desk.reserved == 0


def _to(here: Practising, day: int, minute: int) -> None:
    here.market.at = day, int(np.searchsorted(here.market.days.minutes, minute))
    here.desk.advance()


def opened(
    folder: Path, *, days: int = 3, settings: dict[str, Any] | None = None, **more: Any
) -> tuple[Practising, SpreadSeller, OpenSpread]:
    """A seller with one spread, sold at 10:00."""
    here = practising_seller(folder, days, 0, "PUT", entries=(30,), **more)
    here.settings = replace(here.settings, **(settings or {}))
    seller = here.seller()
    _to(here, 0, 30)
    (spread,) = seller.step().spreads
    return here, seller, spread


def test_half_of_an_order_is_half_a_spread_and_the_rest_is_bought_back_later(
    tmp_path: Path,
) -> None:
    here = practising_seller(
        tmp_path, 3, 0, "PUT", entries=(30,), sizing={"BOOTSTRAP_MODE": "prior"}
    )

    class Halves(InFront):
        def submit(self, order: SpreadOrder) -> SpreadFill:
            return here.desk.send(order, partial=order.contracts > 1).fill

    _to(here, 0, 30)
    seller = here.seller(Halves(here))
    (spread,) = seller.step().spreads
    assert (spread.contracts, sum(abs(n) for n in here.desk.held().values())) == (1, 2)
    write_state(here.folder, SellerState((replace(spread, why="stop"),), ("PUT-20240402-030",)))
    _to(here, 0, 40)
    assert not seller.step().spreads
    assert [row["Exit_Reason"] for row in booked(here)] == ["stop"]


def test_what_cannot_be_bought_back_is_tried_again_until_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = practising_seller(tmp_path, 3, 0, "PUT", entries=(30,))

    class Shut(InFront):
        open = True

        def submit(self, order: SpreadOrder) -> SpreadFill:
            if not self.open:
                raise OrderRejected("halted")
            return here.venue.submit(order)

    venue = Shut(here)
    seller = here.seller(venue)
    _to(here, 0, 30)
    (spread,) = seller.step().spreads
    write_state(here.folder, SellerState((replace(spread, why="stop"),), ("PUT-20240402-030",)))
    venue.open = False
    for minute in (35, 40, 45):
        _to(here, 0, minute)
        assert seller.step().spreads[0].stage == "open"
    assert sum("ALERT" in record.message for record in caplog.records) == 1
    venue.open = True
    _to(here, 0, 50)
    assert not seller.step().spreads
    assert [row["Exit_Reason"] for row in booked(here)] == ["stop"]


def unsafe_account(here: Practising) -> None:
    (here.folder / "account_balance.json").write_text('{"balance": 2e')


def unsafe_trades(here: Practising) -> None:
    with (here.folder / "trades.csv").open("a") as stream:
        stream.write("x,y,PUT,,,nan,,nan,\n")


def unsafe_volatility(here: Practising) -> None:
    here.vix = here.vix.iloc[:0]


def unsafe_position(here: Practising) -> None:
    here.desk.positions[Contract("SPXW", date(2024, 4, 2), True, Decimal(6000))] = 1


def unsafe_balance(here: Practising) -> None:
    here.settings = replace(
        here.settings, sizing=replace(here.settings.sizing, STARTING_CAPITAL=50_000.0)
    )


@pytest.mark.parametrize(
    "unsafe", [unsafe_account, unsafe_trades, unsafe_volatility, unsafe_position, unsafe_balance]
)
def test_on_unknown_state_and_in_a_halt_nothing_is_sold_and_somebody_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, unsafe: Callable[[Practising], None]
) -> None:
    """Unknown state stops trading; it does not begin anew."""
    here = practising_seller(tmp_path, 3, 0, "PUT", entries=(30,))
    _to(here, 0, 30)
    unsafe(here)
    seller = here.seller()
    with caplog.at_level(logging.ERROR):
        assert not seller.step().spreads
    assert not here.desk.tickets
    assert any("ALERT" in record.message for record in caplog.records)


@pytest.mark.parametrize("broken", ["account_balance.json", "trades.csv", ".update.json"])
def test_a_trade_that_closes_while_the_account_is_unknown_is_booked_once_it_is_known(
    tmp_path: Path, broken: str
) -> None:
    here, *_ = opened(tmp_path, days=4, **HELD)
    path = here.folder / broken
    before = path.read_text() if path.exists() else None
    path.write_text("x" * 40)
    for minute in (0, 5, 10):
        _to(here, 1, minute)
        here.seller().step()
    if broken != "account_balance.json":  # that one is rebuilt from the trades by whoever finds it
        assert read_state(here.folder).spreads
        path.unlink() if before is None else path.write_text(before)
    _to(here, 1, 15)
    assert not here.seller().step().spreads
    assert [row["Trade_ID"] for row in booked(here)] == ["PUT-20240402-030"]


def torn(whole: str) -> str:
    return whole[:-20]


def test_before_the_first_step_a_file_that_cannot_be_read_stops_everything(
    tmp_path: Path,
) -> None:
    here, *_ = opened(tmp_path)
    broken = torn((here.folder / FILE).read_text())
    (here.folder / FILE).write_text(broken)
    _to(here, 0, 120)
    with pytest.raises(UnknownState):
        here.seller().step()
    assert (here.folder / FILE).read_text() == broken
    assert len(here.desk.tickets) == 1


@pytest.mark.parametrize("a_file", [True, False])
def test_a_file_that_becomes_unreadable_is_kept_and_what_is_open_is_followed(
    tmp_path: Path, a_file: bool, caplog: pytest.LogCaptureFixture
) -> None:
    here = practising_seller(tmp_path, 3, 0, "PUT", entries=(30, 60), **HELD)
    seller = here.seller()
    _to(here, 0, 30)
    (spread,) = seller.step().spreads
    path = here.folder / FILE
    broken = torn(path.read_text())
    path.write_text(broken)
    if not a_file:
        path.unlink()
        path.mkdir()
    _to(here, 0, 60)
    assert seller.step().spreads[0].trade_id == spread.trade_id
    assert "ALERT open_spreads" in caplog.text
    assert len(here.desk.tickets) == 1, "the entry that is due is not sold on unknown state"
    (aside,) = here.folder.glob(f"{FILE}.aside-*")
    assert aside.is_dir() or aside.read_text() == broken
    write_state(here.folder, SellerState((replace(spread, why="stop"),)))
    _to(here, 0, 90)
    assert not seller.step().spreads
    assert [row["Exit_Reason"] for row in booked(here)] == ["stop"]


def test_an_order_of_unknown_fate_is_closed_under_one_id_and_blocks_what_shares_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No second closing order goes out before the venue has ended the first."""
    here = practising_seller(tmp_path, 3, 0, "PUT", entries=(30, 60))

    sent: list[str] = []

    class Silent(InFront):
        silent = False

        def submit(self, order: SpreadOrder) -> SpreadFill:
            sent.append(order.client_order_id)
            if self.silent:
                raise OutcomeUnknown("silence")
            return here.venue.submit(order)

        def resume(self, client_order_id: str, *, again: bool) -> SpreadFill:
            if self.silent:
                raise OutcomeUnknown("the venue does not say what became of it")
            try:
                return here.venue.resume(client_order_id, again=again)
            except NeverSent:
                raise OrderRejected("it never reached the venue") from None

    venue = Silent(here)
    seller = here.seller(venue)
    _to(here, 0, 30)
    (spread,) = seller.step().spreads
    write_state(here.folder, SellerState((replace(spread, why="stop"),), ("PUT-20240402-030",)))
    venue.silent = True
    for minute in (35, 40, 45):
        _to(here, 0, minute)
        (following,) = seller.step().spreads
        assert (following.stage, following.attempts) == ("closing", 1)
    assert sent == ["PUT-20240402-030", "PUT-20240402-030.close1"]
    assert "the venue does not say what became of it" in caplog.text or "silence" in caplog.text
    venue.silent = False
    _to(here, 0, 50)
    assert not seller.step().spreads
    assert sent[2:] == ["PUT-20240402-030.close2"], "the first never reached the venue"
    assert not any(here.desk.held().values())


@pytest.mark.parametrize(("power", "sold"), [(499, 0), (500, 1), (None, 3), (10_000, 3)])
def test_no_more_is_sold_than_the_venues_buying_power_covers(
    tmp_path: Path, power: int | None, sold: int, caplog: pytest.LogCaptureFixture
) -> None:
    here = practising_seller(
        tmp_path, 3, 0, "PUT", entries=(30,), sizing={"BOOTSTRAP_MODE": "prior"}
    )

    class Limited(InFront):
        def buying_power(self) -> Decimal | None:
            return None if power is None else Decimal(power)

    _to(here, 0, 30)
    spreads = here.seller(Limited(here)).step().spreads
    assert sum(spread.contracts for spread in spreads) == sold
    assert ("ALERT buying_power" in caplog.text) is (sold == 0)


def test_an_opening_of_unknown_fate_keeps_no_stop_of_another_spread_from_being_seen(
    tmp_path: Path,
) -> None:
    """It may have traded or not: what is certain is bought back all the same."""
    here = practising_seller(tmp_path, 3, 0, "PUT", entries=(30,), **HELD)

    class Silent(InFront):
        def resume(self, client_order_id: str, *, again: bool) -> SpreadFill:
            if client_order_id == "late":
                raise OutcomeUnknown("silence")
            return here.venue.resume(client_order_id, again=again)

    seller = here.seller(Silent(here))
    _to(here, 0, 30)
    (spread,) = seller.step().spreads
    late = replace(spread, trade_id="late", stage="opening")
    write_state(here.folder, SellerState((late, replace(spread, why="stop"))))
    _to(here, 0, 65)
    (remaining,) = seller.step().spreads
    assert remaining.trade_id == "late"
    assert [row["Trade_ID"] for row in booked(here)] == [spread.trade_id]


def test_a_file_that_is_gone_is_not_nothing_open(tmp_path: Path) -> None:
    here, seller, spread = opened(tmp_path, **HELD)
    (here.folder / FILE).unlink()
    _to(here, 0, 60)
    assert (
        seller.step().spreads == (spread,) or seller.step().spreads[0].trade_id == spread.trade_id
    )
    (here.folder / f"{FILE}.aside-0").write_text("x")
    (here.folder / FILE).unlink()
    with pytest.raises(UnknownState, match="is gone; compare the venue's positions"):
        here.seller().step()


def test_holdings_are_compared_with_the_file_at_every_step(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here, seller, _ = opened(tmp_path, **HELD)
    _to(here, 0, 100)
    seller.step()
    assert "ALERT positions" not in caplog.text
    option = Contract("SPXW", date(2024, 4, 2), True, Decimal(6000))
    here.desk.positions[option] = -1
    _to(here, 0, 105)
    seller.step()
    seller.step()
    assert caplog.text.count("ALERT positions") == 1
    assert option.symbol in caplog.text


ONE = OpenSpread(
    "PUT-20240402-030",
    "PUT",
    ("SPXW240402P04980000", "SPXW240402P04975000"),
    "open",
    2,
    Decimal("1.25"),
    "2024-04-02 10:00",
    Decimal("1.45"),
    balance=Decimal("20000.50"),
)


def test_an_open_spread_keeps_the_balance_it_was_sized_from_and_may_be_without_one(
    tmp_path: Path,
) -> None:
    write_state(tmp_path, SellerState((ONE,)))
    assert read_state(tmp_path).spreads == (ONE,)
    columns = ONE.closed_trade(SpreadCosts(), "2024-04-02 16:00", Decimal(0)).row()
    assert columns["Account_Balance"] == "20000.50"
    content = json.loads((tmp_path / FILE).read_text())
    del content["spreads"][0]["balance"]
    (tmp_path / FILE).write_text(json.dumps(content), "utf-8-sig")
    (earlier,) = read_state(tmp_path).spreads
    assert earlier == replace(ONE, balance=None)
    assert "Account_Balance" not in earlier.closed_trade(SpreadCosts(), "x", Decimal(0)).row()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("credit", "1_0.25"),
        ("credit", "１.25"),
        ("asked", "1_0"),
        ("paid", "NaN"),
        ("balance", "20_000"),
        ("contracts", "2"),
        ("contracts", "1_0"),
        ("contracts", True),
        ("best", "1_0"),
    ],
)
def test_a_number_of_an_open_spread_is_in_plain_digits(
    tmp_path: Path, field: str, value: object
) -> None:
    write_state(tmp_path, SellerState((ONE,)))
    content = json.loads((tmp_path / FILE).read_text())
    content["spreads"][0][field] = value
    (tmp_path / FILE).write_text(json.dumps(content))
    with pytest.raises(UnknownState, match=f"spreads.0.{field}"):
        read_state(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        torn,
        lambda whole: "[]",
        lambda whole: "{}x",
        lambda whole: whole.replace("P0", "Q0", 1),
        lambda whole: whole.replace('"best"', '"bset"'),
        lambda whole: whole.replace('"contracts": 2', '"contracts": 0'),
        lambda whole: whole.replace('"credit": "1.25"', '"credit": "1e9999999"'),
    ],
)
def test_a_file_of_open_spreads_that_is_no_such_file_is_refused(
    tmp_path: Path, damage: Callable[[str], str]
) -> None:
    write_state(tmp_path, SellerState((ONE,)))
    whole = (tmp_path / FILE).read_text()
    assert damage(whole) != whole
    (tmp_path / FILE).write_text(damage(whole))
    with pytest.raises(UnknownState):
        read_state(tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_file_of_open_spreads_that_is_tampered_with_is_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    write_state(folder, SellerState((ONE,), ("PUT-20240402-030",)))
    text = (folder / FILE).read_text()
    where = data.draw(st.integers(0, len(text) - 1))
    what = data.draw(st.text(max_size=3))
    (folder / FILE).write_text(text[:where] + what + text[where + 1 :])
    try:
        read = read_state(folder)
    except UnknownState:
        return
    assert all(spread.contracts >= 1 and spread.spread.width > 0 for spread in read.spreads)


def test_an_expired_spread_is_booked_at_the_close_of_its_day_however_late(tmp_path: Path) -> None:
    here, _, spread = opened(tmp_path, days=4, **HELD)
    _to(here, 2, 60)
    assert not here.seller().step().spreads
    (row,) = booked(here)
    owed = spread.spread.settles_at(here.market.closes[date(2024, 4, 2)])
    fees = 2 * (COSTS.commission + COSTS.fee)
    assert float(row["P/L_$"]) == pytest.approx(
        (float(spread.credit) - owed) * 100 - fees, abs=0.01
    )
    assert row["Exit_Time"] == "2024-04-02 16:00"


def test_while_the_close_of_an_expired_spread_is_unknown_nothing_is_sold_and_somebody_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here, seller, spread = opened(tmp_path, days=4, **HELD)
    known = dict(here.market.closes)
    unknown: Any = dict.fromkeys([date(2024, 4, 2)])
    here.market.closes.update(unknown)
    closed = np.datetime64("2024-04-02T20:00", "ns")
    for minutes, alerts in ((0, 0), (29, 0), (30, 1), (60, 1)):
        clock: Any = lambda m=minutes: closed + np.timedelta64(m, "m")  # noqa: E731
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(here.market, "now", clock)
            assert seller.step().spreads[0].trade_id == spread.trade_id
        assert caplog.text.count(f"ALERT settling {spread.trade_id}") == alerts
    _to(here, 2, 30)
    assert [each.trade_id for each in seller.step().spreads] == [spread.trade_id]
    assert list(here.desk.tickets) == [spread.trade_id], "the entry that is due is not sold"
    here.market.closes = known
    assert spread.trade_id not in [each.trade_id for each in seller.step().spreads]
    assert [row["Trade_ID"] for row in booked(here)] == [spread.trade_id]
    assert f"settling {spread.trade_id}" not in here.notices._raised
    assert len(here.desk.tickets) == 2


@dataclass
class Dying(InFront):
    """A venue at which the process ends as it sends an order; it may have turned that down."""

    turned_down: bool = False

    def submit(self, order: SpreadOrder) -> SpreadFill:
        if self.turned_down:
            self.here.desk.send(order, rejected=True)
        raise Killed


@pytest.mark.parametrize("begun", [False, True])
def test_an_entry_is_lost_to_no_kill_before_its_order_could_leave(
    tmp_path: Path, begun: bool
) -> None:
    """Begun and refused, it was dealt with."""
    here = practising_seller(tmp_path, 3, 0, "PUT", entries=(33,))
    _to(here, 0, 35)
    with pytest.raises(Killed):
        here.seller(Dying(here, begun)).step()
    assert [each.stage for each in read_state(here.folder).spreads] == ["opening"]
    state = here.seller().step()
    assert [each.stage for each in state.spreads] == ([] if begun else ["open"])
    assert len(state.tried) == 1
    assert len(here.desk.tickets) == 1


def test_a_closing_order_that_could_not_leave_is_sent_under_its_own_id(tmp_path: Path) -> None:
    here = practising_seller(tmp_path, 3, 0, "PUT", entries=(33,), **HELD)
    _to(here, 0, 35)
    here.seller().step()
    seller = here.seller(Dying(here))
    seller.leaving = True
    with pytest.raises(Killed):
        seller.step()
    (spread,) = read_state(here.folder).spreads
    assert (spread.stage, spread.attempts) == ("closing", 1)
    again = here.seller()
    again.leaving = True
    assert again.step().spreads == ()
    assert [name for name in here.desk.tickets if ".close" in name] == [spread.order_id]


def test_told_to_leave_it_buys_everything_back_and_sells_nothing(tmp_path: Path) -> None:
    here = practising_seller(tmp_path, 3, 0, "PUT", entries=(33, 63), **HELD)
    seller = here.seller()
    _to(here, 0, 35)
    assert len(seller.step().spreads) == 1
    _to(here, 0, 65)
    seller.leaving = True
    assert seller.step().spreads == ()
    assert not here.desk.held()
    (row,) = booked(here)
    assert row["Exit_Reason"] == "flattened"


def test_an_order_that_a_look_left_working_is_ended_and_none_is_sent(tmp_path: Path) -> None:
    here = practising_seller(tmp_path, 3, 0, "PUT", entries=(30,))
    asked: list[bool] = []

    class Resting(InFront):
        def submit(self, order: SpreadOrder) -> SpreadFill:
            here.desk.send(replace(order, least_credit=Decimal("4.99")))
            raise BrokerError("no answer")

        def resume(self, client_order_id: str, *, again: bool) -> SpreadFill:
            asked.append(again)
            return here.venue.resume(client_order_id, again=again)

    _to(here, 0, 30)
    seller = here.seller(Resting(here))
    with pytest.raises(BrokerError):
        seller.step()
    assert [each.stage for each in seller.spreads] == ["opening"]
    seller.end_orders()
    assert seller.spreads == read_state(here.folder).spreads == ()
    assert [ticket.status for ticket in here.desk.tickets.values()] == ["canceled"]
    assert asked == [False]


@pytest.mark.parametrize("strategies", [("PUT", "CALL"), ("PUT",)])
def test_after_an_order_of_unknown_fate_no_other_entry_is_sold_in_the_same_step(
    tmp_path: Path, strategies: tuple[str, ...]
) -> None:
    here = practising_seller(tmp_path, 3, 0, *strategies, entries=(31, 33))
    sent: list[str] = []

    class Silent(InFront):
        def submit(self, order: SpreadOrder) -> SpreadFill:
            sent.append(order.client_order_id)
            raise OutcomeUnknown("silence")

    _to(here, 0, 35)
    (spread,) = here.seller(Silent(here)).step().spreads
    assert spread.stage == "opening"
    assert sent == [spread.trade_id]


@dataclass
class Swallowing(InFront):
    """A gateway that says nothing of closing orders and gives the venue none, while it is down."""

    down: bool = True
    posts: int = 0

    def submit(self, order: SpreadOrder) -> SpreadFill:
        if order.least_credit is None and self.down:
            self.meant = order
            raise OutcomeUnknown("502")
        return self.here.venue.submit(order)

    def resume(self, client_order_id: str, *, again: bool) -> SpreadFill:
        if not again:
            raise OutcomeUnknown(f"{client_order_id}: the venue does not say what became of it")
        self.posts += 1
        return self.here.venue.submit(self.meant)


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_closing_order_is_asked_for_again_while_its_options_are_held_and_never_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, by_hand: bool
) -> None:
    """What was bought back by hand meanwhile would be bought again, and nobody would follow it."""
    here = practising_seller(tmp_path, 3, 0, "PUT", entries=(30,))
    gateway = Swallowing(here)
    seller = here.seller(gateway)
    _to(here, 0, 30)
    (spread,) = seller.step().spreads
    write_state(here.folder, SellerState((replace(spread, why="stop"),), ("PUT-20240402-030",)))
    _to(here, 0, 35)
    assert [each.stage for each in seller.step().spreads] == ["closing"]
    if by_hand:
        here.desk.positions.clear()
    _to(here, 0, 95)
    left = seller.step().spreads
    assert gateway.posts == (not by_hand)
    assert not any(here.desk.held().values())
    assert [each.stage for each in left] == (["closing"] if by_hand else [])
    assert ("not sent again" in caplog.text) is by_hand
    unknown = f"closing {spread.trade_id}: {spread.trade_id}.close1: the venue does not say"
    assert (f"still {unknown} what became of it" in caplog.text) is by_hand


@dataclass
class Blind(InFront):
    """A venue without quotes: it has none of an option, or does not answer."""

    silent: bool

    def quotes(self, contracts: Iterable[Contract]) -> dict[Contract, Quote]:
        if self.silent:
            raise BrokerError("the quotes: no answer")
        return {}


@pytest.mark.parametrize("silent", [False, True])
def test_what_has_to_be_gone_before_the_close_is_bought_back_without_a_quote(
    tmp_path: Path, silent: bool
) -> None:
    here, *_ = opened(tmp_path, **{**HELD, "leave_at": 350})
    seller = here.seller(Blind(here, silent))
    _to(here, 0, 345)
    if silent:
        with pytest.raises(BrokerError):
            seller.step()
    else:
        seller.step()
    assert len(here.desk.tickets) == 1
    _to(here, 0, 350)
    assert not seller.step().spreads
    assert [row["Exit_Reason"] for row in booked(here)] == ["time"]


def test_shares_that_change_hands_are_no_settlement_in_cash(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here, seller, spread = opened(
        tmp_path, days=4, settings=dict(delivers=True), **HELD, leave_at=389
    )
    short, long = spread.spread.legs
    closed = date(2024, 4, 2)
    middle = (short.strike + long.strike) / 2
    for between in (middle, short.strike - 0.01, short.strike + 0.01, long.strike - 0.01):
        here.market.closes[closed] = between
        _to(here, 1, 60)
        assert [each.trade_id for each in seller.step().spreads] == [spread.trade_id]
    assert caplog.text.count(f"ALERT settling {spread.trade_id}") == 1
    assert "shares change hands" in caplog.text
    assert list(here.desk.tickets) == [spread.trade_id], "the entries that are due are not sold"
    near = NEAR_STRIKE * short.strike + 0.1
    for outside in (short.strike + near, long.strike - near):
        assert not spread.spread.delivers_at(outside)
    for index, points in ((short.strike + near, 0.0), (short.strike - 1.63, 1.63)):
        assert round(spread.spread.settles_at(index), 2) == points
    here.market.closes[closed] = long.strike - near
    seller.step()
    assert [row["Exit_Reason"] for row in booked(here)] == ["settled"]


def test_an_exit_that_cannot_be_made_is_told_beside_any_other_alert(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here, seller, spread = opened(tmp_path, **HELD)
    here.desk.positions[Contract("SPXW", date(2024, 4, 2), True, Decimal(6000))] = -1
    _to(here, 0, 65)
    seller.step()
    assert "ALERT positions" in caplog.text
    write_state(here.folder, SellerState((replace(spread, why="stop"),), ("PUT-20240402-030",)))
    del here.desk.positions[spread.options[1]]
    for minute in (70, 75):
        _to(here, 0, minute)
        seller.step()
    assert caplog.text.count(f"ALERT leaving {spread.trade_id}") == 1
    assert "still positions" in caplog.text


@dataclass
class Unquoted(InFront):
    """A venue that has no sound quotes of puts or calls."""

    without: set[bool]

    def quotes(self, contracts: Iterable[Contract]) -> dict[Contract, Quote]:
        requested = list(contracts)
        for each in requested:
            if each.call in self.without:
                raise BrokerError(f"the quote of {'a call' if each.call else 'a put'} is nonsense")
        return self.here.venue.quotes(requested)


def test_the_trouble_of_each_spread_is_told_until_it_was_looked_after(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = practising_seller(tmp_path, 3, 0, "PUT", "CALL", entries=(30,), **HELD)
    quotes = Unquoted(here, set())
    seller = here.seller(quotes)
    _to(here, 0, 30)
    assert len(seller.step().spreads) == 2
    put = "ALERT step PUT-20240402-030: the quote of a put is nonsense"
    call = "ALERT step CALL-20240402-030: the quote of a call is nonsense"
    told_of = ((False,), (1, 0)), ((False, True), (1, 1)), ((True,), (1, 1)), ((False,), (2, 1))
    _to(here, 0, 35)
    for without, (puts, calls) in told_of:
        quotes.without = set(without)
        with pytest.raises(BrokerError):
            seller.step()
        assert (caplog.text.count(put), caplog.text.count(call)) == (puts, calls)
    quotes.without = set()
    _to(here, 0, 40)
    seller.step()
    assert not any(kind.startswith("step") for kind in here.notices._raised)


def test_with_trouble_of_a_spread_holdings_are_compared_and_nothing_is_sold(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = practising_seller(tmp_path, 3, 0, "CALL", "PUT", entries=(30, 60), **HELD)
    quotes = Unquoted(here, set())
    seller = here.seller(quotes)
    _to(here, 0, 30)
    assert len(seller.step().spreads) == 2
    quotes.without = {False}
    _to(here, 0, 60)
    with pytest.raises(BrokerError, match="a put"):
        seller.step()
    assert len(here.desk.tickets) == 2
    assert "ALERT positions" not in caplog.text
    option = Contract("SPXW", date(2024, 4, 2), True, Decimal(6000))
    here.desk.positions[option] = -1
    with pytest.raises(BrokerError, match="a put"):
        seller.step()
    assert "ALERT positions" in caplog.text
    assert option.symbol in caplog.text

    def silent() -> dict[Contract, int]:
        raise BrokerError("no answer to what is held")

    here.desk.held = silent  # type: ignore[method-assign]
    with pytest.raises(BrokerError, match="a put"):
        seller.step()
    assert "ALERT step holdings: no answer to what is held" in caplog.text
    assert len(here.desk.tickets) == 2


@pytest.mark.slow
def test_options_that_deliver_shares_are_bought_back_before_the_close(tmp_path: Path) -> None:
    here = practising_seller(tmp_path, 3, 0, "PUT", entries=(30,), leave_at=380, **HELD)
    seller = here.seller()
    for _ in here.market.points():
        here.desk.advance()
        seller.step()
    rows = booked(here)
    assert {(row["Exit_Reason"], row["Exit_Time"][-5:]) for row in rows} == {("time", "15:50")}
    trades = sold(
        here.market.days, here.settings.strategy_rules, COSTS, SMILE, here.settings.sizing
    )
    assert told(rows) == told(rows_of(trade_table(trades, here.market.days).encode())[1])


@pytest.mark.parametrize("leave_at", [None, 340])
def test_after_the_cutoff_nothing_is_ordered_and_what_is_open_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, leave_at: float | None
) -> None:
    """This desk would take any order: its options settle in cash."""
    here = practising_seller(
        tmp_path, 3, 0, "PUT", entries=(30, 339), **{**HELD, "leave_at": leave_at}
    )
    here.settings = replace(here.settings, cutoff=45.0, window=10.0)
    seller = here.seller()
    _to(here, 0, 30)
    (spread,) = seller.step().spreads
    for minute in (345, 350, 385):
        _to(here, 0, minute)
        assert [each.trade_id for each in seller.step().spreads] == [spread.trade_id]
    # What may be held to the close is nobody's business before there is a reason to leave it.
    assert caplog.text.count("ALERT late") == (leave_at is not None)
    seller.leaving = True
    for _ in range(2):
        assert seller.step().spreads
    assert list(here.desk.tickets) == [spread.trade_id]
    assert caplog.text.count(f"ALERT late {spread.trade_id}: {spread.trade_id} is open with") == 1
    assert "since 2024-04-02 15:15 New York time the broker takes no orders" in caplog.text
    _to(here, 1, 0)
    assert not seller.step().spreads
    assert f"late {spread.trade_id}" not in here.notices._raised


def test_what_the_broker_closes_by_itself_is_booked_by_nobody_but_a_person(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here, _, spread = opened(
        tmp_path, days=4, settings=dict(cutoff=45.0, delivers=True), **{**HELD, "leave_at": 340}
    )
    _to(here, 0, 350)
    assert [each.gone for each in here.seller().step().spreads] == [False]
    here.desk.positions.clear()
    _to(here, 0, 380)
    assert [each.gone for each in here.seller().step().spreads] == [True]
    # After the close nothing is held whatever has become of it, and the file remembers.
    here.market.closes[date(2024, 4, 2)] = spread.spread.legs[0].strike * 1.01
    _to(here, 1, 60)
    assert [each.trade_id for each in here.seller().step().spreads] == [spread.trade_id]
    assert not booked(here)
    said = f"ALERT settling {spread.trade_id}: {spread.trade_id} has expired, and before that its"
    assert said in caplog.text
    assert list(here.desk.tickets) == [spread.trade_id], "the entries that are due are not sold"


def test_one_wrong_answer_makes_nobody_else_of_the_broker(tmp_path: Path) -> None:
    here, *_ = opened(
        tmp_path, days=4, settings=dict(cutoff=45.0, delivers=True), **{**HELD, "leave_at": 340}
    )
    held = dict(here.desk.positions)
    here.desk.positions.clear()
    _to(here, 0, 350)
    assert [each.gone for each in here.seller().step().spreads] == [True]
    here.desk.positions.update(held)
    _to(here, 0, 380)
    assert [each.gone for each in here.seller().step().spreads] == [False]


def test_an_answer_that_is_wrong_once_closes_nothing_at_the_last_look(tmp_path: Path) -> None:
    here, *_ = opened(
        tmp_path, days=4, settings=dict(cutoff=45.0, delivers=True), **{**HELD, "leave_at": 340}
    )
    wrong: list[dict[Contract, int]] = [{}]

    class Forgetful(InFront):
        def held(self) -> dict[Contract, int]:
            return wrong.pop() if wrong else here.desk.held()

    _to(here, 0, 380)
    assert [each.gone for each in here.seller(Forgetful(here)).step().spreads] == [False]
    assert not wrong


def test_what_expires_during_a_look_was_closed_by_nobody(tmp_path: Path) -> None:
    here, _, spread = opened(tmp_path, days=4, settings=dict(cutoff=45.0), **HELD)

    class Ending(InFront):
        def held(self) -> dict[Contract, int]:
            _to(here, 1, 0)
            return here.desk.held()

    _to(here, 0, 385)
    seller = here.seller(Ending(here))
    assert [each.gone for each in seller.step().spreads] == [False]
    assert not here.desk.held()
    assert not seller.step().spreads
    assert [row["Trade_ID"] for row in booked(here)] == [spread.trade_id]


def test_no_order_outlives_the_cutoff(tmp_path: Path) -> None:
    here = practising_seller(tmp_path, 3, 0, "PUT", entries=(343,), **HELD)
    here.settings = replace(here.settings, cutoff=42.0, window=10.0)
    sent: list[SpreadOrder] = []

    class Noting(InFront):
        def submit(self, order: SpreadOrder) -> SpreadFill:
            sent.append(order)
            return here.venue.submit(order)

    seller = here.seller(Noting(here))
    _to(here, 0, 345)
    assert seller.step().spreads
    seller.leaving = True
    assert not seller.step().spreads
    until = np.datetime64("2024-04-02T19:18", "ns")
    assert [order.expires_at for order in sent] == [until, until]


@pytest.mark.parametrize(("window", "minutes"), [(2.5, 262.5), (0.5, 260.5), (60.0, 300.0)])
def test_an_entry_may_be_sold_until_its_window_has_ended_and_not_beyond_the_latest(
    tmp_path: Path, window: float, minutes: float
) -> None:
    here = practising_seller(tmp_path, 3, 0, "PUT", entries=(260,), leave_at=300.0, **HELD)
    here.settings = replace(here.settings, window=window)
    sent: list[SpreadOrder] = []

    class Noting(InFront):
        def submit(self, order: SpreadOrder) -> SpreadFill:
            sent.append(order)
            return here.venue.submit(order)

    _to(here, 0, 260)
    here.seller(Noting(here)).step()
    opens = np.datetime64("2024-04-02T13:30", "ns")
    assert [order.expires_at for order in sent] == [
        opens + np.timedelta64(round(minutes * 60_000), "ms")
    ]


def test_a_spread_is_followed_from_the_first_instant_of_its_session_on(tmp_path: Path) -> None:
    here, *_ = opened(tmp_path, **HELD)
    for seconds, left in ((-1, 1), (0, 0)):
        at = np.datetime64("2024-04-02T13:30", "ns") + np.timedelta64(seconds, "s")
        here.market.now = lambda at=at: at  # type: ignore[method-assign, misc]
        seller = here.seller()
        seller.leaving = True
        assert len(seller.step().spreads) == left


def test_what_is_sold_no_more_is_followed_by_the_rules_in_force(tmp_path: Path) -> None:
    here, *_ = opened(tmp_path, **HELD)
    rules = replace(here.settings.rules, leave_at=60.0)
    here.settings = replace(here.settings, strategies=("CALL",), rules=rules)
    _to(here, 0, 65)
    assert not here.seller().step().spreads
    assert [row["Exit_Reason"] for row in booked(here)] == ["time"]


def test_nothing_is_sold_on_half_days_before_or_after_the_session(tmp_path: Path) -> None:
    here = practising_seller(tmp_path, 3, 0, "PUT", entries=(30,))
    for at in ("2024-07-03T14:00", "2024-04-02T12:00", "2024-04-02T21:00", "2024-04-06T15:00"):
        clock: Any = lambda at=at: np.datetime64(at, "ns")  # noqa: E731
        here.market.now = clock  # type: ignore[method-assign]
        here.seller().step()
    assert not here.desk.tickets


def test_costs_are_booked_per_leg_contract_and_order() -> None:
    legs = ("SPXW240402P04980000", "SPXW240402P04975000")
    one = OpenSpread(
        "a", "PUT", legs, "open", 3, Decimal("1.25"), "2024-04-02 10:00", Decimal("1.45")
    )
    fill = SpreadFill(1, Decimal("-0.50"))
    half = one.after(fill)
    trade = half.closed_trade(SpreadCosts(0.0, 0.65, 0.35), "2024-04-02 16:00", Decimal("2.00"))
    assert trade.total == Decimal("1.25") * 300 - Decimal("0.50") * 100 - Decimal(
        "2.00"
    ) * 200 - Decimal(2 * (3 + 1))


@pytest.mark.parametrize(("settled_at", "reason"), [("2.00", "settled"), ("0", "expired")])
def test_what_could_not_be_bought_back_is_booked_as_what_ended_it(
    settled_at: str, reason: str
) -> None:
    legs = ("SPXW240402P04980000", "SPXW240402P04975000")
    meant = OpenSpread(
        "a", "PUT", legs, "open", 3, Decimal("1.25"), "2024-04-02 10:00", Decimal("1.45"),
        why="time", attempts=1,
    )  # fmt: skip
    trade = meant.closed_trade(SpreadCosts(), "2024-04-02 16:00", Decimal(settled_at))
    assert trade.exit_reason == reason
    bought = meant.after(SpreadFill(3, Decimal(0)))
    assert bought.closed_trade(SpreadCosts(), "2024-04-02 15:50").exit_reason == "time"
