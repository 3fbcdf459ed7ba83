"""Kalshi's HTTP over the simulated exchange: what its clients ask for, in its words.

What a request is signed with `KalshiKeys.headers` says, over timestamp + METHOD + path.
"""

from __future__ import annotations

import base64
import binascii
import time
import uuid
from collections.abc import Mapping

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from event_contracts.simulation import venue
from event_contracts.simulation.exchange import Exchange
from event_contracts.simulation.venue import OrderRequest, milliseconds, placed_of, take
from event_contracts.trading.endpoint import KEY, ROOT, SIGNATURE, TIMESTAMP, KalshiKeys
from event_contracts.trading.venue_orders import WRITES
from marketsimulator.venue.asked import Asked, Refused, Response, Route
from marketsimulator.venue.faults import STATUSES, Status
from marketsimulator.venue.server import PracticeServer

PRIVATE = f"{ROOT}/portfolio"  # what needs keys
STATES: dict[Status, str] = {
    **dict.fromkeys(STATUSES, "resting"),
    "filled": "executed",
    "canceled": "canceled",
}
CODES = {401: "authentication_error", 403: "forbidden", 404: "not_found", 409: "clock"}
BITS = 2048
PATIENCE = 5_000  # milliseconds that a timestamp may be off; how many the real venue allows is U


def new_keys() -> KalshiKeys:
    """A throw-away key, of which whoever serves knows both halves; PEM is PKCS #8, unencrypted."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=BITS)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return KalshiKeys(str(uuid.uuid4()), pem.decode())


def why_unsigned(
    keys: KalshiKeys, headers: Mapping[str, str], method: str, path: str, now: int
) -> str | None:
    """Why a request is not these keys', in words; nothing where it is.

    path: without a query. now: milliseconds since 1970.
    """
    missing = [name for name in (KEY, TIMESTAMP, SIGNATURE) if not headers.get(name)]
    if missing:
        return f"{missing[0]} is missing"
    if headers[KEY] != keys.key_id:
        return "there is no such key"
    stamp = headers[TIMESTAMP]
    is_number = stamp.isascii() and stamp.isdigit() and len(stamp) < 20
    if not is_number or abs(int(stamp) - now) > PATIENCE:
        return f"{TIMESTAMP} is not within {PATIENCE} ms of the clock"
    digest = hashes.SHA256()
    scheme = padding.PSS(padding.MGF1(digest), salt_length=digest.digest_size)
    try:
        given = base64.b64decode(headers[SIGNATURE], validate=True)
        message = f"{stamp}{method}{path}".encode()
        keys.signing_key.public_key().verify(given, message, scheme, digest)
    except (binascii.Error, InvalidSignature, ValueError):
        return "the signature does not fit"
    return None


class KalshiServer(PracticeServer):
    """The exchange behind HTTP.

    keys: what requests are signed with.
    reused_ids_refused: whether an order is refused whose client_order_id has been used.
    """

    order_id = "order_id"
    states = STATES
    unreadable = 400
    rejection = (400, "invalid_order")

    def __init__(
        self,
        exchange: Exchange,
        keys: KalshiKeys,
        speed: float | None = None,
        *,
        reused_ids_refused: bool = True,
    ) -> None:
        super().__init__(speed)
        self.exchange = exchange
        self.keys = keys
        self._reused_ids_refused = reused_ids_refused

    def routes(self) -> list[Route]:
        exchange = self.exchange
        reads = {
            "portfolio/orders": self._orders,
            "portfolio/orders/{name}": self._order,
            "portfolio/fills": lambda asked: venue.fills(
                exchange, asked.query, self._hidden(asked)
            ),
            "portfolio/positions": lambda asked: venue.positions(exchange, asked.query),
            "portfolio/settlements": lambda asked: venue.settlements(exchange, asked.query),
            "portfolio/balance": lambda _: venue.balance(exchange),
            "exchange/status": lambda _: {"trading_active": exchange.trades},
            "markets": lambda asked: venue.markets(exchange, asked.query),
            "markets/{name}": lambda asked: {"market": venue.market(exchange, asked.names["name"])},
            "events/{name}": lambda asked: venue.event(exchange, asked.names["name"]),
            "series/{name}": lambda asked: venue.series(exchange, asked.names["name"]),
        }
        return [
            Route("POST", f"{ROOT}{WRITES}", self._submit, status=201),
            Route("DELETE", f"{ROOT}{WRITES}/{{name}}", self._cancel),
            *(Route("GET", f"{ROOT}/{path}", answer) for path, answer in reads.items()),
        ]

    def controls(self) -> list[Route]:
        return []

    def why_unsigned(self, asked: Asked) -> str | None:
        """What is not private needs no keys, and none that are wrong."""
        if KEY not in asked.headers and not asked.path.startswith(PRIVATE):
            return None
        now = time.time_ns() // 1_000_000
        return why_unsigned(self.keys, asked.headers, asked.method, asked.path, now)

    def refusal(self, status: int, code: int | str | None, message: str) -> Response:
        word = code or CODES.get(status, "invalid_parameters")
        return {"code": word, "message": message, "details": ""}

    def clock(self) -> Response:
        """Milliseconds since 1970."""
        return {"ts_ms": milliseconds(self.exchange.now)}

    @property
    def stands_at(self) -> np.datetime64:
        return self.exchange.now

    @property
    def next_at(self) -> np.datetime64 | None:
        """Of the exchange, until every market has paid."""
        exchange = self.exchange
        return None if exchange.is_over else exchange.at(exchange.tick + 1)

    @property
    def passed(self) -> int:
        return self.exchange.tick

    def step(self) -> None:
        self.exchange.advance()

    def _submit(self, asked: Asked) -> Response:
        order = OrderRequest.of(asked.json_object())
        placed = take(
            self.exchange,
            order,
            reused_ids_refused=self._reused_ids_refused,
            **self.order_faults(asked),
        )
        return venue.receipt(placed, self.exchange.now)

    def _cancel(self, asked: Asked) -> Response:
        placed = placed_of(self.exchange, asked.names["name"])
        if placed.is_done:
            raise Refused(404, None, f"order {placed.order_id} is {placed.state}")
        reduced = placed.waiting
        self.exchange.cancel(placed.order_id)
        return venue.cancellation(placed, reduced, self.exchange.now)

    def _orders(self, asked: Asked) -> Response:
        answer = venue.orders(self.exchange, asked.query, self._hidden(asked))
        return {**answer, "orders": [self.in_fault(each, asked) for each in answer["orders"]]}

    def _order(self, asked: Asked) -> Response:
        name = asked.names["name"]
        if self._hidden(asked):
            raise Refused(404, None, f"order {name} not found")
        placed = placed_of(self.exchange, name)
        return {"order": self.in_fault(venue.order(self.exchange, placed), asked)}

    def _hidden(self, asked: Asked) -> int:
        """How many of the newest rows a read leaves out, on demand."""
        return int(self.faults.take(asked, "unlisted") is not None)
