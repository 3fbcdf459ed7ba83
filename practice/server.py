"""Base class of practice servers: clock, fault injection, control routes and error responses.

A subclass defines the routes of its API, the format of its errors, and what a clock step does.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, ClassVar

import numpy as np
from aiohttp import web

from practice.faults import (
    FAULTS_AFTER_EXECUTION,
    FAULTS_BEFORE_EXECUTION,
    FaultQueue,
    InjectedFault,
    OrderStatus,
)
from practice.request import Request, RequestRefused, ResponseBody, Route
from trainingdata.instants import parse_instant

CLOCK_POLL_SECONDS = 0.05  # maximum seconds between polls of a running clock
MAX_CLOCK_STEP_SECONDS = 900.0  # maximum simulated seconds between polls; bars are further apart
OTHER_ORDER_ID = "00000000-0000-0000-0000-000000000000"  # id in a wrong response
CROSS_SITE_CONTENT_TYPES = (
    "text/plain",
    "multipart/form-data",
)  # types that a web page may post without a preflight request

RequestHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class PracticeServer(ABC):
    """HTTP server of a practice venue.

    speed: simulated seconds per real second; None: the clock waits for a client to move it.
    faults: faults that are still to be injected.
    host: host name accepted by control routes, in addition to IP addresses and localhost.
    """

    order_id_key = "id"  # the API's key of the venue's order id
    venue_status_names: ClassVar[
        Mapping[OrderStatus, str]
    ] = {}  # the API's words for Alpaca's order states
    invalid_request_status = 422  # status of an invalid request
    rejection_status_and_code: tuple[int, int | str | None] = (
        403,
        None,
    )  # status and code of a rejected order

    def __init__(self, speed: float | None = None) -> None:
        self.speed = speed
        self.faults = FaultQueue()
        self.host = ""
        self._started: tuple[float, np.datetime64] | None = None
        self._on_their_way: list[tuple[Route, Request]] = []

    @abstractmethod
    def routes(self) -> Sequence[Route]:
        """Return all routes of the venue's API."""

    @abstractmethod
    def control_routes(self) -> Sequence[Route]:
        """Return control routes that only this venue has.

        The routes for clock and faults, which all venues have, are not included.
        """

    @abstractmethod
    def authentication_failure(self, request: Request) -> str | None:
        """Return why a request is not authenticated, or None if it is."""

    @abstractmethod
    def error_response(self, status: int, code: int | str | None, message: str) -> ResponseBody:
        """Return an error response in the API's format.

        status: HTTP status.
        code: code of the error; None: derived from the status.
        message: text of the error.
        """

    @abstractmethod
    def clock_state(self) -> ResponseBody:
        """Return the time on the clock, as the response to a request that moves the clock."""

    @property
    @abstractmethod
    def current_instant(self) -> np.datetime64:
        """Return the last instant that the venue has reached."""

    @property
    @abstractmethod
    def next_instant(self) -> np.datetime64 | None:
        """Return the next instant of the venue; None at the end of the data."""

    @property
    @abstractmethod
    def step_count(self) -> int:
        """Return the number of instants passed since the server started."""

    @abstractmethod
    def step(self) -> None:
        """Advance the venue to its next instant."""

    def now(self) -> np.datetime64:
        """Return the time on the clock.

        A running clock also shows times between two instants of the venue.
        """
        if self._started is None or self.next_instant is None:
            return self.current_instant
        seconds = (time.monotonic() - self._started[0]) * (self.speed or 0.0)
        return self._started[1] + np.timedelta64(int(seconds * 1e9), "ns")

    def build_app(self) -> web.Application:
        """Build the aiohttp application with all routes.

        If the clock runs by itself, the application moves it while it serves.
        """
        app = web.Application(middlewares=[self._format_http_errors])
        for route in self.routes():
            app.router.add_route(route.method, route.path, self._api_handler(route))
        for route in (*self._shared_control_routes(), *self.control_routes()):
            app.router.add_route(
                route.method, f"/control/{route.path}", self._control_handler(route)
            )
        if self.speed is not None:
            app.cleanup_ctx.append(self._run_clock_context)
        return app

    def apply_state_fault(self, response: ResponseBody, request: Request) -> ResponseBody:
        """Return an order's response, with another status if a `state` fault is planned for it."""
        fault = self.faults.consume_fault(request, "state")
        if fault is None:
            return response
        return {**response, "status": self.venue_status_names.get(fault.state, fault.state)}

    def consume_order_faults(self, request: Request) -> dict[str, bool]:
        """Take the faults that are planned for a new order from the queue.

        Returns the flags `partial` (fill half of the order) and `reject` (reject the order after it
        was accepted). Raises `RequestRefused` for the fault `reject`.
        """
        if self.faults.consume_fault(request, "reject"):
            raise RequestRefused(*self.rejection_status_and_code, "rejected by a planned fault")
        return {
            "partial": self.faults.consume_fault(request, "partial") is not None,
            "reject": self.faults.consume_fault(request, "reject_later") is not None,
        }

    def clear_faults(self, asked: Request) -> None:
        """Remove all planned faults."""
        del asked
        self.faults.clear()

    def _shared_control_routes(self) -> list[Route]:
        return [
            Route("POST", "advance", self._advance_clock),
            Route("POST", "faults", self.faults.add_faults),
            Route("DELETE", "faults", self.clear_faults),
            Route("POST", "land", lambda _: self._execute_delayed_requests()),
        ]

    def refuse_running_clock(self) -> None:
        """Refuse a request that moves the clock if the clock runs by itself (409)."""
        if self.speed is not None:
            raise RequestRefused(
                409,
                None,
                "the clock advances by itself and cannot be moved by requests; start the"
                " server with --speed wait",
            )

    def _advance_clock(self, asked: Request) -> ResponseBody:
        """Move a waiting clock by {"steps": N} instants, or up to the time given as {"to": …}.

        The response has the number of instants moved, the number passed since the start, and
        whether the clock is at its end. A running clock is not moved (409).
        """
        self.refuse_running_clock()
        command = asked.json_object()
        if len(command) > 1 or set(command) - {"to", "steps"}:
            raise RequestRefused(422, None, 'expected {"steps": 1} or {"to": "2024-03-18T14:30Z"}')
        steps = command.get("steps", 1)
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise RequestRefused(422, None, f"steps: {steps!r} is not a whole number above 0")
        to = parse_instant(command["to"], name="to") if "to" in command else None
        moved = 0
        while (at := self.next_instant) is not None and (moved < steps if to is None else at <= to):
            self.step()
            moved += 1
        return {**self.clock_state(), "moved": moved, "passed": self.step_count, "over": at is None}

    async def _run_clock_context(self, _: web.Application) -> AsyncIterator[None]:
        # A server may be built long before it starts: time passes from its start.
        self._started = (time.monotonic(), self.current_instant)
        clock = asyncio.create_task(self._run_clock())
        yield
        clock.cancel()

    async def _run_clock(self) -> None:
        while (at := self.next_instant) is not None:
            is_due = at <= self.now()
            if is_due:
                self.step()
            await asyncio.sleep(
                0
                if is_due
                else min(CLOCK_POLL_SECONDS, MAX_CLOCK_STEP_SECONDS / (self.speed or 1.0))
            )

    @web.middleware
    async def _format_http_errors(
        self, request: web.Request, handler: RequestHandler
    ) -> web.StreamResponse:
        """Convert aiohttp's errors (unknown path, body too long) to the API's error format."""
        try:
            return await handler(request)
        except web.HTTPException as error:
            return self._json_error(error.status, None, error.reason)

    def _control_handler(self, route: Route) -> RequestHandler:
        """Return the handler of a control route.

        Faults do not affect control routes, so that a client can always clear the faults.
        """

        async def handle_control_request(request: web.Request) -> web.StreamResponse:
            foreign = self._cross_site_reason(request)
            if foreign is not None:
                return self._json_error(403, None, foreign)
            status, content = self.execute_request(route, await _read_request(request), 422)
            return web.json_response(content or {}, status=status)

        return handle_control_request

    def _api_handler(self, route: Route) -> RequestHandler:
        """Return the handler of an API route, to which planned faults apply."""

        async def handle_api_request(request: web.Request) -> web.StreamResponse:
            # A request that is not read before the client disconnects could not be executed later.
            asked = await _read_request(request)
            why = self.authentication_failure(asked)
            if why is not None:
                return self._json_error(401, None, why)
            before = self.faults.consume_fault(asked, *FAULTS_BEFORE_EXECUTION)
            if before is not None and before.kind != "delay":
                return self._fault_response(before, request, route, asked)
            if before is not None:
                await asyncio.sleep(before.delay_seconds)
            status, content = self.execute_request(route, asked, self.invalid_request_status)
            # These come after the handler: the request is executed although its response is lost.
            after = self.faults.consume_fault(asked, *FAULTS_AFTER_EXECUTION)
            if after is not None:
                return self._alter_response(after, request, status, content)
            return _json_response(status, content)

        return handle_api_request

    def execute_request(
        self, route: Route, asked: Request, invalid_request_status: int
    ) -> tuple[int, Any]:
        """Execute a request; return the HTTP status and JSON of its response.

        invalid_request_status: HTTP status if the handler raises `ValueError`.
        """
        try:
            return route.success_status, route.handler(asked)
        except RequestRefused as refused:
            status, code = refused.status, refused.code
            return status, self.error_response(status, code, str(refused))
        except ValueError as error:  # an invalid symbol, instant, number or JSON
            return invalid_request_status, self.error_response(
                invalid_request_status, None, str(error)
            )

    def _fault_response(
        self, fault: InjectedFault, request: web.Request, route: Route, asked: Request
    ) -> web.StreamResponse:
        """Return the response to a request that a fault affects before the request is executed.

        A `late` fault schedules the request for later.
        """
        if fault.kind == "status":
            return _status_fault_response(fault)
        if fault.kind == "late":
            held_up = (route, asked)
            self._on_their_way.append(held_up)
            asyncio.get_running_loop().call_later(
                fault.delay_seconds, self._execute_if_delayed, held_up
            )
        return _close_connection(request)

    def _execute_delayed_requests(self) -> None:
        """Execute all requests delayed by `late` faults, in the order in which they were sent."""
        for held_up in tuple(self._on_their_way):
            self._execute_if_delayed(held_up)

    def _execute_if_delayed(self, held_up: tuple[Route, Request]) -> None:
        """Execute a request delayed by a `late` fault, unless it was already executed."""
        for place, each in enumerate(self._on_their_way):
            if each is held_up:
                del self._on_their_way[place]
                self.execute_request(*held_up, self.invalid_request_status)
                return

    def _alter_response(
        self, fault: InjectedFault, request: web.Request, status: int, content: Any
    ) -> web.StreamResponse:
        """Return the response to an executed request, altered by a fault."""
        if fault.kind == "drop_after":
            return _close_connection(request)
        if fault.kind == "status_after":
            return _status_fault_response(fault)
        if fault.kind == "malformed":
            return web.Response(text='{"id": "half of a', content_type="application/json")
        return _json_response(status, self._replace_order_ids(content))

    def _replace_order_ids(self, content: Any) -> Any:
        """Replace the order ids in the content of a response by those of another order."""
        if not isinstance(content, dict):
            return content
        if "order" in content:
            return {**content, "order": self._replace_order_ids(content["order"])}
        if "orders" in content:
            return {
                **content,
                "orders": [self._replace_order_ids(each) for each in content["orders"]],
            }
        if "client_order_id" in content:
            return {**content, self.order_id_key: OTHER_ORDER_ID, "client_order_id": "another"}
        return content

    def _json_error(self, status: int, code: int | str | None, message: str) -> web.Response:
        return web.json_response(self.error_response(status, code, message), status=status)

    def _cross_site_reason(self, request: web.Request) -> str | None:
        """Return why a control request is refused as cross-site, or None if it is allowed.

        Any web page can send such a request from the user's browser without asking this server
        first. A host name that resolves to this address would make it look same-site (DNS
        rebinding).
        """
        name = request.url.host or ""
        if not (_is_ip_address(name) or name in ("localhost", self.host)):
            return (
                "Host: control routes are only served under an IP address or localhost,"
                f" not under {name!r}"
            )
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"{request.scheme}://{request.host}":
            return f"Origin: requests from a page of {origin!r} may not control this server"
        if request.content_type in CROSS_SITE_CONTENT_TYPES and request.can_read_body:
            return f"Content-Type: {request.content_type} is not supported; use application/json"
        return None


async def _read_request(request: web.Request) -> Request:
    body = await request.read()
    path, names = request.path, request.match_info
    return Request(request.method, path, request.query, names, request.headers, body)


def _json_response(status: int, content: Any) -> web.Response:
    return web.Response(status=204) if status == 204 else web.json_response(content, status=status)


def _status_fault_response(fault: InjectedFault) -> web.Response:
    headers = {"Retry-After": f"{fault.delay_seconds:g}"} if fault.status == 429 else {}
    body = {"code": fault.status * 100_000, "message": "response of a planned fault"}
    return web.json_response(body, status=fault.status, headers=headers)


def _close_connection(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.close()
    return web.Response(status=500)


def _is_ip_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
