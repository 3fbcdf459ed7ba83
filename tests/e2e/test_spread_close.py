"""The seller of spreads from the broker's last orders to the settlement: what is open then is
followed, told and booked once.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from execution.orders.option_orders import OptionContract
from foundation.errors import BrokerError
from option_spreads.selling.rules import ASSIGNMENT_UNCERTAINTY_BAND
from tests.e2e.selling import COSTS, DAY, OPENS, exits, opened, practising_seller, refusing

Log = pytest.LogCaptureFixture


def test_expired_spread_settles_at_the_expiry_days_close(tmp_path: Path) -> None:
    here, _, spread = opened(tmp_path, days=4)
    here.to(2, 60)
    assert not here.seller().step().spreads
    (row,) = here.booked()
    owed = spread.spread.settlement_value(here.market.closes[DAY])
    result = (float(spread.credit) - owed) * 100 - 2 * (COSTS.commission + COSTS.fee)
    assert float(row["P/L_$"]) == pytest.approx(result, abs=0.01)
    assert row["Exit_Time"] == "2024-04-02 16:00"


def test_unknown_settlement_price_blocks_sales_and_alerts(tmp_path: Path, caplog: Log) -> None:
    here, seller, spread = opened(tmp_path, days=4)
    known = dict(here.market.closes)
    unknown: Any = dict.fromkeys([DAY])
    here.market.closes.update(unknown)
    for minutes, alerts in ((0, 0), (29, 0), (30, 1), (60, 1)):
        clock: Any = lambda m=minutes: OPENS + np.timedelta64(390 + m, "m")  # noqa: E731
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(here.market, "now", clock)
            assert seller.step().spreads[0].trade_id == spread.trade_id
        assert caplog.text.count(f"ALERT settling {spread.trade_id}") == alerts
    here.to(2, 30)
    assert [each.trade_id for each in seller.step().spreads] == [spread.trade_id]
    assert list(here.desk.tickets) == [spread.trade_id], "the entry that is due is not sold"
    here.market.closes = known
    assert spread.trade_id not in [each.trade_id for each in seller.step().spreads]
    assert [row["Trade_ID"] for row in here.booked()] == [spread.trade_id]
    assert here.has_ended(f"settling {spread.trade_id}")
    assert len(here.desk.tickets) == 2


@pytest.mark.parametrize("silent", [False, True])
def test_timed_spread_exit_works_without_option_quotes(tmp_path: Path, silent: bool) -> None:
    """The venue has no quote for an option, or does not respond."""
    here, *_ = opened(tmp_path, exit_minute=350)
    no_answer = refusing(BrokerError("the quotes: no answer"))
    seller = here.seller(quotes=no_answer if silent else lambda contracts: {})
    here.to(0, 345)
    with pytest.raises(BrokerError) if silent else nullcontext():
        seller.step()
    assert len(here.desk.tickets) == 1
    here.to(0, 350)
    assert not seller.step().spreads
    assert exits(here) == ["time"]


def test_possible_share_delivery_blocks_cash_settlement_and_alerts(
    tmp_path: Path, caplog: Log
) -> None:
    here, seller, spread = opened(
        tmp_path, days=4, settings=dict(share_delivery=True), exit_minute=389
    )
    short, long = spread.spread.legs
    middle = (short.strike + long.strike) / 2
    for between in (middle, short.strike - 0.01, short.strike + 0.01, long.strike - 0.01):
        here.market.closes[DAY] = between
        here.to(1, 60)
        assert [each.trade_id for each in seller.step().spreads] == [spread.trade_id]
    assert caplog.text.count(f"ALERT settling {spread.trade_id}") == 1
    assert "shares may be delivered" in caplog.text
    assert list(here.desk.tickets) == [spread.trade_id], "the entries that are due are not sold"
    near = ASSIGNMENT_UNCERTAINTY_BAND * short.strike + 0.1
    for outside in (short.strike + near, long.strike - near):
        assert not spread.spread.may_deliver_shares(outside)
    for index, points in ((short.strike + near, 0.0), (short.strike - 1.63, 1.63)):
        assert round(spread.spread.settlement_value(index), 2) == points
    here.market.closes[DAY] = long.strike - near
    seller.step()
    assert exits(here) == ["settled"]


@pytest.mark.parametrize("exit_minute", [None, 340])
def test_open_spread_after_cutoff_alerts_once_without_orders(
    tmp_path: Path, caplog: Log, exit_minute: float | None
) -> None:
    """This simulated desk accepts orders at any time, because its options settle in cash."""
    settings = dict(cutoff=45.0, entry_window=10.0)
    here, seller, spread = opened(
        tmp_path, settings=settings, entry_minutes=(30, 339), exit_minute=exit_minute
    )
    for minute in (345, 350, 385):
        here.to(0, minute)
        assert [each.trade_id for each in seller.step().spreads] == [spread.trade_id]
    # A spread that may be held to the close sends no alert before an exit is due.
    assert caplog.text.count("ALERT late") == (exit_minute is not None)
    seller.exiting = True
    for _ in range(2):
        assert seller.step().spreads
    assert list(here.desk.tickets) == [spread.trade_id]
    assert caplog.text.count(f"ALERT late {spread.trade_id}: {spread.trade_id} still has") == 1
    assert "since 2024-04-02 15:15 New York time the broker accepts no orders" in caplog.text
    here.to(1, 0)
    assert not seller.step().spreads
    assert here.has_ended(f"late {spread.trade_id}")


CUT_OFF: dict[str, Any] = dict(
    days=4, settings=dict(cutoff=45.0, share_delivery=True), exit_minute=340
)


def test_spread_closed_by_the_broker_awaits_manual_booking(tmp_path: Path, caplog: Log) -> None:
    here, _, spread = opened(tmp_path, **CUT_OFF)
    here.to(0, 350)
    assert [each.is_closed_elsewhere for each in here.seller().step().spreads] == [False]
    here.desk.positions.clear()
    here.to(0, 380)
    assert [each.is_closed_elsewhere for each in here.seller().step().spreads] == [True]
    # After the close the venue holds nothing in any case; the state file keeps the spread.
    here.market.closes[DAY] = spread.spread.legs[0].strike * 1.01
    here.to(1, 60)
    assert [each.trade_id for each in here.seller().step().spreads] == [spread.trade_id]
    assert not here.booked()
    said = f"ALERT settling {spread.trade_id}: {spread.trade_id} has expired, and its options"
    assert said in caplog.text
    assert list(here.desk.tickets) == [spread.trade_id], "the entries that are due are not sold"


def test_single_wrong_positions_response_closes_no_spread(tmp_path: Path) -> None:
    """The wrong response comes at the last check, or the next response lists the spread again."""
    here, *_ = opened(tmp_path, **CUT_OFF)
    held = dict(here.desk.positions)
    here.desk.positions.clear()
    here.to(0, 350)
    assert [each.is_closed_elsewhere for each in here.seller().step().spreads] == [True]
    here.desk.positions.update(held)
    wrong: list[dict[OptionContract, int]] = [{}]
    here.to(0, 380)
    seller = here.seller(
        option_positions=lambda: wrong.pop() if wrong else here.desk.option_positions()
    )
    assert [each.is_closed_elsewhere for each in seller.step().spreads] == [False]
    assert not wrong


def test_spread_expiring_during_a_check_is_settled_normally(tmp_path: Path) -> None:
    here, _, spread = opened(tmp_path, days=4, settings=dict(cutoff=45.0))

    def ending() -> dict[OptionContract, int]:
        here.to(1, 0)
        return here.desk.option_positions()

    here.to(0, 385)
    seller = here.seller(option_positions=ending)
    assert [each.is_closed_elsewhere for each in seller.step().spreads] == [False]
    assert not here.desk.option_positions()
    assert not seller.step().spreads
    assert [row["Trade_ID"] for row in here.booked()] == [spread.trade_id]


def test_spread_seller_orders_expire_at_the_cutoff(tmp_path: Path) -> None:
    settings = dict(cutoff=42.0, entry_window=10.0)
    here, seller, _ = opened(tmp_path, minute=345, settings=settings, entry_minutes=(343,))
    seller.exiting = True
    assert not seller.step().spreads
    until = np.datetime64("2024-04-02T19:18", "ns")
    assert [each.order.expires_at for each in here.desk.tickets.values()] == [until, until]


@pytest.mark.parametrize(("window", "minutes"), [(2.5, 262.5), (0.5, 260.5), (60.0, 300.0)])
def test_spread_entry_order_expires_when_its_window_ends(
    tmp_path: Path, window: float, minutes: float
) -> None:
    rules: dict[str, Any] = dict(entry_minutes=(260,), exit_minute=300.0)
    here, *_ = opened(tmp_path, minute=260, settings=dict(entry_window=window), **rules)
    (ticket,) = here.desk.tickets.values()
    assert ticket.order.expires_at == OPENS + np.timedelta64(round(minutes * 60_000), "ms")


def test_spread_seller_sells_nothing_outside_full_sessions(tmp_path: Path) -> None:
    here = practising_seller(tmp_path, 3, 0, "PUT", entry_minutes=(30,))
    for at in ("2024-07-03T14:00", "2024-04-02T12:00", "2024-04-02T21:00", "2024-04-06T15:00"):
        clock: Any = lambda at=at: np.datetime64(at, "ns")  # noqa: E731
        here.market.now = clock  # type: ignore[method-assign]
        here.seller().step()
    assert not here.desk.tickets
