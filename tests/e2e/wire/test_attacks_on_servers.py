"""Both practice servers as processes of their own, attacked over HTTP and by bare connections."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from aiohttp import web

from practice import serving
from tests.event_contracts.practice import API, signed_headers
from tests.support.commands import Started

SESSION = requests.Session()
HANG = 30.0  # seconds after which a test says that something hangs
ALPACA = "practice.alpaca_server"
KALSHI = "practice.kalshi_server"
BOTH = pytest.mark.parametrize("name", [ALPACA, KALSHI])
CONTROLS = {ALPACA: ("advance", "faults", "activities", "assets"), KALSHI: ("advance", "faults")}
DEEP = 200_000 * "[" + 200_000 * "]"
SHAPES = ["[]", "[1]", '"steps"', "5", "null", "true", "half of a", DEEP, '{"a":' * 50_000]


@dataclass(frozen=True)
class Served:
    """A server that runs: its address, process and the key of an account."""

    url: str
    process: Started
    key_id: str = ""
    pem: str = ""

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return str(parts.hostname), int(parts.port or 0)

    def control(self, route: str, body: str = "{}", **headers: str) -> requests.Response:
        url = f"{self.url}/control/{route}"
        return SESSION.post(url, data=body.encode(), headers=headers, timeout=HANG)

    def ask(self, method: str, path: str, body: str | None = None) -> requests.Response:
        """A request of the account's own, with its keys."""
        bare = path.partition("?")[0]
        signed = signed_headers(self.key_id, self.pem, method, bare) if self.pem else {}
        headers = {"APCA-API-KEY-ID": "KEY", **signed}
        url = f"{self.url}{path}"
        return SESSION.request(method, url, data=body, headers=headers, timeout=HANG)

    def clock(self) -> int:
        """How far the clock has been moved, one more with each time it is asked."""
        return int(self.control("advance").json()["passed"])


@contextmanager
def served(name: str, folder: Path) -> Iterator[Served]:
    key_file = folder / "key.pem"
    words = ["-m", name, "--port", "0"]
    words += ["--key-file", str(key_file), "synthetic=3"] if name == KALSHI else []
    words += ["--symbols", "SYA", "SYXUSD"] if name == ALPACA else []
    process = Started(words, cwd=folder)
    try:
        process.wait_for_output(120.0)
        assert process.running, process.errors
        url = process.output.partition(": ")[0]
        key_id = process.output.partition("; key ")[2].partition(",")[0]
        yield Served(url, process, key_id, key_file.read_text() if name == KALSHI else "")
    finally:
        process.kill()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    with ExitStack() as running:
        yield {
            name: running.enter_context(served(name, tmp_path_factory.mktemp(name)))
            for name in (ALPACA, KALSHI)
        }


@BOTH
def test_cross_site_requests_cannot_control_the_practice_server(
    servers: dict[str, Served], name: str
) -> None:
    here = servers[name]
    host = urlsplit(here.url).netloc
    before = here.clock()
    for said, headers in (
        ("Origin", {"Origin": "http://evil.example"}),
        ("Origin", {"Origin": "null"}),
        ("Origin", {"Origin": "http://127.0.0.1:1"}),
        ("Host", {"Host": "evil.example"}),
        ("Host", {"Host": f"evil.example:{here.address[1]}", "Origin": "http://evil.example"}),
        ("Host", {"Host": "127.0.0.1.evil.example"}),
        ("Content-Type", {"Content-Type": "text/plain;charset=UTF-8"}),
    ):
        for route in (*CONTROLS[name], "land"):
            answer = here.control(route, '{"kind": "drop_before"}', **headers)
            assert answer.status_code == 403, (route, headers)
            assert answer.json()["message"].startswith(f"{said}: ")
    deleted = requests.delete(
        f"{here.url}/control/faults", headers={"Origin": "http://evil.example"}, timeout=HANG
    )
    assert deleted.status_code == 403
    assert here.clock() == before + 1
    for headers in (
        {"Origin": f"http://{host}"},
        {"Host": f"localhost:{here.address[1]}"},
        {"Host": "[::1]"},
        {"Content-Type": "application/x-www-form-urlencoded"},  # what curl -d says
    ):
        assert here.control("advance", "{}", **headers).status_code == 200, headers


@BOTH
def test_malformed_control_body_is_refused_naming_its_field(
    servers: dict[str, Served], name: str
) -> None:
    for route, body in product(CONTROLS[name], SHAPES):
        if (route, body) == ("faults", "[]"):
            continue  # a list of faults may be empty
        answer = servers[name].control(route, body)
        assert answer.status_code == 422, (route, body[:9], answer.text[:200])
        assert answer.json()["message"].partition(":")[0] in ("body", "faults")


VALUES = ["5", "-1", "1e400", "NaN", '"x"', '"1e999999"', '"\\ud800"', "[[1]]", "{}"]
VALUES += ["null", "true"]
FIELDS = {
    "advance": ("steps", "to"),
    "faults": ("kind", "count", "method", "path", "status", "seconds", "state"),
    "activities": ("late",),
    "assets": ("symbol", "tradable", "halted", "other"),
}


@BOTH
def test_no_control_field_value_crashes_the_server(servers: dict[str, Served], name: str) -> None:
    here = servers[name]
    usual = {"faults": '"kind": "status", "path": "/never", ', "assets": ""}
    for route in CONTROLS[name]:
        for field in FIELDS[route]:
            for value in VALUES:
                if field == "to" and value == '"x"':
                    continue
                first = "" if field == "kind" else usual.get(route, "")
                answer = here.control(route, f'{{{first}"{field}": {value}}}')
                assert answer.status_code in (200, 404, 422), (route, field, value, answer.text)
                assert answer.status_code == 200 or answer.json()["message"]
    assert requests.delete(f"{here.url}/control/faults", timeout=HANG).status_code == 200
    assert "Traceback" not in here.process.errors


ORDERS = {
    ALPACA: (
        "/v2/orders",
        {"symbol": "SYA", "qty": "1", "side": "buy", "type": "limit", "limit_price": "1"}
        | {"time_in_force": "day", "client_order_id": "a", "notional": None, "stop_price": None}
        | {"trail_percent": None, "extended_hours": False, "order_class": None, "legs": None},
    ),
    KALSHI: (
        f"{API}/portfolio/events/orders",
        {"ticker": "SIM-1", "side": "bid", "price": "0.0100", "count": "1"}
        | {"time_in_force": "good_till_canceled", "client_order_id": "a", "expiration_time": None}
        | {"self_trade_prevention_type": "taker_at_cross", "reduce_only": False},
    ),
}


@BOTH
def test_no_order_body_crashes_the_server(servers: dict[str, Served], name: str) -> None:
    here = servers[name]
    path, order = ORDERS[name]
    for body in SHAPES:
        assert here.ask("POST", path, body).status_code in (400, 422), body[:20]
    for field in order:
        for value in VALUES:
            others = {
                key: each for key, each in order.items() if key not in (field, "client_order_id")
            }
            body = f'{json.dumps(others)[:-1]}, "{field}": {value}}}'
            answer = here.ask("POST", path, body)
            assert answer.status_code < 500, (field, value, answer.text[:300])
            json.loads(answer.text)
    market = {"order_class": "mleg", "type": "market", "time_in_force": "day", "legs": []}
    for value in VALUES if name == ALPACA else ():
        spread = f'{json.dumps(market)[:-1]}, "qty": {value}}}'
        assert here.ask("POST", path, spread).status_code < 500, value
    assert "Traceback" not in here.process.errors


NUMBERS = ["-1", "0x10", "1.5", "many", "9" * 5_000, "²", "1_000", " 1"]
QUERIES = {
    ALPACA: (
        *("/v2/stocks/bars?symbols=SYA&limit=", "/v2/stocks/bars?symbols=SYA&page_token="),
        *("/v1beta3/crypto/us/bars?symbols=SYX/USD&limit=", "/v2/orders?limit="),
        "/v2/account/activities?page_size=",
    ),
    KALSHI: tuple(
        f"{API}/portfolio/{name}?{field}="
        for name in ("orders", "fills", "settlements", "positions")
        for field in ("limit", "cursor")
    ),
}


@BOTH
def test_invalid_query_number_is_refused_naming_its_field(
    servers: dict[str, Served], name: str
) -> None:
    here = servers[name]
    for path in QUERIES[name]:
        field = path.rpartition("?")[2].rpartition("&")[2].rstrip("=")
        for number in NUMBERS:
            answer = here.ask("GET", f"{path}{number}")
            assert answer.status_code == (422 if name == ALPACA else 400), (path, number[:20])
            assert answer.json()["message"].startswith(f"{field}: ")
        assert here.ask("GET", f"{path}1").status_code == 200


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/v2/orders?status=bogus", "status: 'bogus' is not one of open, closed, all"),
        ("/v2/orders?status=opne", "all; did you mean open?"),
        ("/v2/orders?nested=perhaps", "nested: 'perhaps'"),
        ("/v2/assets?status=bogus", "status: 'bogus' is unknown; the only choice is active"),
        ("/v2/assets?asset_class=bogus", "asset_class: 'bogus' is not one of us_equity"),
        ("/v2/account/activities?direction=up", "direction: 'up' is not one of asc, desc"),
        (
            "/v2/account/portfolio/history?timeframe=1W",
            "timeframe: '1W' is unknown; the only choice is 1D",
        ),
        (
            "/v2/account/portfolio/history?pnl_reset=no",
            "pnl_reset: not supported by the practice venue; supported: timeframe",
        ),
        ("/v2/calendar?date_type=TRADE", "date_type: not supported by the practice venue"),
        ("/v2/options/contracts?status=bogus", "the only choice is active"),
        ("/v2/options/contracts?type=calls", "type: not supported by the practice venue"),
        ("/v2/stocks/bars?symbols=SYA&adjustment=bogus", "adjustment: 'bogus' is not one of raw"),
        ("/v2/stocks/bars?symbols=SYA&feed=spi", "otc; did you mean sip?"),
        (
            "/v2/stocks/bars?symbols=SYA&sort=desc",
            "sort: 'desc' is unknown; the only choice is asc",
        ),
        (
            "/v2/stocks/bars?symbols=SYA&currency=EUR",
            "currency: 'EUR' is unknown; the only choice is USD",
        ),
        (
            "/v2/stocks/bars?symbols=SYA&adjusted=raw",
            "adjusted: not supported by the practice venue; supported: symbols",
        ),
        ("/v2/stocks/bars/latest?symbols=SYA&feed=bogus", "feed: 'bogus' is not one of iex"),
        ("/v2/stocks/trades/latest?symbols=SYA&feed=bogus", "feed: 'bogus' is not one of iex"),
        ("/v1beta1/options/quotes/latest?symbols=SYA&feed=sip", "feed: 'sip' is not one of"),
    ],
)
def test_unknown_query_value_is_refused_listing_allowed_values(
    servers: dict[str, Served], path: str, says: str
) -> None:
    answer = servers[ALPACA].ask("GET", path)
    assert answer.status_code == 422
    assert says in answer.json()["message"]


def test_valid_alpaca_query_parameters_are_accepted(servers: dict[str, Served]) -> None:
    here = servers[ALPACA]
    for path in (
        *("/v2/orders?status=closed&nested=True", "/v2/assets?status=active"),
        "/v2/stocks/bars?symbols=SYA&adjustment=all&feed=sip&sort=asc&currency=USD",
        *("/v2/account/activities?direction=asc", "/v2/options/contracts?status=active"),
    ):
        assert here.ask("GET", path).status_code == 200, path


@pytest.mark.first_example
@pytest.mark.parametrize(("name", "number"), [(ALPACA, signal.SIGTERM), (KALSHI, signal.SIGINT)])
def test_idle_connections_block_neither_clients_nor_shutdown(
    tmp_path: Path, name: str, number: signal.Signals
) -> None:
    with served(name, tmp_path) as here, ExitStack() as open_ones:
        silent = [
            open_ones.enter_context(socket.create_connection(here.address, timeout=HANG))
            for _ in range(serving.MAX_CONNECTIONS + 100)
        ]
        here.clock()
        assert silent[0].recv(1) == b"", "who has been silent longest goes for who asks"
        silent[-1].sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert silent[-1].recv(9) == b"HTTP/1.1 ", "the newest have their place"
        assert here.process.errors.count("\n") == 1
        assert "open connections reached" in here.process.errors
        head = "POST /control/advance HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n"
        for sent in ("", head, f'{head}\r\n{{"steps"'):
            one = open_ones.enter_context(socket.create_connection(here.address, timeout=HANG))
            one.sendall(sent.encode())
        here.clock()
        os.kill(here.process.pid, number)
        here.process.wait_for_end(HANG)
        assert not here.process.running
        assert here.process.errors.count("\n") == 1


def test_connection_sending_endless_request_header_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "HEADER_TIMEOUT_SECONDS", 0.01)
    limit = serving.ConnectionLimiter()
    app = web.Application(middlewares=[limit.handle_active_request])

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text="here")

    app.router.add_get("/", answer)

    async def attack() -> tuple[bytes, bytes]:
        loop = asyncio.get_running_loop()
        runner = web.AppRunner(app)
        await runner.setup()
        accept = runner.server
        assert accept is not None
        server = await loop.create_server(lambda: limit.accept(accept), "127.0.0.1", 0)
        address = server.sockets[0].getsockname()[:2]
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\nHost: loc")
        given_up = await reader.read()
        whole, other = await asyncio.open_connection(*address)
        other.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answered = await whole.read()
        for each in (writer, other):
            each.close()
        server.close()
        await runner.cleanup()
        return given_up, answered

    given_up, answered = asyncio.run(asyncio.wait_for(attack(), HANG))
    assert given_up == b""
    assert answered.endswith(b"here")
