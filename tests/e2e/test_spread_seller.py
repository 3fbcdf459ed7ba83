"""The seller of spreads: it does what the backtest does, loses nothing when it is killed, and
sends nothing it should not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from execution.orders.gate import ALLOW_ALL_ORDERS, OrderGate
from execution.orders.option_orders import OptionContract, OrderNeverSent, SpreadFill, SpreadOrder
from foundation.errors import BrokerError, OrderRejected, OutcomeUnknown
from foundation.notifier import Notifier
from option_spreads.autoscaler.account import UnknownAccountState
from option_spreads.autoscaler.rules import AutoscalingSettings
from option_spreads.selling.rules import SpreadRules
from option_spreads.selling.state import STATE_FILE, SellerState, read_state, write_state
from option_spreads.simulation.path import build_index_paths
from tests.e2e.selling import (
    COSTS,
    HELD,
    NAME,
    OPENS,
    SMILE,
    STRAY,
    Practising,
    exits,
    opened,
    practising_seller,
    refusing,
    stop,
    synthetic,
)
from tests.option_spreads.sold import sold
from tests.support.messages import refused
from tests.support.replays import Killed
from trainingdata.instants import new_york_date

PRIOR = {"BOOTSTRAP_MODE": "prior"}
Log = pytest.LogCaptureFixture


@pytest.fixture(autouse=True)
def no_power_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes end here, machines do not: no disk is waited for."""
    monkeypatch.setattr("os.fsync", lambda file: None)


def test_later_bars_change_no_earlier_trade() -> None:
    (bars, vix), (others, _) = synthetic(8, 3), synthetic(8, 4)
    half = len(bars.times) // 2
    scrambled = replace(
        bars, values=np.concatenate([bars.values[:, :half], others.values[:, half:]], axis=1)
    )
    day = new_york_date(bars.times[half : half + 1])[0]
    trades = []
    later = []
    for panel in (bars, scrambled):
        days = build_index_paths(panel, "SPY", vix, 10.0)
        rules = [SpreadRules(strategy="IRON_CONDOR")]
        done = sold(days, rules, COSTS, SMILE, AutoscalingSettings())
        trades.append([trade for trade in done if days.dates[trade.day_index] < day])
        later.append([trade for trade in done if days.dates[trade.day_index] >= day])
    assert len(trades[0]) > 5
    assert trades[0] == trades[1]
    assert later[0] != later[1]


@dataclass
class Perilous:
    """A venue at which the process is killed, or the answer lost, at random: before or after
    what is asked is done.
    """

    venue: Any
    rng: np.random.Generator
    danger: float = 0.03

    def __getattr__(self, name: str) -> Any:
        ask = getattr(self.venue, name)

        def through(*asked: Any, **more: Any) -> Any:
            self._die(BrokerError("no answer"))
            answer = ask(*asked, **more)
            lost = OutcomeUnknown if name == "submit" else BrokerError
            self._die(lost("the answer is lost"))
            return answer

        return ask if name == "now" else through

    def _die(self, lost: Exception) -> None:
        if self.rng.random() < self.danger:
            raise Killed
        if self.rng.random() < self.danger:
            raise lost


@pytest.mark.parametrize("seed", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 2, 3))])
def test_spread_seller_books_cash_once_despite_repeated_kills(tmp_path: Path, seed: int) -> None:
    entries = (30, 60, 120, 180, 240)
    here = practising_seller(tmp_path, 3, seed, "PUT", "IRON_CONDOR", entry_minutes=entries)

    killed = 0
    perilous: Any = Perilous(here.venue, np.random.default_rng(seed))
    seller = here.seller(perilous)
    for _ in here.market.points():
        here.desk.advance()
        try:
            seller.step()
        except BrokerError:
            continue
        except Killed:
            killed += 1
            here.notices = Notifier(None, None)
            seller = here.seller(perilous)
    perilous.danger = 0.0
    assert not seller.step().spreads
    rows = here.booked()
    opened = {
        name: t
        for name, t in here.desk.tickets.items()
        if t.filled_contracts and ".close" not in name
    }
    assert killed > 3
    assert len(rows) > 3
    assert sorted(row["Trade_ID"] for row in rows) == sorted(opened)
    orders = sum(t.filled_contracts * len(t.order.legs) for t in here.desk.tickets.values())
    fees = orders * (Decimal(str(COSTS.commission)) + Decimal(str(COSTS.fee)))
    assert sum(here.flows) - fees == sum(Decimal(row["P/L_$"]) for row in rows)
    assert here.desk.reserved_cash == 0


def test_partially_filled_spread_close_is_finished_later(tmp_path: Path) -> None:
    here = practising_seller(tmp_path, 3, 0, "PUT", entry_minutes=(30,), sizing=PRIOR)
    here.to(0, 30)
    seller = here.seller(
        submit=lambda o, _: here.desk.submit_order(o, partial=o.contracts > 1).fill
    )
    (spread,) = seller.step().spreads
    assert (spread.contracts, sum(abs(n) for n in here.desk.option_positions().values())) == (1, 2)
    stop(here, spread)
    here.to(0, 40)
    assert not seller.step().spreads
    assert exits(here) == ["stop"]


def test_failed_buyback_is_retried_until_it_succeeds(tmp_path: Path, caplog: Log) -> None:
    here, seller, spread = opened(tmp_path)
    stop(here, spread)
    shut = here.seller(submit=refusing(OrderRejected("halted")))
    for minute in (35, 40, 45):
        here.to(0, minute)
        assert shut.step().spreads[0].stage == "open"
    assert sum("ALERT" in record.message for record in caplog.records) == 1
    here.to(0, 50)
    assert not seller.step().spreads
    assert exits(here) == ["stop"]


UNSAFE: dict[str, Callable[[Practising], object]] = {
    "account": lambda here: (here.folder / "account_balance.json").write_text('{"balance": 2e'),
    "trades": lambda here: (here.folder / "trades.csv").write_text("x,y,PUT,,,nan,,nan,\n"),
    "volatility": lambda here: setattr(here, "vix", here.vix.iloc[:0]),
    "position": lambda here: here.desk.positions.update({STRAY: 1}),
    "halt": lambda here: setattr(
        here, "settings", replace(here.settings, STARTING_CAPITAL=50_000.0)
    ),
}


@pytest.mark.parametrize("unsafe", UNSAFE.values(), ids=UNSAFE)
def test_unsafe_account_state_blocks_spread_sales_and_alerts(
    tmp_path: Path, caplog: Log, unsafe: Callable[[Practising], object]
) -> None:
    """An unknown state stops trading; the seller does not start from an empty state."""
    here = practising_seller(tmp_path, 3, 0, "PUT", entry_minutes=(30,))
    here.to(0, 30)
    unsafe(here)
    seller = here.seller()
    with caplog.at_level(logging.ERROR):
        assert not seller.step().spreads
    assert not here.desk.tickets
    assert any("ALERT" in record.message for record in caplog.records)


@pytest.mark.parametrize("broken", ["account_balance.json", "trades.csv", ".update.json"])
def test_closed_trade_is_booked_when_account_becomes_readable(tmp_path: Path, broken: str) -> None:
    here, *_ = opened(tmp_path, days=4)
    path = here.folder / broken
    before = path.read_text() if path.exists() else None
    path.write_text("x" * 40)
    for minute in (0, 5, 10):
        here.to(1, minute)
        here.seller().step()
    if broken != "account_balance.json":  # the balance file is rebuilt from the trades
        assert read_state(here.folder).spreads
        path.unlink() if before is None else path.write_text(before)
    here.to(1, 15)
    assert not here.seller().step().spreads
    assert [row["Trade_ID"] for row in here.booked()] == [NAME]


@pytest.mark.parametrize(
    ("damage", "facts"),
    [
        (lambda path: path.write_text(path.read_text()[:-20]), ("open_spreads",)),
        # A missing state file beside a quarantined copy does not mean that no spread is open.
        (lambda path: path.rename(f"{path}.aside-0"), ()),
    ],
)
def test_spread_seller_needs_a_readable_state_file(
    tmp_path: Path, damage: Callable[[Path], object], facts: tuple[str, ...]
) -> None:
    here, *_ = opened(tmp_path)
    damage(here.folder / STATE_FILE)
    left = {path: path.read_bytes() for path in here.folder.glob(f"{STATE_FILE}*")}
    here.to(0, 120)
    with refused(UnknownAccountState, *facts, varies="Unterminated .*;"):
        here.seller().step()
    assert {path: path.read_bytes() for path in here.folder.glob(f"{STATE_FILE}*")} == left
    assert len(here.desk.tickets) == 1


@pytest.mark.parametrize("left", ["half", "a folder", "nothing"])
def test_spreads_are_managed_despite_a_damaged_state_file(
    tmp_path: Path, left: str, caplog: Log
) -> None:
    here, seller, spread = opened(tmp_path, entry_minutes=(30, 60))
    path = here.folder / STATE_FILE
    broken = path.read_text()[:-20]
    path.write_text(broken)
    if left != "half":
        path.unlink()
    if left == "a folder":
        path.mkdir()
    here.to(0, 60)
    assert seller.step().spreads[0].trade_id == spread.trade_id
    if left != "nothing":
        assert "ALERT open_spreads" in caplog.text
        assert len(here.desk.tickets) == 1, "the entry that is due is not sold on unknown state"
        (aside,) = here.folder.glob(f"{STATE_FILE}.aside-*")
        assert aside.is_dir() or aside.read_text() == broken
    stop(here, spread)
    here.to(0, 90)
    assert spread.trade_id not in [each.trade_id for each in seller.step().spreads]
    assert exits(here) == ["stop"]


def test_unknown_closing_order_blocks_a_second_closing_order(tmp_path: Path, caplog: Log) -> None:
    """No second closing order is sent before the venue has ended the first."""
    here, _, spread = opened(tmp_path, entry_minutes=(30, 60))
    sent: list[str] = []
    silent = True

    def submit(order: SpreadOrder, gate: OrderGate = ALLOW_ALL_ORDERS) -> SpreadFill:
        sent.append(order.client_order_id)
        if silent:
            raise OutcomeUnknown("silence")
        return here.venue.submit(order)

    def resume(client_order_id: str, *, retry_gate: OrderGate | None) -> SpreadFill:
        if silent:
            raise OutcomeUnknown("the venue does not say what became of it")
        with pytest.raises(OrderNeverSent):
            here.venue.resume(client_order_id, retry_gate=retry_gate)
        raise OrderRejected("it never reached the venue")

    seller = here.seller(submit=submit, resume=resume)
    stop(here, spread)
    for minute in (35, 40, 45):
        here.to(0, minute)
        (following,) = seller.step().spreads
        assert (following.stage, following.closing_attempts) == ("closing", 1)
    assert sent == [f"{NAME}.close1"]
    assert "the venue does not say what became of it" in caplog.text or "silence" in caplog.text
    silent = False
    here.to(0, 50)
    assert not seller.step().spreads
    assert sent[1:] == [f"{NAME}.close2"], "the first never reached the venue"
    assert not any(here.desk.option_positions().values())


@pytest.mark.parametrize(("power", "sold"), [(499, 0), (500, 1), (None, 3), (10_000, 3)])
def test_spread_sales_are_capped_by_buying_power(
    tmp_path: Path, power: int | None, sold: int, caplog: Log
) -> None:
    here = practising_seller(tmp_path, 3, 0, "PUT", entry_minutes=(30,), sizing=PRIOR)
    here.to(0, 30)
    seller = here.seller(buying_power=lambda: None if power is None else Decimal(power))
    assert sum(spread.contracts for spread in seller.step().spreads) == sold
    assert ("ALERT buying_power" in caplog.text) is (sold == 0)


def test_unknown_opening_order_does_not_block_other_exits(tmp_path: Path) -> None:
    """The opening may have filled or not: the certain position is bought back anyway."""
    here, _, spread = opened(tmp_path)

    def resume(client_order_id: str, *, retry_gate: OrderGate | None) -> SpreadFill:
        if client_order_id == "late":
            raise OutcomeUnknown("silence")
        return here.venue.resume(client_order_id, retry_gate=retry_gate)

    late = replace(spread, trade_id="late", stage="opening")
    write_state(here.folder, SellerState((late, replace(spread, exit_reason="stop"))))
    here.to(0, 65)
    (remaining,) = here.seller(resume=resume).step().spreads
    assert remaining.trade_id == "late"
    assert [row["Trade_ID"] for row in here.booked()] == [spread.trade_id]


@pytest.mark.parametrize("turned_down", [False, True])
def test_entry_survives_kill_before_its_order_is_sent(tmp_path: Path, turned_down: bool) -> None:
    """An entry that was started and refused counts as handled."""
    here = practising_seller(tmp_path, 3, 0, "PUT", entry_minutes=(33,))

    def dying(order: SpreadOrder, gate: OrderGate = ALLOW_ALL_ORDERS) -> SpreadFill:
        if turned_down:
            here.desk.submit_order(order, rejected=True)
        raise Killed

    here.to(0, 35)
    with pytest.raises(Killed):
        here.seller(submit=dying).step()
    assert [each.stage for each in read_state(here.folder).spreads] == ["opening"]
    state = here.seller().step()
    assert [each.stage for each in state.spreads] == ([] if turned_down else ["open"])
    assert len(state.processed_entries) == 1
    assert len(here.desk.tickets) == 1


def test_unsent_closing_order_is_sent_under_its_id(tmp_path: Path) -> None:
    here, again, _ = opened(tmp_path)
    here.to(0, 35)
    seller = here.seller(submit=refusing(Killed))
    seller.exiting = again.exiting = True
    with pytest.raises(Killed):
        seller.step()
    (spread,) = read_state(here.folder).spreads
    assert (spread.stage, spread.closing_attempts) == ("closing", 1)
    assert again.step().spreads == ()
    assert [name for name in here.desk.tickets if ".close" in name] == [spread.order_id]


def test_flattening_buys_everything_back_and_sells_nothing(tmp_path: Path) -> None:
    here, seller, _ = opened(tmp_path, entry_minutes=(30, 63))
    here.to(0, 65)
    seller.exiting = True
    assert seller.step().spreads == ()
    assert not here.desk.option_positions()
    assert exits(here) == ["flattened"]


def test_order_left_by_a_failed_step_is_cancelled(tmp_path: Path) -> None:
    here = practising_seller(tmp_path, 3, 0, "PUT", entry_minutes=(30,))
    asked: list[bool] = []

    def submit(order: SpreadOrder, gate: OrderGate = ALLOW_ALL_ORDERS) -> SpreadFill:
        here.desk.submit_order(replace(order, min_credit=Decimal("4.99")))
        raise BrokerError("no answer")

    def resume(client_order_id: str, *, retry_gate: OrderGate | None) -> SpreadFill:
        asked.append(retry_gate is not None)
        return here.venue.resume(client_order_id, retry_gate=retry_gate)

    here.to(0, 30)
    seller = here.seller(submit=submit, resume=resume)
    with pytest.raises(BrokerError):
        seller.step()
    assert [each.stage for each in seller.spreads] == ["opening"]
    seller.cancel_working_orders()
    assert seller.spreads == read_state(here.folder).spreads == ()
    assert [ticket.status for ticket in here.desk.tickets.values()] == ["canceled"]
    assert asked == [False]


@pytest.mark.parametrize("strategies", [("PUT", "CALL"), ("PUT",)])
def test_unknown_order_blocks_further_entries_in_same_step(
    tmp_path: Path, strategies: tuple[str, ...]
) -> None:
    here = practising_seller(tmp_path, 3, 0, *strategies, entry_minutes=(31, 33))
    here.to(0, 35)
    # A second order would be a second spread.
    (spread,) = here.seller(submit=refusing(OutcomeUnknown("silence"))).step().spreads
    assert spread.stage == "opening"


@pytest.mark.parametrize("by_hand", [False, True])
def test_closing_order_is_resent_only_if_options_remain(
    tmp_path: Path, caplog: Log, by_hand: bool
) -> None:
    """Otherwise options that were bought back manually would be bought twice, without being
    tracked.
    """
    here, _, spread = opened(tmp_path)
    meant: list[SpreadOrder] = []
    posts = 0

    def swallowed(order: SpreadOrder, gate: OrderGate = ALLOW_ALL_ORDERS) -> SpreadFill:
        meant.append(order)
        raise OutcomeUnknown("502")

    def resume(client_order_id: str, *, retry_gate: OrderGate | None) -> SpreadFill:
        nonlocal posts
        if not retry_gate:
            raise OutcomeUnknown(f"{client_order_id}: the venue does not say what became of it")
        posts += 1
        return here.venue.submit(meant[-1])

    seller = here.seller(submit=swallowed, resume=resume)
    stop(here, spread)
    here.to(0, 35)
    assert [each.stage for each in seller.step().spreads] == ["closing"]
    if by_hand:
        here.desk.positions.clear()
    here.to(0, 95)
    left = seller.step().spreads
    assert posts == (not by_hand)
    assert not any(here.desk.option_positions().values())
    assert [each.stage for each in left] == (["closing"] if by_hand else [])
    assert ("not resubmitted" in caplog.text) is by_hand
    unknown = f"closing {spread.trade_id}: {spread.trade_id}.close1: the venue does not say"
    assert (f"still {unknown} what became of it" in caplog.text) is by_hand


def test_failed_exit_alerts_even_after_a_positions_alert(tmp_path: Path, caplog: Log) -> None:
    here, seller, spread = opened(tmp_path)
    here.to(0, 60)
    seller.step()
    assert "ALERT positions" not in caplog.text
    here.desk.positions[STRAY] = -1
    here.to(0, 65)
    seller.step()
    assert caplog.text.count("ALERT positions") == 1
    assert STRAY.symbol in caplog.text
    stop(here, spread)
    del here.desk.positions[spread.options[1]]
    for minute in (70, 75):
        here.to(0, minute)
        seller.step()
    assert caplog.text.count(f"ALERT leaving {spread.trade_id}") == 1
    assert "still positions" in caplog.text


def test_each_failing_spread_alerts_until_it_is_resolved(tmp_path: Path, caplog: Log) -> None:
    """Meanwhile positions are still compared and nothing is sold."""
    here = practising_seller(tmp_path, 3, 0, "PUT", "CALL", entry_minutes=(30, 60), **HELD)
    without: tuple[bool, ...] = ()

    def quotes(contracts: Iterable[OptionContract]) -> Any:
        requested = list(contracts)
        for each in requested:
            if each.is_call in without:
                option = "a call" if each.is_call else "a put"
                raise BrokerError(f"the quote of {option} is invalid: bid 2 is above ask 1")
        return here.venue.quotes(requested)

    seller = here.seller(quotes=quotes)
    here.to(0, 30)
    assert len(seller.step().spreads) == 2
    here.to(0, 60)
    for without, counts in (
        ((False,), [1, 0]),
        ((False, True), [1, 1]),
        ((True,), [1, 1]),
        ((False,), [2, 1]),
    ):
        with refused(BrokerError, "a call" if without == (True,) else "a put"):
            seller.step()
        assert [
            caplog.text.count(f"ALERT step {each}-20240402-030: the quote of a {each.lower()}")
            for each in ("PUT", "CALL")
        ] == counts
    assert "ALERT positions" not in caplog.text
    here.desk.positions[STRAY] = -1
    with refused(BrokerError, "a put"):
        seller.step()
    assert "ALERT positions" in caplog.text
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            here.desk, "option_positions", refusing(BrokerError("no answer to what is held"))
        )
        with refused(BrokerError, "a put"):
            seller.step()
    assert "ALERT step holdings: no answer to what is held" in caplog.text
    assert len(here.desk.tickets) == 2
    without = ()
    here.to(0, 70)
    seller.step()
    parts = ("PUT-20240402-030", "CALL-20240402-030", "holdings")
    assert all(here.has_ended(f"step {each}") for each in parts)


def test_spread_is_managed_from_the_session_open(tmp_path: Path) -> None:
    here, seller, _ = opened(tmp_path)
    seller.exiting = True
    for seconds, left in ((-1, 1), (0, 0)):
        at = OPENS + np.timedelta64(seconds, "s")
        here.market.now = lambda at=at: at  # type: ignore[method-assign, misc]
        assert len(seller.step().spreads) == left


def test_spread_of_removed_strategy_follows_current_exit_rules(tmp_path: Path) -> None:
    here, *_ = opened(tmp_path)
    rules = replace(here.settings.rules, exit_minute=60.0)
    here.settings = replace(here.settings, strategies=("CALL",), rules=rules)
    here.to(0, 65)
    assert not here.seller().step().spreads
    assert exits(here) == ["time"]
