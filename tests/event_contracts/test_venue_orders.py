"""Orders and fills survive the way into the venue's words and back; nonsense is told by field."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from event_contracts.trading.orders import (
    ContractAction,
    ContractTimeInForce,
    EventContractOrder,
    Outcome,
)
from event_contracts.trading.venue_orders import (
    VenueFill,
    VenueOrder,
    book_side,
    build_order_request,
    to_action_and_side,
    to_resting_order,
)
from execution.journal.order_store import OrderIntent
from execution.journal.orders import decode_order as journaled
from execution.journal.orders import encode_order
from foundation.errors import InvalidResponse
from practice.kalshi.orders import OrderRequest
from tests.e2e.practice import ROOT
from tests.event_contracts.practice import FILL, ORDER
from tests.support.messages import refused

D = Decimal
MODELS = ROOT.parent / "shared" / "venues" / "kalshi_models.json"
AT = np.datetime64("2026-11-22T15:00:00.500", "ns")


@st.composite
def orders(draw: st.DrawFn) -> EventContractOrder:
    action: ContractAction = draw(st.sampled_from(["BUY", "SELL"]))
    side: Outcome = draw(st.sampled_from(["YES", "NO"]))
    price = D(draw(st.integers(1, 9999))) / 10_000
    count = D(draw(st.integers(1, 10**6))) / 100
    force: ContractTimeInForce = draw(st.sampled_from(get_args(ContractTimeInForce)))
    return EventContractOrder("o-1", "RAIN", action, side, price, count, time_in_force=force)


def intent_of(order: EventContractOrder) -> OrderIntent:
    return OrderIntent(replace(order, expires_at=AT), AT)


@given(orders())
def test_contract_order_round_trips_through_the_journal(order: EventContractOrder) -> None:
    intent = intent_of(order)
    kept = json.loads(json.dumps(encode_order(order)))
    assert journaled("o-1", kept) == order
    assert to_resting_order(intent).order == intent.order
    assert to_action_and_side(book_side(order.action, order.side), order.action == "SELL") == (
        order.action,
        order.side,
    )


@given(orders())
def test_order_request_is_expressed_in_yes_prices(order: EventContractOrder) -> None:
    request = build_order_request(replace(order, expires_at=AT))
    pays = D(request["price"]) if request["side"] == "bid" else 1 - D(request["price"])
    # A purchase pays its own price; a sale pays what it gives up of the pair.
    assert pays == (order.price if order.action == "BUY" else 1 - order.price)
    prevention = "maker" if order.action == "SELL" else "taker_at_cross"
    assert request["self_trade_prevention_type"] == prevention
    assert request["time_in_force"] == order.time_in_force
    assert D(request["count"]) == order.count


@given(orders())
def test_order_request_omits_fields_the_venue_refuses(order: EventContractOrder) -> None:
    """`reduce_only` is only for immediate-or-cancel orders, an expiration only for resting ones."""
    request = build_order_request(replace(order, expires_at=AT))
    force = request["time_in_force"]
    assert request.get("expiration_time") == (1795359600 if force == "good_till_canceled" else None)
    assert request["reduce_only"] == (order.action == "SELL" and force == "immediate_or_cancel")
    assert OrderRequest.parse({**request, "count": "5.00"}).time_in_force == force


@pytest.mark.skipif(not MODELS.exists(), reason="no schemas of Kalshi's own client")
@given(orders())
def test_order_request_satisfies_kalshis_official_client_schema(order: EventContractOrder) -> None:
    schema = json.loads(MODELS.read_text())["schemas"]["CreateOrderV2Request"]
    request = build_order_request(replace(order, expires_at=AT))
    assert set(schema["required"]) <= set(request) <= set(schema["properties"])
    Draft202012Validator(schema).validate(request)


@given(orders(), st.data())
def test_order_creation_response_matches_the_sent_order(
    order: EventContractOrder, data: st.DataObject
) -> None:
    filled = D(data.draw(st.integers(0, int(order.count * 100)))) / 100
    rest = data.draw(st.sampled_from([order.count - filled, D(0)]))
    answer = {
        "order_id": "v-1",
        "client_order_id": "o-1",
        "fill_count": f"{filled:.2f}",
        "remaining_count": f"{rest:.2f}",
    }
    taken = VenueOrder.from_response(intent_of(order), answer)
    assert taken.matches(intent_of(order))
    assert taken.progress.filled == filled
    state = "accepted" if rest else "filled" if filled == order.count else "canceled"
    assert taken.progress.state == state
    if rest:
        resting = taken.to_resting_order(order.action == "SELL")
        assert (resting.order.action, resting.order.side) == (order.action, order.side)
        assert (resting.order.price, resting.remaining_count) == (order.price, rest)


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"client_order_id": "o-2"}, ()),
        ({"fill_count": 4}, ("fill_count",)),
        ({"fill_count": "-1.00"}, ("fill_count", "0")),
        ({"remaining_count": "1e99"}, ("remaining_count",)),
        ({"remaining_count": "10.01"}, ("fill_count", "remaining_count")),
    ],
)
def test_response_to_a_different_order_is_refused(
    change: dict[str, Any], facts: tuple[str, ...]
) -> None:
    intent = intent_of(EventContractOrder("o-1", "RAIN", "BUY", "YES", D("0.30"), D(10)))
    answer = {
        "order_id": "v-1",
        "client_order_id": "o-1",
        "fill_count": "0.00",
        "remaining_count": "10.00",
    }
    with refused(InvalidResponse, *facts):
        VenueOrder.from_response(intent, {**answer, **change})


@pytest.mark.parametrize(
    ("kind", "entry", "name", "value"),
    [
        *((VenueOrder, ORDER, name, None) for name in ORDER if name != "client_order_id"),
        *(
            (VenueFill, FILL, name, None)
            for name in FILL
            if name not in ("is_taker", "created_time")
        ),
        *((VenueOrder, ORDER, name, ["x"]) for name in ORDER if name != "client_order_id"),
        *((VenueFill, FILL, name, ["x"]) for name in FILL),
        (VenueOrder, ORDER, "book_side", "no"),
        (VenueOrder, ORDER, "status", "pending"),
        *((VenueOrder, ORDER, "yes_price_dollars", value) for value in ("1.01", 0.56, "0.000000")),
        (VenueOrder, ORDER, "fill_count_fp", "0.001"),
        (VenueOrder, ORDER, "remaining_count_fp", "NaN"),
    ],
)
def test_missing_or_empty_venue_field_is_named(
    kind: Any, entry: dict[str, Any], name: str, value: Any
) -> None:
    with refused(InvalidResponse, name):
        kind.parse({**entry, name: value})


def test_manual_resting_order_counts_as_a_full_purchase() -> None:
    resting = replace(VenueOrder.parse(ORDER), client_order_id="").to_resting_order(reduces=False)
    assert (resting.order_id, resting.order.client_order_id) == ("v-1", "v-1")
    assert (resting.order.action, resting.order.side) == ("BUY", "NO")
    assert (resting.order.price, resting.remaining_count) == (D("0.44"), 6)
