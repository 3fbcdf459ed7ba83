"""Every field of the venue's answers, removed, emptied and changed: the same, or one refusal."""

# Private access: parsers of single vendor answers, tested field by field without a venue.
from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from execution.alpaca import fields
from execution.alpaca.account import AccountResponses, parse_account_reading
from execution.alpaca.broker import _asset
from execution.orders.account_snapshot import AccountSnapshot
from tests.execution.scripted_venue import Ours
from tests.support.changed_fields import VALUES, answered, said
from trainingdata.bars import check_bars
from trainingdata.feed.fields import OptionalField, RequiredField
from trainingdata.feed.market_data import _arrays


def position(symbol: str, kind: str, qty: int, price: int, multiplier: int = 1) -> dict[str, Any]:
    prices = dict.fromkeys(("current_price", "lastday_price", "avg_entry_price"), str(price))
    return {
        "symbol": symbol,
        "asset_class": kind,
        "qty": str(qty),
        "side": "long" if qty > 0 else "short",
        "qty_available": str(qty),
        "market_value": str(qty * price * multiplier),
        **prices,
    }


POSITIONS = [  # one of a kind each: a stock, a short, a coin, a foreign one, an option that is owed
    position("S0", "us_equity", 2, 10),
    position("T1", "us_equity", -3, 11),
    position("C2USD", "crypto", 4, 12),
    position("000000003", "us_equity", 5, 13),
    position("SPY260920C00004000", "us_option", -1, 14, 100),
]
HELD = [int(each["market_value"]) for each in POSITIONS]
LONG, SHORT = sum(max(value, 0) for value in HELD), sum(min(value, 0) for value in HELD)
FACTS = {
    "id": "904837e3-3b76-47ec-b432-046db621571b",
    "status": "ACTIVE",
    "crypto_status": "ACTIVE",
    "currency": "USD",
    "cash": "-25000.5",
    "non_marginable_buying_power": "-9000",
    "options_buying_power": "5000",
    "long_market_value": str(LONG),
    "short_market_value": str(SHORT),
    "equity": str(-25000.5 + LONG + SHORT),
    "multiplier": "4",
    "shorting_enabled": True,
    "trading_blocked": False,
    "account_blocked": False,
    "trade_suspended_by_user": False,
    "options_trading_level": 3,
    "options_approved_level": 3,
}
CLOCK = {
    "timestamp": "2026-03-05T12:30:20-05:00",
    "is_open": True,
    "next_close": "2026-03-05T16:00:00-05:00",
}
ASSET = {
    "tradable": True,
    "status": "active",
    "shortable": True,
    "easy_to_borrow": True,
    "fractionable": False,
    "min_trade_increment": "1",
    "min_order_size": "1",
}
NUMBERS = ("0", "2.5", "-7.5")
FACTORS = (-1, 10, Decimal("0.1"))
# Numbers that may change the account unseen, as no other field says the same; none of them changes
# equity or gross.
UNCONTRADICTED = {
    ("facts", "multiplier"): "it bounds what is borrowed",
    ("facts", "non_marginable_buying_power"): "less buys fewer coins, more is not believed",
    ("positions", "avg_entry_price"): "it says what shorts were sold for, which buys no coins",
    ("positions", "qty_available"): "it says of what nothing is ordered",
    ("orders", "qty"): "an order is described nowhere else",
    ("orders", "filled_qty"): "an order is described nowhere else",
    ("orders", "limit_price"): "an order is described nowhere else",
    ("orders", "client_order_id"): "one without it is nobody's here, and is named by the venue's",
}
DECLARED = {
    "facts": fields.AccountEntry,
    "positions": fields.PositionEntry,
    "orders": fields.OrderEntry,
    "clock": fields.ClockEntry,
}


ORDER = {
    "id": "o",
    "client_order_id": "mine-1",
    "status": "new",
    "symbol": "S0",
    "side": "sell",
    "qty": "2",
    "filled_qty": "1",
    "type": "limit",
    "time_in_force": "day",
    "limit_price": "12",
}
ANSWERS: dict[str, Any] = {
    "facts": FACTS,
    "positions": POSITIONS,
    "orders": [ORDER, {**ORDER, "id": "p", "client_order_id": "a foreign one", "symbol": "X Y"}],
    "clock": CLOCK,
}


def read(answers: dict[str, Any]) -> AccountSnapshot:
    parts = answers["facts"], answers["positions"], answers["orders"], answers["clock"]
    return parse_account_reading(AccountResponses(*parts, sent_orders=Ours())).account


def gross(account: AccountSnapshot) -> float:
    return sum(
        abs(float(qty)) * account.prices[symbol] for symbol, qty in account.positions.items()
    )


def changes() -> Iterator[tuple[str, int | None, str, Any]]:
    """Which answer, which entry of it, which field, and what it says then."""
    for name, answer in ANSWERS.items():
        numbers = range(len(answer)) if isinstance(answer, list) else [None]
        for number in numbers:
            entry = answer if number is None else answer[number]
            for field in entry:
                for value in ("removed", *VALUES, *other_numbers(field, entry[field])):
                    yield name, number, field, value


def other_numbers(field: str, value: Any) -> tuple[str, ...]:
    """What else a number might say; nothing for what is none."""
    if field == "symbol" or not isinstance(value, str):
        return ()
    try:
        number = Decimal(value)
    except ArithmeticError:
        return ()
    return (*NUMBERS, *(f"{number * factor:f}" for factor in FACTORS))


def changed(name: str, number: int | None, field: str, value: Any) -> dict[str, Any]:
    """All answers, one field of which says something else, or is gone."""
    answer = ANSWERS[name]
    if number is None:
        return {**ANSWERS, name: said(answer, field, value)}
    entry = said(answer[number], field, value)
    return {**ANSWERS, name: [*answer[:number], entry, *answer[number + 1 :]]}


def test_corrupted_account_field_never_silently_changes_the_account() -> None:
    """A corrupted field never gives a different equity or an unexpected exception: an unnoticed
    error would be traded on.
    """
    expected = read(ANSWERS)
    refused = 0
    unseen = set()
    for name, number, field, value in changes():
        answers = changed(name, number, field, value)
        what = (name, number, field, value)
        account, why = answered(lambda answers=answers: read(answers))
        if account is None:
            assert field in why or "price" in why or "qty" in why, what
            assert "\n" not in why
            refused += 1
            continue
        assert account.equity == pytest.approx(expected.equity), what
        assert gross(account) == pytest.approx(gross(expected)), what
        if value not in ("removed", *VALUES) or value == 7.5:
            unseen |= {(name, field)} if account != expected else set()
            continue
        assert account.max_leverage in (4.0, 1.0), what
        assert account.max_leverage == 4.0 or field == "multiplier", what
    assert unseen == set(UNCONTRADICTED)
    assert refused > 350


def test_every_parsed_account_field_is_tested() -> None:
    """A declared field that is not varied here would be untested."""
    for name, declared in DECLARED.items():
        answer = ANSWERS[name]
        entry = answer[0] if isinstance(answer, list) else answer
        for attribute, field in vars(declared).items():
            for each in field if isinstance(field, tuple) else (field,):
                if isinstance(each, RequiredField | OptionalField) and name != "orders":
                    assert each.name in entry, (name, attribute)


@pytest.mark.parametrize("field", ASSET)
def test_corrupted_asset_field_never_grants_permissions(field: str) -> None:
    whole = _asset("NVDA", ASSET)
    for value in ("removed", *VALUES):
        answer = said(ASSET, field, value)
        asset, why = answered(lambda answer=answer: _asset("NVDA", answer))
        if asset is None:
            assert field in why
            continue
        assert asset.tradable <= whole.tradable
        assert asset.shortable <= whole.shortable
        assert asset.fractionable <= (value is True)
        assert asset.easy_to_borrow is (field != "easy_to_borrow" or value is True)


BAR = {"t": "2024-03-05T17:30:00Z", "o": 10.0, "h": 12, "l": 9.5, "c": 11.0, "v": 5}


@pytest.mark.parametrize("field", BAR)
def test_corrupted_bar_field_never_silently_changes_a_bar(field: str) -> None:
    starts, values = _arrays([BAR])
    refused = 0
    for value in ("removed", *VALUES):
        try:
            bar = _arrays([said(BAR, field, value)])
            check_bars(*bar, "bars")
        except (ValueError, TypeError):
            refused += 1
            continue
        assert value == 7.5 or (bar[0] == starts and np.array_equal(bar[1], values)), (field, value)
    assert refused >= 8
