"""A venue on loopback whose answers a test makes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from trainingdata.feed.endpoint import ApiKeys, BrokerSettings
from trainingdata.feed.option_data import OptionData

KEYS = ApiKeys("KEYKEYKEY", "SECRETSECRET")
Answering = Callable[[str, dict[str, str]], Any]


class Raw(NamedTuple):
    """An answer as it is sent."""

    status: int
    body: str = ""


@contextmanager
def options_of(answer: Answering) -> Iterator[OptionData]:
    """Options on SPY, at ten times its prices, of such a server."""
    with answered_by(answer) as url:
        settings = BrokerSettings(url_override=url, attempts=1)
        yield OptionData(settings, KEYS, "iex", "SPY", 10.0)


@contextmanager
def answered_by(answer: Answering, key: str = "") -> Iterator[str]:
    """A server whose answer to a path and a query is what `answer` returns; its address.

    key: of the account; whoever has another one is refused.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            said = answer(parts.path, dict(parse_qsl(parts.query)))
            if not isinstance(said, Raw):
                said = Raw(200, json.dumps(said))
            refused = key and self.headers.get("APCA-API-KEY-ID") != key
            self.send_response(401 if refused else said.status)
            body = said.body.encode()
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
