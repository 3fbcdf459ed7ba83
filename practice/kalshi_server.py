"""Kalshi practice server: its HTTP interface over simulated markets, synthetic or recorded.

    python -m practice.kalshi_server --key-file KEY.pem [--folder DIR --markets TICKER …]
        [--speed wait|N] [--port 8001] [--capital 1000] [key=value …]

--key-file FILE      file that the private key is written to, PEM; it must not exist
--folder DIR         folder of recorded files; none: synthetic markets
--markets TICKER …   recorded markets to serve; none: every market of the folder
--speed wait|N       tick only on a client's request, or N times per `interval`
--host, --port       address to listen on: 127.0.0.1 and 8001 by default; port 0: a free port
--capital N          starting cash, USD: 1,000 by default

Requests are signed as Kalshi requires, with a throw-away key: its id is printed, and the private
key is written to the file named by --key-file, readable by the user alone. With `--speed wait` the
clock stands still until a client advances it (POST /control/advance, {"steps": 1}). With a number N
the venue's clock shows real time, and ticks come N times as fast: `--speed 60` shows a tick a
second if `interval` is 60. Orders expire by the venue's clock at every speed. POST /control/faults,
{"kind": …} injects faults; DELETE clears them. POST /control/land executes the requests that a
`late` fault has held back.
POST /control/pause pauses trading and DELETE resumes it: orders and cancellations are refused
with 409, and no resting order fills. The body {"code": …, "resumes_at": …} sets the error code
of these refusals and the end of the pause that `GET /exchange/status` states.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("practice.kalshi_server")

import base64
import binascii
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import get_args

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from event_contracts.simulation.exchange import Exchange, SimulatedListing
from event_contracts.simulation.recorded import recorded_markets
from event_contracts.simulation.sessions import session_to_tick_records
from event_contracts.simulation.settings import SyntheticSessionModel
from event_contracts.simulation.synthetic import synthetic_session
from event_contracts.trading.endpoint import (
    API_ROOT,
    EXCHANGE_PAUSED_CODE,
    KEY_HEADER,
    PAUSE_CODES,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    TRADING_PAUSED_CODE,
    KalshiKeys,
)
from event_contracts.trading.fees import ZERO, FeeRules
from event_contracts.trading.orders import (
    ContractAction,
    ContractTimeInForce,
    EventContractOrder,
    MarketView,
    Outcome,
    RestingOrder,
    opposite_side,
)
from event_contracts.trading.sampler import ESTIMATE_COLUMNS
from event_contracts.trading.venue_orders import NEW_ORDERS_PATH, build_order_request
from foundation.compose import compose_config, flags_to_overrides
from foundation.errors import InputError
from foundation.files import atomic_file, check_output_file
from practice.faults import ORDER_STATUSES, OrderStatus
from practice.kalshi import catalog, orders
from practice.kalshi.orders import (
    OrderRequest,
    accept_order,
    epoch_milliseconds,
    format_timestamp,
    get_placed_order,
)
from practice.request import Request, RequestRefused, ResponseBody, Route
from practice.server import PracticeServer
from practice.serving import ServerArgumentParser, ServerOptions, serve
from practice.settings import KalshiVenueSettings

SYNTHETIC_EVENT_TICKER = "SIM"  # event of synthetic markets
PRIVATE_PATH_PREFIX = f"{API_ROOT}/portfolio"  # path that requires keys
VENUE_STATUS_BY_STATE: dict[OrderStatus, str] = {
    **dict.fromkeys(ORDER_STATUSES, "resting"),
    "filled": "executed",
    "canceled": "canceled",
}
ERROR_CODE_BY_STATUS = {
    401: "authentication_error",
    403: "forbidden",
    404: "not_found",
    409: "clock",
}
RSA_KEY_BITS = 2048
MIN_TICK_INTERVAL = np.timedelta64(1, "ns")
MAX_CLOCK_OFFSET_MS = (
    5_000  # milliseconds that a timestamp may be off; how many the real venue allows is U
)


def generate_keys() -> KalshiKeys:
    """Generate a throw-away API key: a random id, and a private RSA key as unencrypted PEM."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=RSA_KEY_BITS)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return KalshiKeys(str(uuid.uuid4()), pem.decode())


def find_signature_failure(
    keys: KalshiKeys, headers: Mapping[str, str], method: str, path: str, now_ms: int
) -> str | None:
    """Return the reason why a request's signature is invalid, or None if it is valid.

    keys: keys that must have signed the request.
    path: path of the request, without its query.
    now_ms: the server's time, epoch milliseconds.
    """
    missing = [
        name for name in (KEY_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER) if not headers.get(name)
    ]
    if missing:
        return f"{missing[0]} is missing"
    if headers[KEY_HEADER] != keys.key_id:
        return f"{KEY_HEADER} is not a key of this server"
    stamp = headers[TIMESTAMP_HEADER]
    is_number = stamp.isascii() and stamp.isdigit() and len(stamp) < 20
    if not is_number or abs(int(stamp) - now_ms) > MAX_CLOCK_OFFSET_MS:
        return f"{TIMESTAMP_HEADER} is not within {MAX_CLOCK_OFFSET_MS} ms of the server's clock"
    digest = hashes.SHA256()
    scheme = padding.PSS(padding.MGF1(digest), salt_length=digest.digest_size)
    try:
        given = base64.b64decode(headers[SIGNATURE_HEADER], validate=True)
        message = f"{stamp}{method}{path}".encode()
        keys.signing_key.public_key().verify(given, message, scheme, digest)
    except (binascii.Error, InvalidSignature, ValueError):
        return f"{SIGNATURE_HEADER} does not match the request"
    return None


class KalshiServer(PracticeServer):
    """HTTP server of a simulated exchange, with Kalshi's REST API.

    keys: keys with which clients must sign requests.
    speed: number of ticks in each interval of the exchange; None: the clock advances only on a
        client's request.
    reused_ids_refused: true to refuse an order whose client_order_id was used before.
    estimates: file to which probabilities of YES are written at every tick; None: no file.
    """

    order_id_key = "order_id"
    venue_status_names = VENUE_STATUS_BY_STATE
    invalid_request_status = 400
    rejection_status_and_code = (400, "invalid_order")

    def __init__(
        self,
        exchange: Exchange,
        keys: KalshiKeys,
        speed: float | None = None,
        *,
        reused_ids_refused: bool = True,
        estimates: Path | None = None,
    ) -> None:
        # Clients sign requests and expire orders by a real clock. So the venue's instants are real,
        # and a faster clock shortens the interval between ticks.
        super().__init__(None if speed is None else 1.0)
        if speed is not None:
            exchange.interval = max(exchange.interval / speed, MIN_TICK_INTERVAL)
        self.exchange = exchange
        self.keys = keys
        self._reused_ids_refused = reused_ids_refused
        self._estimates = estimates
        self._write_estimates()
        self._pause = ""
        self._resumes_at: str | None = None

    def routes(self) -> list[Route]:
        exchange = self.exchange
        reads = {
            "portfolio/orders": self._list_orders,
            "portfolio/orders/{name}": self._get_order,
            "portfolio/fills": lambda asked: orders.get_fills(
                exchange, asked.query, self._count_hidden_rows(asked)
            ),
            "portfolio/positions": lambda asked: orders.get_positions(exchange, asked.query),
            "portfolio/settlements": lambda asked: orders.get_settlements(exchange, asked.query),
            "portfolio/balance": lambda asked: orders.get_balance(exchange, asked.query),
            "exchange/status": lambda _: catalog.get_exchange_status(self._pause, self._resumes_at),
            "markets": lambda asked: catalog.get_markets(exchange, asked.query),
            "markets/{name}": lambda asked: {
                "market": catalog.get_market(exchange, asked.path_parameters["name"])
            },
            "markets/{name}/orderbook": lambda asked: catalog.get_orderbook(
                exchange, asked.path_parameters["name"], asked.query
            ),
            "events/{name}": lambda asked: catalog.get_event(
                exchange, asked.path_parameters["name"]
            ),
            "series/{name}": lambda asked: catalog.get_series(
                exchange, asked.path_parameters["name"]
            ),
        }
        return [
            Route("POST", f"{API_ROOT}{NEW_ORDERS_PATH}", self._submit, success_status=201),
            Route("DELETE", f"{API_ROOT}{NEW_ORDERS_PATH}/{{name}}", self._cancel),
            *(Route("GET", f"{API_ROOT}/{path}", answer) for path, answer in reads.items()),
        ]

    def control_routes(self) -> list[Route]:
        return [
            Route("POST", "pause", self._begin_pause),
            Route("DELETE", "pause", lambda _: self._end_pause()),
        ]

    def authentication_failure(self, request: Request) -> str | None:
        """Return why a request's authentication fails, or None if it may be served.

        Requests to public paths may be unsigned.
        """
        if KEY_HEADER not in request.headers and not request.path.startswith(PRIVATE_PATH_PREFIX):
            return None
        now = time.time_ns() // 1_000_000
        return find_signature_failure(self.keys, request.headers, request.method, request.path, now)

    def error_response(self, status: int, code: int | str | None, message: str) -> ResponseBody:
        word = code or ERROR_CODE_BY_STATUS.get(status, "invalid_parameters")
        return {"code": word, "message": message, "details": ""}

    def clock_state(self) -> ResponseBody:
        """Return a response with the exchange's time, in epoch milliseconds."""
        return {"ts_ms": epoch_milliseconds(self.exchange.now)}

    @property
    def current_instant(self) -> np.datetime64:
        return self.exchange.now

    @property
    def next_instant(self) -> np.datetime64 | None:
        """Return the instant of the next tick; None once every market has settled and paid."""
        exchange = self.exchange
        return None if exchange.is_over else exchange.instant_of(exchange.tick + 1)

    @property
    def step_count(self) -> int:
        return self.exchange.tick

    def step(self) -> None:
        self.exchange.advance(paused=bool(self._pause))
        self._write_estimates()

    def _write_estimates(self) -> None:
        """Write the current probabilities of YES to the file of estimates, if one is set.

        The file has the format that `event_contracts.trade` reads.
        """
        if self._estimates is None:
            return
        exchange = self.exchange
        lines = [",".join(ESTIMATE_COLUMNS)]
        for ticker, listing in exchange.listings.items():
            if exchange.market_state(ticker) == "active":
                until = format_timestamp(
                    exchange.instant_of(listing.first_tick + len(listing.tick_records) - 1)
                )
                lines.append(f"{ticker},{exchange.current_tick(ticker)['estimate']:.4f},{until}")
        with atomic_file(self._estimates) as part:
            part.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _begin_pause(self, asked: Request) -> None:
        """Pause trading until DELETE /control/pause resumes it.

        The body names the error code for orders, and may state the expected end, as in {"code":
        "trading_is_paused", "resumes_at": "2026-11-26T10:00:00Z"}. Raises `RequestRefused` (422)
        for an unknown code.
        """
        content = asked.json_object()
        code = content.get("code", TRADING_PAUSED_CODE)
        if code not in PAUSE_CODES:
            raise RequestRefused(
                422, None, f"code: {code!r} is not one of {', '.join(PAUSE_CODES)}"
            )
        self._pause, self._resumes_at = code, content.get("resumes_at")

    def _end_pause(self) -> None:
        self._pause, self._resumes_at = "", None

    def _refuse_in_pause(self, asked: Request) -> None:
        fault = self.faults.consume_fault(asked, TRADING_PAUSED_CODE, EXCHANGE_PAUSED_CODE)
        if code := fault.kind if fault else self._pause:
            raise RequestRefused(409, code, code.replace("_", " "))

    def _submit(self, asked: Request) -> ResponseBody:
        self._refuse_in_pause(asked)
        order = OrderRequest.parse(asked.json_object())
        faults = self.consume_order_faults(asked)
        placed = accept_order(
            self.exchange,
            order,
            reused_ids_refused=self._reused_ids_refused,
            fills_half=faults["partial"],
            reject=faults["reject"],
        )
        return orders.submission_response(placed, self.exchange.now)

    def _cancel(self, asked: Request) -> ResponseBody:
        self._refuse_in_pause(asked)
        placed = get_placed_order(self.exchange, asked.path_parameters["name"])
        if placed.is_done:
            raise RequestRefused(404, None, f"order {placed.order_id} is {placed.state}")
        reduced = placed.open_count
        self.exchange.cancel(placed.order_id)
        return orders.cancellation_response(placed, reduced, self.exchange.now)

    def _list_orders(self, asked: Request) -> ResponseBody:
        answer = orders.get_orders(self.exchange, asked.query, self._count_hidden_rows(asked))
        return {
            **answer,
            "orders": [self.apply_state_fault(each, asked) for each in answer["orders"]],
        }

    def _get_order(self, asked: Request) -> ResponseBody:
        name = asked.path_parameters["name"]
        if self._count_hidden_rows(asked):
            raise RequestRefused(404, None, f"order {name} not found")
        placed = get_placed_order(self.exchange, name)
        return {
            "order": self.apply_state_fault(orders.order_response(self.exchange, placed), asked)
        }

    def _count_hidden_rows(self, asked: Request) -> int:
        """Return how many of the newest rows a response omits: 1 for a fault `unlisted`, else 0."""
        return int(self.faults.consume_fault(asked, "unlisted") is not None)


@dataclass(frozen=True, slots=True)
class CollateralCheck:
    """Pre-trade check of the venue: a purchase needs cash, except for contracts that it closes.

    Sales always pass, because they are capped at the position beforehand. Purchases first close
    contracts of the other side; resting purchases do so in the order of their placement.

    position_of: function that returns the contracts held of a market, YES positive and NO negative.
    """

    fees: FeeRules
    position_of: Callable[[str], Decimal]

    def refusal_reason(
        self,
        action: ContractAction,
        side: Outcome,
        price: Decimal,
        count: Decimal,
        view: MarketView,
        *,
        rests: bool,
    ) -> str | None:
        """Return the reason to refuse an order, or None if it is accepted."""
        del rests
        if action == "SELL":
            return None
        free = view.cash - self._uncovered_order_cost(view.resting_orders)
        closes = view.held_count(opposite_side(side)) - view.resting_count("BUY", side)
        opens = count - max(closes, ZERO)
        cost = self.fees.max_purchase_cost(price, opens) if opens > 0 else ZERO
        return (
            None
            if cost <= free
            else f"buying {count} {side} may cost ${cost}; free cash is ${free}"
        )

    def _uncovered_order_cost(self, resting: Iterable[RestingOrder]) -> Decimal:
        """Return the maximum cost of resting orders, USD, except for contracts that they close."""
        closing: dict[tuple[str, Outcome], Decimal] = {}
        total = ZERO
        for each in resting:
            market, side = each.order.market, each.order.side
            held = self.position_of(market)
            left = closing.get((market, side), max(-held if side == "YES" else held, ZERO))
            closes = min(left, each.remaining_count)
            closing[market, side] = left - closes
            if closes < each.remaining_count:
                total += self.fees.max_purchase_cost(
                    each.order.price, each.remaining_count - closes
                )
        return total


def build_listings(settings: KalshiVenueSettings) -> list[SimulatedListing]:
    """Return the markets to list; recorded ones keep the delays between their openings."""
    if settings.folder is None:
        drawn = (
            synthetic_session((settings.seed, k), settings.market)
            for k in range(settings.synthetic)
        )
        return [
            SimulatedListing(
                f"{SYNTHETIC_EVENT_TICKER}-{k}",
                session_to_tick_records(session),
                event_ticker=SYNTHETIC_EVENT_TICKER,
            )
            for k, session in enumerate(drawn, start=1)
        ]
    step = np.timedelta64(settings.interval, "s").astype("timedelta64[ns]")
    recorded = {each.market: each for each in recorded_markets(settings.folder, step)}
    unknown = set(settings.markets) - set(recorded)
    if unknown:
        raise InputError(
            f"markets: {sorted(unknown)[0]} is not a settled market in {settings.folder}"
        )
    chosen = [recorded[name] for name in settings.markets or recorded]
    begins = min(each.row_times[0] for each in chosen)
    return [
        SimulatedListing(
            each.market,
            session_to_tick_records(each.session),
            int((each.row_times[0] - begins) / step),
            each.event,
        )
        for each in chosen
    ]


def build_exchange(
    settings: KalshiVenueSettings, listings: Sequence[SimulatedListing], now: np.datetime64
) -> Exchange:
    """Return a simulated exchange of these markets, with `CollateralCheck` as pre-trade check.

    now: instant of the first tick, UTC.
    """
    interval = np.timedelta64(settings.interval, "s").astype("timedelta64[ns]")
    begins = now.astype("datetime64[ns]")
    exchange = Exchange(
        listings, settings.episode_settings(), begins, interval, settings.settlement_ticks
    )
    exchange.order_check = CollateralCheck(exchange.space.fees, exchange.position)
    return exchange


def precompile_exchange() -> None:
    """Compile the exchange's functions, so that no request has to wait for compilation."""
    session = synthetic_session(0, SyntheticSessionModel(steps=3))
    listings = [SimulatedListing("SIM", session_to_tick_records(session))]
    exchange = build_exchange(KalshiVenueSettings(), listings, np.datetime64(0, "ns"))
    later = np.datetime64("2100-01-01", "ns")
    order = EventContractOrder("rehearsal", "SIM", "BUY", "YES", Decimal("0.99"), Decimal(1), later)
    for force in get_args(ContractTimeInForce):
        named = replace(order, client_order_id=f"rehearsal {force}", time_in_force=force)
        accept_order(exchange, OrderRequest.parse(build_order_request(named)))
    exchange.advance()


@dataclass(frozen=True, slots=True)
class PracticeServerArguments:
    """Arguments of the practice server.

    settings: settings of the venue.
    key_file: file to which the private key is written.
    server_options: address and speed.
    """

    settings: KalshiVenueSettings
    key_file: str
    server_options: ServerOptions

    def build_server(self) -> tuple[KalshiServer, str]:
        """Write the private key; return the server, and a text with its markets and key id.

        Raises InputError if the key's file already exists or a file cannot be written.
        """
        with _translate_key_file_errors(self.key_file) as key_file:
            if key_file.exists():
                raise InputError(
                    f"--key-file: {key_file} already exists; choose a new file, or remove it"
                )
            check_output_file(key_file, "--key-file")
        name = self.settings.estimates
        estimates = None if name is None else Path(name).expanduser()
        if estimates is not None:
            check_output_file(estimates, "estimates")
        listings = build_listings(self.settings)
        precompile_exchange()
        keys = generate_keys()
        exchange = build_exchange(self.settings, listings, np.datetime64(time.time_ns(), "ns"))
        with _translate_key_file_errors(self.key_file), atomic_file(key_file) as part:
            part.write_text(keys.private_key, encoding="utf-8")
        server = KalshiServer(
            exchange,
            keys,
            self.server_options.clock_speed,
            reused_ids_refused=self.settings.reused_ids_refused,
            estimates=estimates,
        )
        tickers = ", ".join(exchange.listings)
        key = f"key {keys.key_id}, private key in {key_file}"
        return server, f"{tickers} from {format_timestamp(exchange.now)}; {key}"


def parse_arguments(words: Sequence[str]) -> tuple[PracticeServerArguments, None]:
    """Parse the command line.

    The second element of the result is None, because the server has no output folder.
    """
    parser = ServerArgumentParser("practice.kalshi_server", port=8001)
    parser.add_argument("--key-file")
    parser.add_argument("--folder")
    parser.add_argument("--markets", nargs="+", default=[])
    parser.add_argument("--capital", type=float)
    arguments, serving = parser.parse(words)
    # argparse's own check would hide the error of an unknown flag.
    if arguments.key_file is None:
        parser.error("--key-file is missing; add the path of a new file: --key-file KEY.pem")
    flags = {
        "folder": arguments.folder,
        "markets": arguments.markets,
        "starting_cash": arguments.capital,
    }
    config = compose_config("kalshi_venue", [*flags_to_overrides(flags), *arguments.overrides])
    return PracticeServerArguments(
        KalshiVenueSettings.from_config(config), arguments.key_file, serving
    ), None


def run(settings: PracticeServerArguments) -> None:
    serve(settings.server_options, settings.build_server)


@contextmanager
def _translate_key_file_errors(word: str) -> Iterator[Path]:
    """Yield the path of the private key, with ~ expanded; raise file errors as `InputError`.

    word: value of --key-file.
    """
    try:
        yield Path(word).expanduser()
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"--key-file: {word} cannot be written: {why}") from error
