"""What the venue lists of an account, in its words: every kind, and every field of each."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from execution.alpaca.activities import parse_activity
from execution.alpaca.fields import ActivityEntry
from foundation.decimals import format_without_exponent
from foundation.errors import InvalidResponse
from tests.support.changed_fields import VALUES
from tests.support.messages import refused
from trainingdata.feed.fields import OptionalField, RequiredField

MIDNIGHT = np.datetime64("2024-03-05T05:00", "ns")
REORGANISATIONS = ("REO", "REOS", "REOC", "REOSC")
CALL = "SPY240920C00500000"


def entry(name: str, kind: str, **more: Any) -> dict[str, Any]:
    """An entry of a day. Numbers are texts, as the venue writes them."""
    shared = {"date": "2024-03-05", "status": "executed", "net_amount": "0"}
    return {**shared, "id": name, "activity_type": kind, **more}


TRADE = {
    "id": "20240305173000000::1",
    "activity_type": "FILL",
    "type": "partial_fill",
    "transaction_time": "2024-03-05T17:30:01.5Z",
    "symbol": "BTC/USD",
    "qty": "0.5",
    "price": "40000",
    "side": "buy",
    "order_id": "904837e3",
}
SALE = {**TRADE, "symbol": "NVDA", "side": "sell_short", "qty": "3", "price": "9.5"}
OPTION = {**TRADE, "symbol": CALL, "side": "sell", "qty": "2", "price": "1.25"}
DIVIDEND = {"activity_sub_type": "CDIV", "qty": "2", "per_share_amount": "0.51"}
SHARES = {"activity_sub_type": "SDIV", "symbol": "SBS", "qty": "0.002709921"}
COIN = {"symbol": "ETHUSD", "cusip": "ETH1", "qty": "-0.000195", "price": "1884.5"}
DELIVERY = {"symbol": "SPY", "qty": "200", "price": "500", "net_amount": "-100000"}
# A kind of each; symbol, quantity and USD that it changes.
ENTRIES: dict[str, tuple[dict[str, Any], tuple[str, str, str]]] = {
    "trade": (TRADE, ("BTCUSD", "0.5", "-20000")),
    "sale": (SALE, ("NVDA", "-3", "28.5")),
    "option": (OPTION, (CALL, "-2", "250")),
    "deposit": (entry("d", "CSD", net_amount="1000"), ("", "0", "1000")),
    "dividend": (entry("v", "DIV", net_amount="1.02", symbol="T", **DIVIDEND), ("T", "0", "1.02")),
    "shares": (entry("w", "DIV", **SHARES), ("SBS", "0.002709921", "0")),
    "coin fee": (entry("f", "CFEE", **COIN), ("ETHUSD", "-0.000195", "0")),
    "dollar fee": (entry("g", "CFEE", qty="0", net_amount="-2.21"), ("", "0", "-2.21")),
    "split": (entry("s", "SPLIT", symbol="XRPT", qty="-33"), ("XRPT", "-33", "0")),
    "merger": (entry("m", "MA", cusip="037833100", qty="-5"), ("?037833100", "-5", "0")),
    "expiry": (entry("e", "OPEXP", symbol=CALL, qty="-2"), (CALL, "-2", "0")),
    "delivery": (entry("o", "OPTRD", **DELIVERY), ("SPY", "200", "-100000")),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_every_activity_kind_books_its_change_unless_cancelled(name: str) -> None:
    said, changes = ENTRIES[name]
    read = parse_activity(said)
    assert (
        read.symbol,
        format_without_exponent(read.quantity),
        format_without_exponent(read.amount),
    ) == changes
    trade = read.is_trade
    assert read.at == (np.datetime64("2024-03-05T17:30:01.5", "ns") if trade else MIDNIGHT)
    assert read.venue_order_id == ("904837e3" if trade else "")
    back = parse_activity({**said, "status": "canceled"})
    assert (back.quantity, back.amount, back.id) == (0, 0, said["id"])


@pytest.mark.parametrize(
    ("venue_type", "fields", "kind"),
    [
        ("REORG", {"activity_sub_type": "WRM", "qty": "-5"}, "worthless removal"),
        ("REORG", {"qty": "-5", "net_amount": "20"}, "other"),
        ("REORG", {"qty": "5"}, "other"),
        *((name, {"qty": "-5", "net_amount": "20"}, "other") for name in REORGANISATIONS),
        ("SPIN", {"qty": "5"}, "other"),
        ("NC", {"qty": "-5"}, "other"),
        ("INVPNL", {"net_amount": "20"}, "other"),
        ("OCT", {"symbol": "BTC/USD", "qty": "0.5"}, "share transfer"),
        ("OCT", {"symbol": "BTC/USD", "qty": "0.5", "net_amount": "20"}, "other"),
        ("FOPT", {"qty": "5"}, "share transfer"),
        ("INTNRA", {"net_amount": "-2"}, "interest"),
    ],
)
def test_activity_types_are_booked_as_documented(
    venue_type: str, fields: dict[str, str], kind: str
) -> None:
    read = parse_activity(entry("x", venue_type, **{"symbol": "XRPT", **fields}))
    assert (read.kind, read.exchanges_cash_for_position) == (kind, False)


NUMBERS = ("0", "7.5", "-7.5")
# What an entry says once: another value there is another activity, and nothing contradicts it.
SAID_ONCE = {
    "id": "what is listed once is known by it",
    "activity_sub_type": "only a dividend in shares changes a position",
    "symbol": "a security without one has a CUSIP, and cash has neither",
    "cusip": "it counts where there is no symbol",
    "qty": "positions, which are compared with the sum, say the same",
    "price": "nothing is reckoned with it but what a trade paid",
    "net_amount": "cash says the same",
    "order_id": "a fill without one is of no intent",
}
ABOUT = ("symbol", "cusip", "qty")  # without a symbol a quantity has no meaning


def test_corrupted_activity_field_cannot_silently_change_a_booking() -> None:
    refused = 0
    unseen = set()
    cases = [(name, field) for name, (said, _) in ENTRIES.items() for field in said]
    for (name, field), value in ((c, v) for c in cases for v in ("removed", *VALUES, *NUMBERS)):
        said, what = ENTRIES[name][0], (name, field, value)
        whole = parse_activity(said)
        try:
            read = parse_activity(
                {k: v for k, v in {**said, field: value}.items() if v != "removed"}
            )
        except InvalidResponse as error:
            refused += 1
            why = str(error)
            assert "\n" not in why
            assert field == "id" or said["id"] in why, what
            words = (field, "quantity") if field in ABOUT else (field,)
            assert any(word in why for word in words), (what, why)
            continue
        if read != whole:
            unseen.add(field)
            assert (read.kind, read.at) == (whole.kind, whole.at), what
    assert unseen == set(SAID_ONCE)
    assert refused > 400
    written = {field for _, field in cases}
    for attribute, declared in vars(ActivityEntry).items():
        if isinstance(declared, RequiredField | OptionalField):
            assert declared.name in written, f"{attribute} is read, and not in this test"


@pytest.mark.parametrize(
    ("name", "field", "values", "facts"),
    [
        ("trade", "symbol", (None, ""), ("symbol",)),
        ("trade", "qty", (None, "", "0", "-1"), ("qty",)),
        ("trade", "price", (None, ""), ("price",)),
        ("deposit", "net_amount", (None, ""), ("net_amount",)),
        ("split", "symbol", (None,), ("s", "quantity -33")),
    ],
)
def test_money_and_trade_activities_require_every_field(
    name: str, field: str, values: tuple[Any, ...], facts: tuple[str, ...]
) -> None:
    for value in values:
        with refused(InvalidResponse, *facts):
            parse_activity({**ENTRIES[name][0], field: value})


@pytest.mark.parametrize("quantity", ["0.000195", "-0.000195"])
def test_crypto_fee_is_deducted_whatever_its_sign(quantity: str) -> None:
    read = parse_activity({**ENTRIES["coin fee"][0], "qty": quantity})
    assert read.quantity == Decimal("-0.000195")


@pytest.mark.parametrize(
    ("day", "midnight"),
    [
        ("2024-03-10", "2024-03-10T05:00"),  # the clocks change at two on this day
        ("2024-03-11", "2024-03-11T04:00"),
        ("2024-11-03", "2024-11-03T04:00"),
        ("2024-11-04T00:00:00Z", "2024-11-04T05:00"),
        ("1990-01-01", "1990-01-01T05:00"),
        ("2200-12-31", "2200-12-31T05:00"),
        *((day, None) for day in ("2024-02-30", "20240305", 20240305, "2024-03-05T12:00:00Z")),
        *((f"{year}-01-01", None) for year in ("0001", "2201", "9999")),
        ("1989-12-31", None),
    ],
)
def test_activity_date_is_read_as_new_york_midnight(day: Any, midnight: str | None) -> None:
    said = {**ENTRIES["deposit"][0], "date": day}
    if midnight is None:
        with refused(InvalidResponse, "d", "date"):
            parse_activity(said)
    else:
        assert parse_activity(said).at == np.datetime64(midnight, "ns")
