"""Activities of an account at Alpaca: trades, fees, dividends, splits, transfers."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np

from execution.alpaca.connection import JsonObject, VenueConnection
from execution.alpaca.fields import ActivityEntry
from execution.brokers import parse_venue_symbol
from execution.journal.activities import (
    KINDS_WITHOUT_CASH,
    NOT_UNDERSTOOD,
    Activity,
    ActivityKind,
    trade_cash_change_usd,
)
from foundation.decimals import EXACT_CONTEXT
from foundation.errors import InvalidResponse, to_one_line
from trainingdata.feed.fields import parse_object_list
from trainingdata.instants import DAY

log = logging.getLogger(__name__)

ACTIVITIES_PER_PAGE = 100
_KIND_BY_ACTIVITY_TYPE: Mapping[str, ActivityKind] = {
    "FILL": "trade",
    # Cash by journal, by wire, from another broker.
    "ACATC": "transfer",
    "CSD": "transfer",
    "CSR": "transfer",
    "CSW": "transfer",
    "JNL": "transfer",
    "JNLC": "transfer",
    "TRANS": "transfer",
    # Transfers of shares without payment, between accounts or brokers; OCT: crypto on-chain.
    "ACATS": "share transfer",
    "FOPT": "share transfer",
    "JNLS": "share transfer",
    "OCT": "share transfer",
    "CGD": "dividend",
    "INT": "interest",
    "INTNRA": "interest",
    "INTTW": "interest",
    "FEE": "fee",
    "PTC": "fee",
    "PTR": "fee",
    "CFEE": "coin fee",
    "SPLIT": "split",
    "SSP": "split",
    "CIL": "split",
    "MA": "merger",
    # Since 2026-08-27 documented as worthless removal alone; REO is any other reorganisation.
    "REORG": "worthless removal",
}


def activities_since(connection: VenueConnection, after: np.datetime64) -> list[Activity]:
    """Return all activities of the account after an instant, oldest first.

    An activity with a date but no time is included if its date is after the instant; the venue
    often lists such activities late. An unreadable activity is skipped, and described in the
    connection's `unreadable_activities`. The account's positions and cash still include its effect.
    """
    activities, unreadable_activities = [], []
    with connection.translate_errors("activities"):
        for row in _fetch_entries_since(connection, after):
            try:
                activities.append(parse_activity(row))
            except InvalidResponse as error:
                unreadable_activities.append(_describe_unreadable(row, error.why))
        _refuse_future_trades(connection, activities)
    connection.unreadable_activities = tuple(unreadable_activities)
    return sorted(activities, key=lambda activity: activity.at)


def _describe_unreadable(entry: JsonObject, why: str) -> str:
    """Describe an unreadable activity by its symbol, its type and the reason."""
    symbol, kind = (str(entry.get(name) or "") for name in ("symbol", "activity_type"))
    return to_one_line(f"{symbol or 'no symbol'} {kind or 'no activity_type'}: {why}")


def parse_activity(entry: JsonObject) -> Activity:
    """Return the activity that an entry of the venue's list describes.

    A cancelled activity is returned with quantity 0 and amount 0.

    Raises
    ------
    InvalidResponse
        for an entry that cannot be read.
    """
    name = ActivityEntry.id.read(entry)
    try:
        kind = parse_activity_kind(ActivityEntry.activity_type.read(entry))
        canceled = ActivityEntry.status.read(entry) == "canceled"
        activity = (
            _parse_trade(entry, name) if kind == "trade" else _parse_booking(entry, name, kind)
        )
    except InvalidResponse as error:
        raise InvalidResponse(f"activity {name}: {error.why}") from None
    except ValueError as error:
        raise InvalidResponse(str(error)) from None
    # An activity that the venue has cancelled stays listed, without effect.
    return replace(activity, quantity=Decimal(0), amount=Decimal(0)) if canceled else activity


def parse_activity_kind(activity_type: str) -> ActivityKind:
    """Convert the venue's activity type, such as CFEE, to the journal's kind of activity.

    An unknown type, or a type with undocumented effects on the account, is `NOT_UNDERSTOOD`.
    """
    if activity_type.startswith("DIV"):
        return "dividend"
    return (
        "option"
        if activity_type.startswith("OP")
        else _KIND_BY_ACTIVITY_TYPE.get(activity_type, NOT_UNDERSTOOD)
    )


def _parse_trade(entry: JsonObject, name: str) -> Activity:
    symbol = _symbol_of(entry)
    if not symbol:
        raise InvalidResponse("symbol is missing")
    size = ActivityEntry.trade_qty.read(entry)
    quantity = size if ActivityEntry.side.read(entry) == "buy" else size.copy_negate()
    price = ActivityEntry.trade_price.read(entry)
    return Activity(
        id=name,
        kind="trade",
        at=ActivityEntry.transaction_time.read(entry),
        symbol=symbol,
        quantity=quantity,
        price=price,
        amount=trade_cash_change_usd(symbol, quantity, price),
        venue_order_id=ActivityEntry.order_id.read(entry),
    )


def _parse_booking(entry: JsonObject, name: str, kind: ActivityKind) -> Activity:
    field = ActivityEntry.transfer_amount if kind == "transfer" else ActivityEntry.net_amount
    quantity, amount = _parse_booked_quantity(entry, kind), field.read(entry)
    is_removal = kind == "worthless removal"
    if (amount and kind in KINDS_WITHOUT_CASH) or (quantity > 0 and is_removal):
        kind = NOT_UNDERSTOOD
    return Activity(
        id=name,
        kind=kind,
        at=ActivityEntry.date.read(entry),
        symbol=_symbol_of(entry),
        quantity=quantity,
        price=ActivityEntry.price.read(entry),
        amount=amount,
        venue_order_id=ActivityEntry.order_id.read(entry),
        venue_type=ActivityEntry.activity_type.read(entry),
    )


def _parse_booked_quantity(entry: JsonObject, kind: ActivityKind) -> Decimal:
    """Return the signed change of position by a booking (an activity other than a trade)."""
    quantity = ActivityEntry.qty.read(entry)
    # A dividend's quantity is the number of shares that it was paid for, unless it was paid in
    # shares.
    if kind == "dividend" and ActivityEntry.activity_sub_type.read(entry) != "SDIV":
        return Decimal(0)
    # A fee always reduces. Alpaca writes it below 0, the practice server without a sign.
    return EXACT_CONTEXT.minus(EXACT_CONTEXT.abs(quantity)) if kind == "coin fee" else quantity


def _symbol_of(entry: JsonObject) -> str:
    """Return the symbol of an activity; without one, a placeholder for the security's CUSIP.

    The result is empty if the activity concerns no security.
    """
    name = ActivityEntry.symbol.read(entry) or ActivityEntry.cusip.read(entry)
    return parse_venue_symbol(name) if name else ""


def _fetch_entries_since(connection: VenueConnection, after: np.datetime64) -> list[JsonObject]:
    rows: list[JsonObject] = []
    query: dict[str, Any] = {
        "after": f"{after}Z",
        "direction": "asc",
        "page_size": ACTIVITIES_PER_PAGE,
    }
    listed: set[str] = set()
    while True:
        page = parse_object_list(connection.client.get("/account/activities", query))
        for row in page:
            name = ActivityEntry.optional_id.read(row)
            if name in listed:
                raise InvalidResponse(f"the list contains activity {name} twice")
            if name is not None:
                listed.add(name)
        rows += page
        if len(page) < ACTIVITIES_PER_PAGE:
            return rows
        log.info("activities: read %d so far, requesting the next page", len(rows))
        query = {**query, "page_token": ActivityEntry.id.read(page[-1])}


def _refuse_future_trades(connection: VenueConnection, activities: Sequence[Activity]) -> None:
    """Reject activities with a trade dated more than a day after the venue's present time.

    The next query starts from the last trade, and would miss all activities before that date.
    """
    trades = [activity for activity in activities if activity.is_trade]
    last = max(trades, key=lambda activity: activity.at, default=None)
    if last is None or last.at <= connection.estimated_now() + DAY:
        return
    # The venue's clock may have been set forward since it was read.
    now = connection.now()
    if last.at > now + DAY:
        raise InvalidResponse(
            f"activity {last.id}: trade time {last.at} is later than the venue's clock, {now}"
        )
