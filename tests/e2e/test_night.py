"""The looks before a close, whatever meets them: nothing is cut twice, and no look is lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from execution.journal.decisions import DecisionJournal
from execution.journal.order_store import ORDER_STATES, OrderIntent
from execution.journal.outbox import Outbox
from execution.live.accounts import TRADE_JOB
from execution.orders.orders import Order
from foundation.errors import BrokerError
from tests.e2e.practice import Practice, Start, order, trading
from tests.support.desks import Desk, halted_by
from tests.support.messages import refused
from tests.support.overnight import LAST_CYCLE, buy_too_much, buy_up_to, gross, show
from tests.support.replays import Killed


def cuts_of(desk: Desk) -> list[OrderIntent]:
    return [each for each in desk.live.book.intents_in_states(ORDER_STATES) if each.role == "night"]


@pytest.fixture
def here(practice: Start) -> Practice:
    here = practice("symbols=[SYA,SYB]")
    here.advance(LAST_CYCLE)
    return here


@contextmanager
def desk_at(here: Practice, folder: Path, *words: str) -> Iterator[Desk]:
    """A process on the account, whose first cycle is over."""
    desk = Desk.at(here, folder, *words)
    desk.job.step()
    yield desk
    desk.database.close()


def test_overnight_reduction_accepted_late_is_not_sent_twice(
    here: Practice, tmp_path: Path
) -> None:
    with desk_at(here, tmp_path) as desk:
        buy_too_much(here, 3.3)
        here.fail(kind="late", method="POST", path="/v2/orders", seconds=3600, count=2)
        show(desk, 10)
        with refused(BrokerError):
            desk.job.step()
        # The other symbol has no unknown order.
        states = {each.stock_or_crypto_order.symbol: each.state for each in cuts_of(desk)}
        assert states == {"SYA": "unknown", "SYB": "filled"}
        here.land()
        show(desk, 2)
        desk.job.step()
        assert 1.9 < gross(here) <= 2.0


def test_overnight_order_of_unknown_outcome_keeps_its_id(here: Practice, tmp_path: Path) -> None:
    with desk_at(here, tmp_path) as desk:
        buy_too_much(here)
        here.fail(kind="late", method="POST", path="/v2/orders", seconds=3600, count=2)
        show(desk, 10)
        with refused(BrokerError):
            desk.job.step()
        cut = next(each for each in cuts_of(desk) if each.stock_or_crypto_order.symbol == "SYA")
        assert cut.state == "unknown"
        posts = len(here.posts)
        show(desk, 2)
        desk.job.step()
        assert any(cut.client_order_id in body for body in here.posts[posts:])


@pytest.mark.wire
def test_overnight_cut_works_despite_opening_of_unknown_outcome(
    here: Practice, tmp_path: Path
) -> None:
    """Both orders together would be a wash trade, which a venue that has both refuses itself."""
    with desk_at(here, tmp_path) as desk:
        trades = desk.live.feed.last_trades(["SYA"])
        account = desk.broker.account().with_prices({"SYA": trades["SYA"].price})
        gate = desk.live.guards.build_gate(
            replace(account, last_trades=trades, max_loss_by_root={})
        )
        here.fail(kind="late", method="POST", path="/v2/orders", seconds=3600, count=2)
        with suppress(BrokerError):
            desk.broker.submit([order("kelly_50-20240220T203000Z-SYA-7-0", qty="10")], gate)
        buy_too_much(here)
        show(desk, 6)
        desk.job.step()
        assert gross(here) <= 2.0


def test_overnight_cut_works_despite_sale_of_unknown_outcome(
    here: Practice, tmp_path: Path
) -> None:
    """The day's sale may never be accepted, or be accepted only at the close."""
    with desk_at(here, tmp_path, *PLAIN) as desk:
        buy_up_to(here, 1.15, "SYA", "SYB")
        here.fail(kind="late", method="POST", path="/v2/orders", seconds=3600, count=2)
        sale = order("equal_weight-20240220T203000Z-SYA-7-0", side="sell", qty="800", reduces=True)
        with suppress(BrokerError):
            desk.broker.submit([sale])
        show(desk, 6)
        desk.job.step()
        assert 1.9 < gross(here) <= 2.0
        here.land()
        assert min(here.venue.broker.account().positions.values()) >= 0


@pytest.mark.wire
def test_overnight_cut_avoids_symbols_blocked_by_manual_orders(
    here: Practice, tmp_path: Path
) -> None:
    """A manual purchase rests in a symbol that the loop holds: selling would be a wash trade."""
    with desk_at(here, tmp_path, *PLAIN) as desk:
        buy_up_to(here, 1.3, "SYA", "SYB")
        terms = {"type": "limit", "limit_price": "1", "time_in_force": "gtc"}
        bid = {"symbol": "SYA", "qty": "5", "side": "buy", "client_order_id": "by-hand"}
        trading(here).post("/orders", {**bid, **terms})
        held = here.venue.broker.account().positions["SYA"]
        show(desk, 6)
        desk.job.step()
        assert here.venue.broker.account().positions["SYA"] == held
        assert 1.9 < gross(here) <= 2.0


@pytest.mark.wire
def test_repeated_overnight_check_cancels_earlier_reduction_orders(
    here: Practice, tmp_path: Path
) -> None:
    """Trading is halted, so nothing fills, and the request after the submission fails."""
    with desk_at(here, tmp_path) as desk:
        buy_too_much(here)
        for symbol in ("SYA", "SYB"):
            here.halt(symbol)
        show(desk, 10)
        submit = desk.broker.submit

        def failing(*words: Any) -> Any:
            submit(*words)
            raise BrokerError("no answer")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(desk.broker, "submit", failing)
            with refused(BrokerError):
                desk.job.step()
        assert {each.state for each in cuts_of(desk)} == {"canceled"}
        show(desk, 9.75)
        desk.job.step()
        assert len(cuts_of(desk)) == 4
        assert {each.state for each in cuts_of(desk)} == {"canceled"}
        assert not here.venue.broker.account().open_orders


@pytest.mark.wire
def test_next_process_finishes_an_interrupted_overnight_cut(here: Practice, tmp_path: Path) -> None:
    with desk_at(here, tmp_path) as desk:
        buy_too_much(here)
        show(desk, 6)
        before = len(here.posts)
        post: Any = Outbox.post

        def dying(*words: Any) -> Any:
            if len(here.posts) > before:
                raise Killed
            return post(*words)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Outbox, "post", dying)
            patch.setattr(DecisionJournal, "end_decision", lambda *words, **more: None)
            with pytest.raises(Killed):
                desk.job.step()
        assert {each.state for each in cuts_of(desk)} == {"filled", "planned"}
    with desk_at(here, tmp_path) as desk:
        assert {each.state for each in cuts_of(desk)} == {"filled", "denied"}
        assert halted_by(desk) == ["positions"], "a cycle has seen what the person bought"
        desk.live.halts.clear("positions", "the person", here.venue.now)
        now = show(desk, 5)
        due = desk.job.next_step_time(now)
        assert due is not None
        assert due <= now, "the look that was not finished is made up for"
        desk.job.step()
        assert gross(here) <= 2.0
        names = [each.client_order_id for each in cuts_of(desk)]
        assert len(names) == len(set(names))


@pytest.mark.wire
@pytest.mark.first_example
@pytest.mark.parametrize("minutes", [6, 2])
def test_failed_overnight_check_is_retried_and_alerted(
    here: Practice, tmp_path: Path, minutes: int
) -> None:
    with desk_at(here, tmp_path) as desk:
        buy_too_much(here)
        now = show(desk, minutes)
        here.fail(kind="status", status=503, path="/v2/account", count=4)
        with pytest.raises(BrokerError):
            desk.job.step()
        assert desk.database.query("SELECT kind FROM notices") == [("overnight",)]
        due = desk.job.next_step_time(now)
        assert due is not None
        assert now < due <= now + np.timedelta64(15, "s")
        here.clear_faults()
        show(desk, minutes - 0.25)
        desk.job.step()
        assert gross(here) <= 2.0


@pytest.mark.slow
def test_overnight_cut_works_without_last_trades(here: Practice, tmp_path: Path) -> None:
    with desk_at(here, tmp_path) as desk:
        buy_too_much(here)
        here.fail(kind="status", status=503, path="/v2/stocks/trades/latest", count=50)
        show(desk, 6)
        desk.job.step()
        assert gross(here) <= 2.0
        desk.stop.flattening = True
        left = desk.job.finish(flatten=True)
        held = here.venue.broker.account().positions
        assert {*held} == {"SYA"}, "what a person bought is no more ours to sell than before"
        why = "quarantined until its discrepancy is resolved"
        assert left == [f"{held['SYA']:f} SYA ({why})"]


@pytest.mark.wire
@pytest.mark.first_example
@pytest.mark.parametrize("amount", [40_000.0, -40_000.0])
def test_cash_flow_before_overnight_check_triggers_no_halt(
    here: Practice, tmp_path: Path, amount: float
) -> None:
    with desk_at(here, tmp_path) as desk:
        here.venue.broker.deposit(amount)
        kind = "CSW" if amount < 0 else "CSD"
        entry = {"activity_type": kind, "date": "2024-02-20", "net_amount": str(amount)}
        here.venue.record.record_activity(entry)
        now = show(desk, 10)
        account = desk.broker.account

        def later() -> Any:
            return replace(account(), as_of=now)

        desk.broker.account = later  # type: ignore[method-assign]
        desk.job.step()
        assert not desk.live.halts.active()
        mark = desk.live.account.marks.last_mark()
        assert mark is not None
        assert mark.net_deposits == amount


PLAIN = ("forecaster=ewma", "forecaster.calibrated=false", "sizing.strategy=equal_weight")


@pytest.mark.wire
def test_positions_left_open_by_flattening_are_reported(here: Practice, tmp_path: Path) -> None:
    """A manual order reserves the shares."""
    with desk_at(here, tmp_path, *PLAIN) as desk:
        account = here.venue.broker.account()
        held = account.positions["SYA"]
        side = "sell" if held > 0 else "buy"
        price = round(account.prices["SYA"] * (2 if held > 0 else 0.5), 2)
        order = {"symbol": "SYA", "qty": str(abs(held)), "side": side, "type": "limit"}
        terms = {"limit_price": str(price), "time_in_force": "gtc", "client_order_id": "by-hand"}
        trading(here).post("/orders", {**order, **terms})
        desk.stop.flattening = True
        (left,) = desk.job.finish(flatten=True)
        assert left.startswith(f"{held:f} SYA (")


@pytest.mark.wire
def test_uncancellable_order_blocks_closing_of_its_symbol_only(
    here: Practice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with desk_at(here, tmp_path, *PLAIN) as desk:
        held = {s: q for s, q in here.venue.broker.account().positions.items() if q}
        stuck = next(iter(held))
        order = Order("stuck", stuck, "buy", Decimal(1), "so")
        sent = OrderIntent(order, desk.live.connection.now(), state="accepted", job=TRADE_JOB)
        desk.live.book.record_submission(sent)
        monkeypatch.setattr(desk.broker, "cancel", refuse_all)
        desk.stop.flattening = True
        (open_position,) = desk.job.finish(flatten=True)
        assert f"{stuck} (stuck is being cancelled)" in open_position
        left = {s for s, q in here.venue.broker.account().positions.items() if q}
        assert left == {stuck} < {*held}


def refuse_all(names: Iterable[str]) -> dict[str, Decimal]:
    raise BrokerError("cancelling order stuck: HTTP status 503")


@pytest.mark.wire
def test_interrupted_decision_is_not_resumed_for_dropped_symbols(
    practice: Start, tmp_path: Path
) -> None:
    here = practice("symbols=[SYA,SYB,SYC]")
    here.advance("2024-02-20T15:30:00Z")
    desk = Desk.at(here, tmp_path, *PLAIN)

    def dying(*words: Sequence[Any]) -> Any:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Outbox, "post", dying)
        patch.setattr(DecisionJournal, "end_decision", lambda *words, **more: None)
        with pytest.raises(Killed):
            desk.job.step()
    with desk_at(here, tmp_path, "symbols=[SYC]", *PLAIN) as desk:
        whys = {each.state_reason for each in desk.live.book.intents_in_states(("denied",))}
        assert whys == {"SYA is no longer one of the symbols to trade"}
        assert not {"SYA", "SYB"} & set(here.venue.broker.account().positions)
