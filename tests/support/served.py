"""Applications on loopback, and practice servers that answer this process without a socket."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from aiohttp import web
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse

from foundation.transport import RateLimiter
from practice.request import Request, Route
from practice.server import PracticeServer
from tests.support.passing import HURRIED

WAIT = 30.0  # seconds for a server to start or to end
FAULTS = "/control/faults"
_PORTS = itertools.count(1024)  # on which nothing listens
Heard = Callable[[str, str, str], object]  # told the method, path and body of a request
Send = Callable[[PreparedRequest], Response]
Change = Callable[[str, str, Any], Any]  # another answer, of a method, a path and an answer's JSON


class Served:
    """Servers in a thread of their own.

    wired: whether requests of this process also take a socket.
    """

    def __init__(self, wired: bool = False) -> None:
        self._wired = wired
        self._loop = asyncio.new_event_loop()
        self._runners: list[web.AppRunner] = []
        self._direct: dict[str, _Direct] = {}
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def serve(self, app: web.Application, **options: Any) -> str:
        """Serve an application on a free port; return its address."""

        async def listen() -> int:
            runner = web.AppRunner(app, **options)
            self._runners.append(runner)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return int(runner.addresses[0][1])

        port = asyncio.run_coroutine_threadsafe(listen(), self._loop).result(WAIT)
        return f"http://127.0.0.1:{port}"

    def serve_venue(self, server: PracticeServer, heard: Heard) -> str:
        """Serve a practice server, each of whose requests is told to `heard`."""
        app = server.build_app()

        async def note(request: web.Request, _: web.StreamResponse) -> None:
            body = await request.text() if request.method != "GET" else ""
            heard(request.method, request.path, body)

        app.on_response_prepare.append(note)
        url = self.serve(app)
        if not self._wired and server.speed is None:
            self._direct[urlsplit(url).netloc] = _Direct(server, heard)
        return url

    def answer(self, request: PreparedRequest) -> tuple[int, bytes] | None:
        """Return a practice server's status and body; None if they have to be asked for by HTTP."""
        direct = self._direct.get(urlsplit(request.url or "").netloc)
        return None if direct is None else direct.answer(request)

    def close(self) -> None:
        for runner in self._runners:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), self._loop).result(WAIT)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT)
        self._loop.close()


class _Direct:
    """A practice server's API without HTTP, as long as no fault is planned."""

    def __init__(self, server: PracticeServer, heard: Heard) -> None:
        self._server, self._heard = server, heard
        self._lock, execute = threading.RLock(), server.execute_request

        def execute_alone(*asked: Any) -> tuple[int, Any]:
            with self._lock:
                return execute(*asked)

        # Requests of other processes are executed in the server's thread.
        server.execute_request = execute_alone  # type: ignore[method-assign]
        self._routes = [(_pattern(route.path), route) for route in server.routes()]
        self._is_faulty = False

    def answer(self, request: PreparedRequest) -> tuple[int, bytes] | None:
        method = request.method or ""
        parts = urlsplit(request.url or "")
        path = unquote(parts.path)
        if path == FAULTS:
            self._is_faulty = method == "POST"
        found = None if self._is_faulty else self._route(method, path)
        if found is None:
            return None
        route, names = found
        body = (request.body or "").encode() if isinstance(request.body, str) else request.body
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        asked = Request(method, path, query, names, request.headers, body or b"")
        why = self._server.authentication_failure(asked)
        self._heard(method, path, asked.body.decode())
        if why is not None:
            return 401, json.dumps(self._server.error_response(401, None, why)).encode()
        status, content = self._server.execute_request(
            route, asked, self._server.invalid_request_status
        )
        return status, b"" if status == 204 else json.dumps(content).encode()

    def _route(self, method: str, path: str) -> tuple[Route, Mapping[str, str]] | None:
        for pattern, route in self._routes:
            if route.method == method and (names := pattern.fullmatch(path)):
                return route, names.groupdict()
        return None


def _pattern(path: str) -> re.Pattern[str]:
    """Return what matches the paths of a route, such as /v2/assets/{symbol:.+}."""
    names = re.sub(r"\{(\w+)\}", r"{\1:[^/]+}", path)
    return re.compile(re.sub(r"\{(\w+):(.+?)\}", r"(?P<\1>\2)", names))


@contextmanager
def intercepted(
    answer: Callable[[PreparedRequest, Send], tuple[int, bytes] | None],
) -> Iterator[None]:
    """Have requests of this process answered by a function, or by HTTP where it returns None.

    answer: takes a request, and what sends it.
    """
    send: Callable[..., Response] = HTTPAdapter.send

    def answered(
        adapter: HTTPAdapter, request: PreparedRequest, *words: Any, **options: Any
    ) -> Response:
        given = answer(request, lambda each: send(adapter, each, *words, **options))
        if given is None:
            return send(adapter, request, *words, **options)
        status, content = given
        headers = {"Content-Type": "application/json"}
        body = HTTPResponse(io.BytesIO(content), headers, status, preload_content=False)
        return adapter.build_response(request, body)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HTTPAdapter, "send", answered)
        # Of each request the library looks through all variables of the environment for a proxy.
        patch.setattr("requests.sessions.get_environ_proxies", lambda *_, **__: {})
        yield


@contextmanager
def serving(*, wired: bool = False) -> Iterator[Served]:
    """Serve applications until the block ends.

    wired: whether requests of this process to practice servers take a socket, and pauses between
        them their time.
    """
    served = Served(wired)
    try:
        with (
            intercepted(lambda request, _: served.answer(request)),
            pytest.MonkeyPatch.context() as patch,
        ):
            if not wired:
                hurried = RateLimiter(None, HURRIED)
                patch.setattr("foundation.transport.shared_rate_limiter", lambda *_: hurried)
            yield served
    finally:
        served.close()


@contextmanager
def changed(url: str, change: Change) -> Iterator[str]:
    """Yield another address of a server, whose successful answers are changed there."""
    other = f"http://127.0.0.1:{next(_PORTS)}"

    def answer(request: PreparedRequest, send: Send) -> tuple[int, bytes] | None:
        asked = request.copy()
        asked.url = (request.url or "").replace(f"{other}/", f"{url}/", 1)
        if asked.url == request.url:
            return None
        got = send(asked)
        content = got.content
        if got.status_code == 200 and content:
            path = unquote(urlsplit(asked.url).path)
            content = json.dumps(change(asked.method or "", path, json.loads(content))).encode()
        return got.status_code, content

    with intercepted(answer):
        yield other
