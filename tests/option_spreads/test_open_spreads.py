"""The file of open spreads: whole or refused, booked with every cost, and of one account."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from string import printable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.journal.events import HELD_POSITIONS_EVENT, EventLog
from execution.live.accounts import SPREADS_JOB
from execution.orders.option_orders import SpreadFill
from foundation.database import Database
from foundation.errors import InputError
from option_spreads.autoscaler.account import UnknownAccountState
from option_spreads.selling.job import SPREADS_FOLDER_EVENT, check_open_spreads_exist
from option_spreads.selling.rules import SpreadCosts, build_spread
from option_spreads.selling.state import (
    STATE_FILE,
    OpenSpread,
    SellerState,
    read_state,
    write_state,
)
from tests.e2e.practice import ROOT
from tests.support.messages import refused

ONE = OpenSpread(
    "PUT-20240402-030",
    "PUT",
    ("SPXW240402P04980000", "SPXW240402P04975000"),
    "open",
    3,
    Decimal("1.25"),
    "2024-04-02 10:00",
    Decimal("1.45"),
    balance=Decimal("20000.50"),
)
CLOSE = "2024-04-02 16:00"
CHARACTERS = st.sampled_from([*printable, "\0", "１", "é", "€"])


def test_only_legs_of_the_same_expiry_are_opposite() -> None:
    nearer = build_spread("PUT", 5005.0, distance=20, width=5)
    state = SellerState((ONE,))
    assert str(state.find_opposite_leg(nearer, date(2024, 4, 2))) == "buy 4980 put"
    assert state.find_opposite_leg(nearer, date(2024, 4, 3)) is None
    assert (
        state.find_opposite_leg(build_spread("PUT", 5010.0, distance=20, width=5), date(2024, 4, 2))
        is None
    )


def test_open_spread_stores_the_balance_that_sized_it(tmp_path: Path) -> None:
    write_state(tmp_path, SellerState((ONE,)))
    assert read_state(tmp_path).spreads == (ONE,)
    columns = ONE.to_closed_trade(SpreadCosts(), CLOSE, Decimal(0)).to_csv_row()
    assert columns["Account_Balance"] == "20000.50"
    text = (tmp_path / STATE_FILE).read_text().replace(',\n   "balance": "20000.50"', "")
    (tmp_path / STATE_FILE).write_text(text, "utf-8-sig")
    (earlier,) = read_state(tmp_path).spreads
    assert earlier == replace(ONE, balance=None)
    assert (
        "Account_Balance"
        not in earlier.to_closed_trade(SpreadCosts(), "x", Decimal(0)).to_csv_row()
    )


def test_stored_state_file_of_open_spreads_stays_readable() -> None:
    [spread] = read_state(ROOT / "tests" / "fixtures" / "spreads").spreads
    assert spread.remaining_contracts > 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("credit", word) for word in ("1_0.25", "１.25", "1e9999999")),
        *(
            ("last_cost", "1_0"),
            ("buyback_cost", "NaN"),
            ("balance", "20_000"),
            ("best_profit", "1_0"),
        ),
        *(("contracts", wrong) for wrong in ("2", "1_0", True, 0)),
        *(("options", ["SPXW240402Q04980000", "SPXW240402P04975000"]), ("bset", "1")),
    ],
)
def test_malformed_open_spread_field_is_refused(tmp_path: Path, field: str, value: object) -> None:
    write_state(tmp_path, SellerState((ONE,)))
    content = json.loads((tmp_path / STATE_FILE).read_text())
    content["spreads"][0][field] = value
    (tmp_path / STATE_FILE).write_text(json.dumps(content))
    with refused(UnknownAccountState, "spreads.0"):
        read_state(tmp_path)


@given(st.data())
def test_tampered_open_spreads_file_never_gives_invalid_spreads(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    write_state(folder, SellerState((ONE,), ("PUT-20240402-030",)))
    text = (folder / STATE_FILE).read_text()
    where = data.draw(st.integers(0, len(text) - 1))
    what = data.draw(st.text(CHARACTERS, max_size=3))
    (folder / STATE_FILE).write_text(text[:where] + what + text[where + 1 :])
    try:
        read = read_state(folder)
    except UnknownAccountState:
        return
    assert all(spread.contracts >= 1 and spread.spread.width > 0 for spread in read.spreads)


def test_truncated_or_foreign_open_spreads_file_is_refused(tmp_path: Path) -> None:
    write_state(tmp_path, SellerState((ONE,)))
    for text in ((tmp_path / STATE_FILE).read_text()[:-20], "[]", "{}x"):
        (tmp_path / STATE_FILE).write_text(text)
        with pytest.raises(UnknownAccountState):
            read_state(tmp_path)


def test_spread_trade_pays_costs_per_contract_and_order() -> None:
    """Three are sold at 1.25, one is bought back at 0.50, and two settle at 2.00."""
    half = ONE.apply_fill(SpreadFill(1, Decimal("-0.50")))
    trade = half.to_closed_trade(SpreadCosts(0.0, 0.65, 0.35), CLOSE, Decimal("2.00"))
    assert trade.total_profit == 375 - 50 - 400 - 2 * (3 + 1)


@pytest.mark.parametrize(("settled_at", "reason"), [("2.00", "settled"), ("0", "expired")])
def test_failed_buyback_books_the_actual_exit_reason(settled_at: str, reason: str) -> None:
    meant = replace(ONE, exit_reason="time", closing_attempts=1)
    assert meant.to_closed_trade(SpreadCosts(), CLOSE, Decimal(settled_at)).exit_reason == reason
    bought = meant.apply_fill(SpreadFill(3, Decimal(0)))
    assert bought.to_closed_trade(SpreadCosts(), "2024-04-02 15:50").exit_reason == "time"


def test_state_folder_lacking_the_open_spread_is_refused(tmp_path: Path) -> None:
    """A state file without the spread was changed by a person and is accepted; a missing file is
    refused.
    """
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    with closing(Database(tmp_path / "journal.sqlite")) as database:
        events = EventLog(database)
        check_open_spreads_exist(other, events)
        events.append(
            HELD_POSITIONS_EVENT, SPREADS_JOB, ["PUT-20240220-030: 2 PUT 95/90 sold at 1.2"]
        )
        for folder in (one, other):
            with refused(InputError):
                check_open_spreads_exist(folder, events)
            write_state(folder, SellerState())
            check_open_spreads_exist(folder, events)
        events.append(HELD_POSITIONS_EVENT, SPREADS_FOLDER_EVENT, [str(one)])
        check_open_spreads_exist(one, events)
        with refused(InputError, "PUT-20240220-030", one):
            check_open_spreads_exist(other, events)
        events.append(HELD_POSITIONS_EVENT, SPREADS_JOB, [])
        check_open_spreads_exist(other, events)
