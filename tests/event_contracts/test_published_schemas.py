"""Our requests and the practice venue's answers against Kalshi's published schemas.

With `../shared/venues` beside the checkout both are validated against Kalshi's own schemas, and
the rules in `venue_words` are compared with them. Without it the rules in words hold alone. Answers
are also parsed in Kalshi's client where KALSHI_CLIENT_PYTHON names a Python that has it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from event_contracts.trading.endpoint import API_ROOT, HttpStatusError, KalshiConnection
from event_contracts.trading.fees import KalshiFees
from event_contracts.trading.listings import MarketFees
from event_contracts.trading.orders import EventContractOrder, Outcome
from event_contracts.trading.venue_orders import NEW_ORDERS_PATH, build_order_request
from practice.kalshi_server import KalshiServer
from tests.e2e.kalshi_desk import flat, kalshi_stand, order, quotes
from tests.event_contracts.practice import KEYS
from tests.event_contracts.venue_words import ANSWERS, CREATE_REQUEST, faults_of

VENUES = Path(__file__).resolve().parents[3] / "shared" / "venues"
published = pytest.mark.skipif(not VENUES.is_dir(), reason="no published schemas")
LATER = np.datetime64("2100-01-01", "ns")

# Each read of the practice venue, and the model of its answer in Kalshi's client.
READS = {
    "/portfolio/orders": "GetOrdersResponse",
    "/portfolio/orders/{name}": "GetOrderResponse",
    "/portfolio/fills": "GetFillsResponse",
    "/portfolio/positions": "GetPositionsResponse",
    "/portfolio/settlements": "GetSettlementsResponse",
    "/portfolio/balance": "GetBalanceResponse",
    "/exchange/status": "ExchangeStatus",
    "/markets": "GetMarketsResponse",
    "/markets/{name}": "GetMarketResponse",
    "/markets/{name}/orderbook": "GetMarketOrderbookResponse",
    "/events/{name}": "GetEventResponse",
    "/series/{name}": "GetSeriesResponse",
}
MODELS = {
    **{("GET", path): model for path, model in READS.items()},
    ("POST", NEW_ORDERS_PATH): "CreateOrderV2Response",
    ("DELETE", f"{NEW_ORDERS_PATH}/{{name}}"): "CancelOrderV2Response",
}


@dataclass(frozen=True)
class Exchanged:
    """A request and its answer; path: what follows /trade-api/v2."""

    method: str
    path: str
    query: Mapping[str, Any]
    body: Mapping[str, Any] | None
    answer: Mapping[str, Any]

    @property
    def model(self) -> str:
        """The model of the answer in Kalshi's client."""
        for (method, path), model in MODELS.items():
            pattern = path.replace("{name}", "[^/]+")
            if method == self.method and re.fullmatch(pattern, self.path):
                return model
        raise AssertionError(f"no model is named for {self.method} {self.path}")


@dataclass
class Traffic:
    """The exchanges of one account with a practice venue.

    ours: what our client sent. read: what other reads were answered with. refused: refusals.
    """

    ours: list[Exchanged] = field(default_factory=list)
    read: list[Exchanged] = field(default_factory=list)
    refused: list[Mapping[str, Any]] = field(default_factory=list)
    routes: set[tuple[str, str]] = field(default_factory=set)

    @property
    def answers(self) -> list[tuple[str, Mapping[str, Any]]]:
        return [(each.model, each.answer) for each in (*self.ours, *self.read)]


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    """An account that buys, sells, cancels, looks for a lost order and is paid out."""
    found = Traffic()
    request = KalshiConnection.request

    def recorded(
        connection: KalshiConnection, method: str, path: str, query: Any = None, body: Any = None
    ) -> Mapping[str, Any]:
        answer = request(connection, method, path, query, body)
        found.ours.append(Exchanged(method, path, query or {}, body, answer))
        return answer

    sessions = {"EV-1-A": flat(6), "EV-1-B": quotes([(0.30, 0.33, 40)], depth=7.0)}
    with pytest.MonkeyPatch.context() as patch, kalshi_stand(sessions=sessions) as stand:
        patch.setattr(KalshiConnection, "request", recorded)
        manager = stand.manager()
        MarketFees(KalshiFees().rules_on).load_fee_terms(manager.venue, sessions)
        manager.submit(order("buys", "0.50", market="EV-1-A"))
        manager.submit(order("waits", "0.20", market="EV-1-B"))
        # An order whose answer is lost is looked for.
        stand.practice.fault("drop_after", method="POST")
        manager.submit(order("lost", "0.33", market="EV-1-B"))
        stand.practice.advance()
        manager.submit(order("no", "0.70", side="NO", market="EV-1-B"))
        manager.cancel_stale_orders("EV-1-B", LATER)
        for step in range(8):
            manager.read_snapshot()
            _read_all(stand.practice, found)
            stand.practice.advance(1 if step else 2)
        with pytest.raises(HttpStatusError):
            manager.venue.request("GET", "/markets/NONE")
        _refuse(stand.practice, found)
        server = KalshiServer(stand.practice.exchange, KEYS)
        found.routes = {(each.method, each.path.removeprefix(API_ROOT)) for each in server.routes()}
    return found


def _read_all(practice: Any, found: Traffic) -> None:
    names = {"markets": "EV-1-A", "events": "EV-1-A", "series": "EV"}
    names["portfolio"] = next(iter(practice.exchange.orders))
    for path in READS:
        asked = path.replace("{name}", names.get(path.split("/")[1], ""))
        for query in ({}, {"limit": 1}) if "{name}" not in path else ({},):
            if path in ("/portfolio/balance", "/exchange/status"):
                query = {}
            answer = practice.ask("GET", asked, **query)
            assert answer.status_code == 200, answer.text
            found.read.append(Exchanged("GET", asked, query, None, answer.json()))


def _refuse(practice: Any, found: Traffic) -> None:
    for method, path, query in (
        ("GET", "/markets/NONE", {}),
        ("GET", "/portfolio/orders/none", {}),
        ("GET", "/markets", {"min_close_ts": 1}),
        ("POST", NEW_ORDERS_PATH, {}),
        ("DELETE", f"{NEW_ORDERS_PATH}/none", {}),
    ):
        answer = practice.ask(method, path, **query)
        assert 400 <= answer.status_code < 500
        found.refused.append(answer.json())


def test_every_practice_route_has_a_published_schema(traffic: Traffic) -> None:
    assert traffic.routes == set(MODELS)
    assert {model for model, _ in traffic.answers} == set(MODELS.values())


def test_practice_responses_have_every_required_field(traffic: Traffic) -> None:
    faults = [
        f"{model}: {fault}"
        for model, answer in traffic.answers
        for fault in faults_of(answer, ANSWERS[model])
    ]
    assert not faults
    told = {name: [a for m, a in traffic.answers if m == name] for name in ANSWERS}
    for name, rows in (
        ("GetFillsResponse", "fills"),
        ("GetOrdersResponse", "orders"),
        ("GetPositionsResponse", "market_positions"),
        ("GetSettlementsResponse", "settlements"),
    ):
        assert any(answer[rows] for answer in told[name]), "nothing was validated"
    assert all(set(each) == {"code", "message", "details"} for each in traffic.refused)


SIDES = st.sampled_from(["YES", "NO"])


@given(SIDES, st.integers(1, 9999), st.integers(1, 10**6))
def test_order_requests_satisfy_the_published_schema(side: Outcome, price: int, count: int) -> None:
    terms = side, Decimal(price) / 10_000, Decimal(count) / 100
    for action in ("BUY", "SELL"):
        wanted = EventContractOrder("o-1", "RAIN", action, *terms)
        sent = build_order_request(replace(wanted, expires_at=LATER))
        assert not list(faults_of(sent, CREATE_REQUEST))
        if VENUES.is_dir():
            _validator("CreateOrderV2Request").validate(sent)


@published
def test_practice_responses_match_published_schemas(traffic: Traffic) -> None:
    for model, answer in traffic.answers:
        _validator(model).validate(answer)
    for answer in traffic.refused:
        _validator("ErrorResponse").validate(answer)


@published
def test_client_requests_match_published_schemas(traffic: Traffic) -> None:
    paths = yaml.safe_load((VENUES / "kalshi_openapi.yaml").read_text())
    for sent in traffic.ours:
        if sent.method == "GET":
            jsonschema.validate(_numbers(sent.query), _query_schema(paths, sent.path))
        elif sent.method == "POST":
            _validator("CreateOrderV2Request").validate(sent.body)
    assert {sent.method for sent in traffic.ours} == {"GET", "POST", "DELETE"}


@published
def test_copied_schemas_match_the_published_required_fields() -> None:
    for model, words in ANSWERS.items():
        _same_fields(words, _models()[model], _models()[model].get("$defs", {}), model)
    _same_fields(CREATE_REQUEST, _models()["CreateOrderV2Request"], {}, "CreateOrderV2Request")


def test_practice_responses_parse_in_the_kalshi_client(traffic: Traffic) -> None:
    python = os.environ.get("KALSHI_CLIENT_PYTHON")
    if python is None and importlib.util.find_spec("kalshi_python_sync"):
        python = sys.executable
    if python is None:
        pytest.skip("KALSHI_CLIENT_PYTHON names no Python that has kalshi-python-sync")
    parsed = subprocess.run(
        [python, Path(__file__).with_name("kalshi_client.py")],
        input=json.dumps(traffic.answers),
        capture_output=True,
        text=True,
        check=True,
    )
    assert not parsed.stdout


def test_unsupported_query_filter_is_refused_by_name() -> None:
    with kalshi_stand(sessions={"RAIN": flat()}) as stand:
        for path, query in (
            ("/markets", {"min_close_ts": 1}),
            ("/portfolio/fills", {"min_count": 1}),
            ("/portfolio/positions", {"count_filter": "position"}),
            ("/markets/RAIN/orderbook", {"depth": 101}),
        ):
            answer = stand.practice.ask("GET", path, **query)
            assert answer.status_code == 400
            assert next(iter(query)) in answer.json()["message"]


def test_query_filters_select_named_markets_and_rows() -> None:
    with kalshi_stand(sessions={"EV-1-A": flat(), "EV-2-B": flat(3)}) as stand:
        for query, names in (({}, ["EV-2-B", "EV-1-A"]), ({"tickers": "EV-1-A"}, ["EV-1-A"])):
            found = stand.practice.ask("GET", "/markets", **query).json()["markets"]
            assert [each["ticker"] for each in found] == names


@cache
def _models() -> Mapping[str, Any]:
    found = json.loads((VENUES / "kalshi_models.json").read_text())["schemas"]
    return dict(found)


@cache
def _validator(model: str) -> Any:
    """A validator of a model, whose schema is checked once."""
    schema = _models()[model]
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)


def _query_schema(document: Any, path: str) -> dict[str, Any]:
    """A schema of the parameters that a read may have."""
    names = [p for p in document["paths"] if re.fullmatch(re.sub(r"{\w+}", "[^/]+", p), path)]
    # A path without a placeholder goes before one that has one.
    [first, *_] = sorted(names, key=lambda name: name.count("{"))
    shared = document["components"]["parameters"]
    told = [
        shared[each["$ref"].rpartition("/")[2]] if "$ref" in each else each
        for each in document["paths"][first]["get"].get("parameters", [])
    ]
    known = {each["name"]: each["schema"] for each in told if each["in"] == "query"}
    schemas = document["components"]["schemas"]
    return {"properties": known, "additionalProperties": False, "components": {"schemas": schemas}}


def _numbers(query: Mapping[str, Any]) -> dict[str, Any]:
    """Return a query without absent parameters."""
    return {name: value for name, value in query.items() if value is not None}


def _same_fields(words: Any, schema: Any, defs: Any, where: str) -> None:
    """The fields of a table, and of those within, are the required ones of a schema."""
    if "$ref" in schema:
        schema = defs[schema["$ref"].rpartition("/")[2]]
    assert set(words) == set(schema["required"]), where
    for name, kind in words.items():
        inner = schema["properties"][name]
        if isinstance(kind, list):
            inner, kind = inner["items"], kind[0]
        if isinstance(kind, Mapping):
            _same_fields(kind, inner, defs, f"{where}.{name}")
