"""Applications on loopback, and practice servers that answer this process without a socket."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from aiohttp import web
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse

from foundation.transport import RateLimiter
from practice.request import Request
from practice.server import PracticeServer
from tests.support.passing import HURRIED

WAIT = 30.0  # seconds for a server to start or to end
_PORTS = itertools.count(1024)  # on which nothing listens
Answer = tuple[int, bytes] | None  # a status and a body; None: to be asked for by HTTP
Heard = Callable[[str, str, str], object]  # told the method, path and body of a request
Change = Callable[[str, str, Any], Any]  # another answer, of a method, a path and an answer's JSON


class Served:
    """Servers in a thread of their own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._runners: list[web.AppRunner] = []
        self._direct: dict[str, Callable[[PreparedRequest], Answer]] = {}
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

        return f"http://127.0.0.1:{self._run(listen())}"

    def serve_venue(self, server: PracticeServer, heard: Heard) -> str:
        """Serve a practice server, each of whose requests is told to `heard`."""
        app = server.build_app()

        async def note(request: web.Request, _: web.StreamResponse) -> None:
            heard(request.method, request.path, await request.text())

        app.on_response_prepare.append(note)
        url = self.serve(app)
        if server.speed is None:
            self._direct[urlsplit(url).netloc] = _Direct(server, heard).answer
        return url

    def answer(self, request: PreparedRequest) -> Answer:
        """Have a practice server answer a request of this process."""
        return self._direct.get(urlsplit(request.url or "").netloc, lambda _: None)(request)

    def close(self) -> None:
        for runner in self._runners:
            self._run(runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT)
        self._loop.close()

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(WAIT)


class _Direct:
    """A practice server's API without HTTP, as long as no fault is planned."""

    def __init__(self, server: PracticeServer, heard: Heard) -> None:
        self._server, self._heard = server, heard
        self._is_faulty = False
        lock, execute = threading.RLock(), server.execute_request

        def execute_alone(*asked: Any) -> tuple[int, Any]:
            with lock:
                return execute(*asked)

        # Requests of other processes are executed in the server's thread.
        server.execute_request = execute_alone  # type: ignore[method-assign]

    def answer(self, request: PreparedRequest) -> Answer:
        method, parts = request.method or "", urlsplit(request.url or "")
        path = unquote(parts.path)
        if path == "/control/faults":
            self._is_faulty = method == "POST"
        if self._is_faulty:
            return None
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        for route in self._server.routes():
            names = _pattern(route.path).fullmatch(path) if route.method == method else None
            if names is None:
                continue
            asked = Request(method, path, query, names.groupdict(), request.headers, body)
            self._heard(method, path, body.decode())
            server, status, content = self._server, 401, None
            why = server.authentication_failure(asked)
            if why is None:
                status, content = server.execute_request(
                    route, asked, server.invalid_request_status
                )
            content = server.error_response(401, None, why) if why else content
            return status, b"" if status == 204 else json.dumps(content).encode()
        return None


@cache
def _pattern(path: str) -> re.Pattern[str]:
    """Return what matches the paths of a route, such as /v2/assets/{symbol:.+}."""
    names = re.sub(r"\{(\w+)\}", r"{\1:[^/]+}", path)
    return re.compile(re.sub(r"\{(\w+):(.+?)\}", r"(?P<\1>\2)", names))


Send = Callable[[PreparedRequest], Response]


@contextmanager
def intercepted(respond: Callable[[PreparedRequest, Send], Answer]) -> Iterator[None]:
    """Have requests of this process answered by a function, and pause briefly between them.

    respond: takes a request, and what sends a request by HTTP.
    """
    send: Callable[..., Response] = HTTPAdapter.send

    def answered(adapter: HTTPAdapter, request: PreparedRequest, *words: Any, **more: Any) -> Any:
        given = respond(request, lambda each: send(adapter, each, *words, **more))
        if given is None:
            return send(adapter, request, *words, **more)
        headers = {"Content-Type": "application/json"}
        body = HTTPResponse(io.BytesIO(given[1]), headers, given[0], preload_content=False)
        return adapter.build_response(request, body)

    limiter = RateLimiter(None, HURRIED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HTTPAdapter, "send", answered)
        patch.setattr("foundation.transport.shared_rate_limiter", lambda *_: limiter)
        # Of each request the library looks through all variables of the environment for a proxy.
        patch.setattr("requests.sessions.get_environ_proxies", lambda *_, **__: {})
        yield


@contextmanager
def serving(*, wired: bool = False) -> Iterator[Served]:
    """Serve applications until the block ends.

    wired: whether requests of this process to practice servers take a socket, and pauses between
        them their time.
    """
    served = Served()
    try:
        with nullcontext() if wired else intercepted(lambda request, _: served.answer(request)):
            yield served
    finally:
        served.close()


@contextmanager
def changed(url: str, change: Change) -> Iterator[str]:
    """Yield another address of a server, whose successful answers are changed there."""
    other = f"http://127.0.0.1:{next(_PORTS)}"

    def respond(request: PreparedRequest, send: Send) -> Answer:
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

    with intercepted(respond):
        yield other
