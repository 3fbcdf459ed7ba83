"""Optional fields of Alpaca's answers may be absent or null: the account stays readable.

The document of 2026-06-29 requires `id` and `status` of an account, `type`, `default_time_in_force`
and `notional` of an order, and nothing of an activity; `qty_available` of a position is optional,
and alpaca-py lets its prices and profits be null.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from execution.alpaca import fields
from execution.orders.account_snapshot import AccountSnapshot
from foundation.errors import BrokerError
from tests.e2e.changed_answers import changed_answers
from tests.e2e.practice import OPENING, Practice, Start, broker, forgotten, order
from tests.support import desks
from tests.support.spreads import AT, options, put, spreads
from trainingdata.feed.fields import OptionalField, RequiredField

ABSENT = object()
WAYS = (ABSENT, None)
REQUIRED = {
    "/v2/account": {"id", "status"},
    "/v2/orders": {"type", "time_in_force", "notional"},
    "/v2/positions": {
        *("asset_id", "symbol", "exchange", "asset_class", "qty", "side", "avg_entry_price"),
        *("cost_basis", "asset_marginable"),
    },
}
READ = {
    "/v2/account": fields.AccountEntry,
    "/v2/orders": fields.OrderEntry,
    "/v2/positions": fields.PositionEntry,
}


def names_read(path: str) -> set[str]:
    """Return the optional fields of an answer that we read."""
    found = set()
    for declared in vars(READ[path]).values():
        for field in declared if isinstance(declared, tuple) else (declared,):
            if isinstance(field, RequiredField | OptionalField):
                found.add(field.name)
    return found - REQUIRED[path]


def cases() -> Iterator[tuple[str, str, Any]]:
    for path in READ:
        for name in sorted(names_read(path)):
            for way in WAYS:
                yield path, name, way


def without(answer: Any, name: str, way: Any) -> Any:
    """An answer, each of its entries without a field, or with null in it."""
    if isinstance(answer, list):
        return [without(entry, name, way) for entry in answer]
    if not isinstance(answer, dict):
        return answer
    changed = {**answer, name: None} if name in answer else answer
    return {k: v for k, v in changed.items() if k != name or way is None}


@contextmanager
def lacking(here: Practice, path: str, name: str, way: Any) -> Iterator[Practice]:
    """A practice server that leaves a field out of its answers about something."""

    def change(method: str, asked: str, answer: Any) -> Any:
        del method
        return without(answer, name, way) if asked.startswith(path) else answer

    with changed_answers(here, change) as seen:
        yield seen


@pytest.fixture(scope="module")
def held() -> Iterator[Practice]:
    """An account with a long, a short, crypto and an open order of ours."""
    from tests.e2e.practice import practising

    with practising() as start:
        here = start("symbols=[SYA,SYB,SYXUSD]")
        ours = broker(here)
        # Stocks trade at half past, crypto at the full hour.
        here.advance("2024-02-20T16:30:00Z")
        ours.submit([order("long"), order("short", "SYB", "sell", "5")])
        here.advance("2024-02-20T17:00:00Z")
        ours.submit([order("crypto", "SYXUSD", qty="0.5", tif="gtc")])
        here.advance("2024-02-20T17:30:00Z")
        yield here


def read(here: Practice, book: Any) -> AccountSnapshot:
    return broker(here, book=book).account()


def test_missing_response_field_leaves_the_account_readable(held: Practice) -> None:
    """The account then counts nothing twice, and grants no more leverage or crypto purchases than
    before.
    """
    _, book = forgotten()
    waiting = order("waits", "SYA", "sell", "2", type="limit", limit_price=1e4, tif="gtc")
    ours = broker(held, book=book)
    ours.account()
    ours.submit([waiting])
    whole = ours.account()
    assert set(whole.positions) == {"SYA", "SYB", "SYXUSD"}
    unread = {}
    for path, name, way in cases():
        with lacking(held, path, name, way) as seen:
            try:
                account = read(seen, book)
            except BrokerError as error:
                unread[path, name, way is None] = str(error)
                continue
        what = (path, name, way is None)
        known = {s: q for s, q in account.positions.items() if s not in account.uncertain_symbols}
        assert known.items() <= whole.positions.items(), what
        assert account.max_leverage <= whole.max_leverage, what
        assert account.cash == pytest.approx(whole.cash), what
        exposed = {s: abs(q) for s, q in account.projected_positions.items()}
        assert all(exposed.get(s, 0) <= abs(q) for s, q in whole.positions.items()), what
    assert not unread
    ours.cancel(["waits"])


def test_open_order_lacking_fields_is_read_as_sent(held: Practice) -> None:
    _, book = forgotten()
    ours = broker(held, book=book)
    ours.account()
    ours.submit([order("brief", "SYA", "sell", "2", type="limit", limit_price=1e4, tif="gtc")])
    for name in ("side", "symbol", "qty"):
        with lacking(held, "/v2/orders", name, ABSENT) as seen:
            (open_order,) = read(seen, book).open_orders
        assert (open_order.symbol, open_order.side) == ("SYA", "sell")
        assert open_order.qty == 2
    ours.cancel(["brief"])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "name", sorted({*names_read("/v2/orders")} - {"id", "status", "legs", "replaced_by"})
)
def test_fill_is_booked_despite_missing_optional_field(held: Practice, name: str, way: Any) -> None:
    """A missing field of a fill leaves its order open; the account trades on."""
    _, book = forgotten()
    label = f"fill-{name}-{'null' if way is None else 'absent'}"
    with lacking(held, "/v2/orders", name, way) as seen:
        ours = broker(seen, book=book)
        ours.account()
        fills = []
        with suppress(BrokerError):
            fills = ours.submit([order(label, "SYA", "buy", "1")])
        ours.account()
    if not fills:
        broker(held, book=book).refresh_open_orders()
        intent = book.get(label)
        assert intent is not None
        assert intent.progress.filled in (0, 1)
    else:
        assert [(fill.symbol, fill.qty) for fill in fills] == [("SYA", Decimal(1))]


ACTIVITY = {"activity_type": "DIV", "net_amount": "1.5", "symbol": "SYA"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["date", "net_amount", "symbol", "qty", "id", "activity_type"])
def test_unreadable_activity_is_alerted_without_halting_trading(
    practice: Start, tmp_path: Path, name: str, way: Any
) -> None:
    here = practice("symbols=[SYA,SYB]")
    here.advance(OPENING)
    told: list[str] = []

    def change(method: str, asked: str, answer: Any) -> Any:
        del method
        if not asked.startswith("/v2/account/activities"):
            return answer
        row = {"id": "20240220::x", "date": "2024-02-20", "qty": "1", **ACTIVITY, "net_amount": "0"}
        return [*answer, without(row, name, way)]

    with changed_answers(here, change) as seen:
        desk = desks.Desk.at(seen, tmp_path, "forecaster=ewma", "sizing.strategy=equal_weight")
        desk.live.notices.alert = lambda kind, text: told.append(f"{kind}: {text}")
        desk.job.step()
        assert desk.cycles[-1].decision is not None
        assert not desk.live.halts.active()
    unread = [text for text in told if text.startswith("unread: ")]
    if name in ("date", "id", "activity_type"):
        assert unread
        assert f"{name} is missing" in unread[0]
    else:
        assert not unread


def test_spread_is_filled_despite_missing_response_fields(practice: Start, vix: Path) -> None:
    """A missing field in the response to a multi-leg order affects only that order."""
    here = options(practice, vix, "capital=1000000")
    here.advance(AT)
    filled = set()
    for number, name in enumerate(sorted(names_read("/v2/orders"))):
        for way in WAYS:
            spread = put(f"spread-{number}-{way is None}")
            with lacking(here, "/v2/orders", name, way) as seen, suppress(BrokerError):
                fill = spreads(seen).submit(spread)
                assert fill.contracts == 1
                filled.add(name)
            assert spreads(here).option_positions()
    assert filled >= {"side", "symbol", "updated_at", "filled_at", "client_order_id", "order_class"}
